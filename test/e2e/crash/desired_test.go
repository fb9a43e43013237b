// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package crash

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

type nodeClient = typedv1.NodeInterface

// kind is what sort of address it is.
type kind struct {
	version string
	subnet  bool
}

var floating4, floating6, subnet4 = kind{"v4", false}, kind{"v6", false}, kind{"v4", true}

func kindOf(ip rack.Carried) kind { return kind{ip.Version(), ip.Subnet} }

// desired is how a Service has to become.
type desired struct {
	name, uid, role string
	kinds           []kind
	ports           []int32
	annotations     map[string]string
	finalizers      []string
	// closed are ports that it had before.
	closed []int32
	// pinned are addresses, by kind, that it has to keep, with the names that they have to keep.
	pinned map[kind]rack.Carried
	// text is what somebody else has written into the description, and stays.
	text string
}

// state is what has to be.
type state struct {
	services map[string]*desired
	// gone are Services that have to be gone.
	gone map[string]bool
	// kept are the ids of addresses that are to be retained.
	kept map[string]bool
	// others and otherRules are not the cluster's.
	others     []rack.Carried
	otherRules []string
	// unfit are the Nodes that nothing may be on.
	unfit map[string]bool
	// mayStay: what is on them may stay there all the same.
	mayStay bool
}

func newState() *state {
	return &state{
		services: make(map[string]*desired), gone: make(map[string]bool), kept: make(map[string]bool),
		unfit: make(map[string]bool),
	}
}

// add adds a Service to what has to be.
func (s *state) add(name, role string, kinds []kind, ports ...int32) *desired {
	d := &desired{name: name, role: role, kinds: kinds, ports: ports}
	s.services[name] = d
	delete(s.gone, name)
	return d
}

// outside are clients, by the version of their address.
var outside = map[string]string{"v4": "203.0.113.9", "v6": "2001:db8:113::9"}

func (w *world) serviceClient() typedv1.ServiceInterface {
	return w.cluster.Client.CoreV1().Services(namespace)
}

// isOf reports whether an address is marked as a Service's.
func (d *desired) isOf(ip rack.Carried) bool {
	return strings.Contains(ip.Description, " name="+namespace+"/"+d.name+" uid="+d.uid+" ") &&
		!strings.HasSuffix(ip.Description, " retained")
}

// missing returns what is not yet as it has to be, or is and must not be.
func (w *world) missing(ctx context.Context) (string, error) {
	now, err := w.rack.State(ctx)
	if err != nil {
		return "", err
	}
	firewall, err := w.rack.Firewall(ctx)
	if err != nil {
		return "", err
	}
	accounted := make(map[string]bool)
	for _, other := range w.others {
		accounted[other.ID] = true
		if !slices.Contains(now.Carried(), other) {
			return fmt.Sprintf("%s, which is not the cluster's, as it was: %+v", other.Name, other), nil
		}
	}
	for _, d := range w.services {
		text, err := w.missingOf(ctx, d, now, firewall, accounted)
		if err != nil || text != "" {
			return text, err
		}
	}
	for name := range w.gone {
		_, err := w.serviceClient().Get(ctx, name, metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return "the end of the Service " + name, err
		}
	}
	for _, ip := range now.Carried() {
		isKept := w.kept[ip.ID] && strings.HasSuffix(ip.Description, " retained") &&
			ip.AttachState == rack.Detached
		if !accounted[ip.ID] && !isKept {
			return fmt.Sprintf("that nothing is leaked: %+v", ip), nil
		}
		delete(accounted, ip.ID)
	}
	for id := range w.kept {
		if !slices.ContainsFunc(now.Carried(), func(ip rack.Carried) bool { return ip.ID == id }) {
			return "the retained address " + id, nil
		}
	}
	return w.missingRules(firewall), nil
}

// missingOf returns what is missing of a Service, and accounts for its addresses.
func (w *world) missingOf(
	ctx context.Context, d *desired, now rack.State, firewall rack.Firewall, accounted map[string]bool,
) (string, error) {
	object, err := w.serviceClient().Get(ctx, d.name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	var addresses, places []string
	for _, kind := range d.kinds {
		own := slices.DeleteFunc(now.Carried(), func(ip rack.Carried) bool {
			return kindOf(ip) != kind || !d.isOf(ip)
		})
		if len(own) != 1 {
			return fmt.Sprintf("one address %v of %s, which has %+v", kind, d.name, own), nil
		}
		ip := own[0]
		accounted[ip.ID] = true
		if pinned, is := d.pinned[kind]; is && (pinned.ID != ip.ID || pinned.Name != ip.Name) {
			return fmt.Sprintf("that %s keeps %+v: it has %+v", d.name, pinned, ip), nil
		}
		if !strings.HasPrefix(ip.Description, d.text) {
			return fmt.Sprintf("the text %q in %+v", d.text, ip), nil
		}
		if ip.AttachState != rack.Attached || nodes[ip.Instance] != d.role ||
			w.unfit[ip.Instance] && !w.mayStay {
			return fmt.Sprintf("the attachment of %+v where it can serve", ip), nil
		}
		instance, _ := now.Instance(ip.Instance)
		addresses = append(addresses, ip.Addr)
		if place := instance.PrivateIPs[kind.version]; !kind.subnet && !slices.Contains(places, place) {
			places = append(places, place)
		}
		for _, port := range d.ports {
			if !firewall.LetsIn(outside[kind.version], instance, "tcp", int(port)) {
				return fmt.Sprintf("that port %d of %s is open on %s", port, d.name, instance.Name), nil
			}
		}
		for _, port := range d.closed {
			if firewall.LetsIn(outside[kind.version], instance, "tcp", int(port)) {
				return fmt.Sprintf("that port %d of %s is closed on %s", port, d.name, instance.Name), nil
			}
		}
	}
	return d.missingOfObject(object, append(addresses, places...)), nil
}

// missingOfObject returns what is missing of a Service's object, whose status has to be these addresses.
func (d *desired) missingOfObject(object *corev1.Service, want []string) string {
	var got []string
	for _, ingress := range object.Status.LoadBalancer.Ingress {
		if ingress.IPMode == nil || *ingress.IPMode != corev1.LoadBalancerIPModeVIP {
			return fmt.Sprintf("the mode VIP of %s in the status of %s", ingress.IP, d.name)
		}
		got = append(got, ingress.IP)
	}
	ready := meta.FindStatusCondition(object.Status.Conditions, objects.ReadyCondition)
	switch {
	case !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))):
		return fmt.Sprintf("that the status of %s is %v: it is %v", d.name, want, got)
	case !slices.Equal(object.Finalizers, []string{finalizer}):
		return fmt.Sprintf("the one finalizer of %s: it has %v", d.name, object.Finalizers)
	case ready == nil || ready.Status != metav1.ConditionTrue:
		return fmt.Sprintf("that %s is ready: %+v", d.name, ready)
	}
	return ""
}

// missingRules returns what is wrong with the rules of the firewall as a whole.
func (w *world) missingRules(firewall rack.Firewall) string {
	if !slices.Equal(firewall.Foreign(), w.otherRules) {
		return fmt.Sprintf("other people's rules %v: they are %v", w.otherRules, firewall.Foreign())
	}
	of := 0
	for name := range w.services {
		of += len(firewall.Of(namespace + "/" + name))
	}
	if marked := firewall.Marked(); of != len(marked) {
		return fmt.Sprintf("that there are rules of %d Services alone: there are %+v", len(w.services), marked)
	}
	return ""
}

// settle waits until everything is as it has to be.
func (w *world) settle() {
	w.Helper()
	w.await(settleLimit, w.missing)
}

// settleForGood waits until everything is as it has to be, and stays so when the programs look again.
func (w *world) settleForGood() {
	w.Helper()
	w.settle()
	before, err := w.rack.State(w.Context())
	w.must(err)
	looked := w.pair.proxy.listed()
	w.await(settleLimit, func(context.Context) (string, error) {
		// The first list may have begun before.
		if w.pair.proxy.listed() < looked+2 {
			return "that the programs look again", nil
		}
		return "", nil
	})
	now, err := w.rack.State(w.Context())
	w.must(err)
	if !slices.Equal(before.Carried(), now.Carried()) {
		w.Fatalf("it did not stay as it was: %+v, now %+v", before.Carried(), now.Carried())
	}
	missing, err := w.missing(w.Context())
	w.must(err)
	if missing != "" {
		w.Fatalf("once more missing: %s\n%s", missing, w.describe())
	}
}

// pin has a Service keep the addresses that it has now.
func (w *world) pin(name string) {
	w.Helper()
	now, err := w.rack.State(w.Context())
	w.must(err)
	d := w.services[name]
	d.pinned = make(map[kind]rack.Carried)
	for _, ip := range now.Carried() {
		if d.isOf(ip) {
			d.pinned[kindOf(ip)] = ip
		}
	}
}

// carrier returns the instance that carries the first address of a Service.
func (w *world) carrier(name string) string {
	w.Helper()
	now, err := w.rack.State(w.Context())
	w.must(err)
	for _, ip := range now.Carried() {
		if w.services[name].isOf(ip) {
			return ip.Instance
		}
	}
	w.Fatalf("%s has no address", name)
	return ""
}

// describe says what there is.
func (w *world) describe() string {
	var b strings.Builder
	ctx := context.WithoutCancel(w.Context())
	now, err := w.rack.State(ctx)
	fmt.Fprintln(&b, "on the rack:", err)
	for _, ip := range now.Carried() {
		fmt.Fprintf(&b, "  %s %s %s %s %q %q\n", ip.ID, ip.Name, ip.Addr, ip.AttachState, ip.Instance,
			ip.Description)
	}
	firewall, err := w.rack.Firewall(ctx)
	fmt.Fprintln(&b, "the firewall:", err)
	for _, rule := range firewall {
		fmt.Fprintf(&b, "  %s\n", rule.Text)
	}
	services, err := w.serviceClient().List(ctx, metav1.ListOptions{})
	fmt.Fprintln(&b, "Services:", err)
	if err == nil {
		for _, each := range services.Items {
			fmt.Fprintf(&b, "  %s %v %v %+v\n", each.Name, each.DeletionTimestamp, each.Finalizers, each.Status)
		}
	}
	return b.String()
}
