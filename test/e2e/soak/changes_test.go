// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package soak

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

const (
	// changePause is the time between two changes that people make.
	changePause = 150 * time.Millisecond
	// publicPrefix is what floating IPs begin with on a simulated rack, and private addresses do not.
	publicPrefix = "198.51.100."
	// fewest and most are how many Services there are meanwhile.
	fewest, most = 4, 12
)

// people change Services and Nodes. They know nothing of the programs.
type people struct {
	*world
	random *rand.Rand
	// wanted are the UIDs of the Services that there have to be, by their names.
	wanted map[string]string
	// silent is the Node whose kubelet is silent; empty: none.
	silent string
	// shown are the floating IPs that Services have published, by UID, and replaced counts those that
	// became others.
	shown    map[types.UID]string
	replaced int
	// made counts what was done.
	made map[string]int
	next int32
}

func newPeople(w *world) *people {
	return &people{
		world: w, random: rand.New(rand.NewPCG(18, 6)), wanted: make(map[string]string),
		shown: make(map[types.UID]string), made: make(map[string]int), next: 8000,
	}
}

// run makes changes until the context ends.
func (p *people) run(ctx context.Context) error {
	ticker := time.NewTicker(changePause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := p.change(); err != nil {
			return err
		}
	}
}

// change makes one change.
func (p *people) change() error {
	what := p.random.IntN(8)
	switch {
	case len(p.wanted) < fewest, what < 3 && len(p.wanted) < most:
		p.next++
		name := fmt.Sprintf("s%d", p.next)
		uid, err := p.create(name, p.next)
		p.wanted[name] = uid
		p.made["created"]++
		return err
	case what < 5:
		name := p.any()
		delete(p.wanted, name)
		p.made["deleted"]++
		return p.remove(name)
	case what < 7:
		p.made["moved"]++
		return p.move(steadyNodes[p.random.IntN(len(steadyNodes))])
	}
	p.next++
	p.made["changed"]++
	_, err := p.services().Patch(p.Context(), p.any(), types.MergePatchType,
		fmt.Appendf(nil, `{"spec":{"ports":[{"name":"port-%d","port":%[1]d,"protocol":"TCP"}]}}`, p.next),
		metav1.PatchOptions{})
	return err
}

// any returns the name of any Service.
func (p *people) any() string {
	names := slices.Sorted(maps.Keys(p.wanted))
	return names[p.random.IntN(len(names))]
}

// move has another kubelet become silent, so that what its node carries has to move; empty: none.
func (p *people) move(to string) error {
	if p.silent != "" {
		err := objects.SetReady(p.Context(), p.cluster.Client, p.silent, corev1.ConditionTrue)
		if err != nil {
			return err
		}
	}
	if p.silent = to; to == "" {
		return nil
	}
	return objects.SetReady(p.Context(), p.cluster.Client, to, corev1.ConditionUnknown)
}

// missing returns what is not yet as it has to be, or is and must not be.
func (p *people) missing(ctx context.Context) (string, error) {
	state, err := p.rack.State(ctx)
	if err != nil {
		return "", err
	}
	list, err := p.services().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	found := 0
	for i := range list.Items {
		service := &list.Items[i]
		if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		if found++; p.wanted[service.Name] != string(service.UID) {
			return "the end of the Service " + service.Name, nil
		}
		if text := p.missingOf(service, state); text != "" {
			return text, nil
		}
	}
	switch {
	case found != len(p.wanted):
		return fmt.Sprintf("%d Services, of which there are %d", len(p.wanted), found), nil
	case len(state.FloatingIPs) != found:
		return fmt.Sprintf("that nothing is leaked: %d addresses of %d Services", len(state.FloatingIPs),
			found), nil
	}
	return "", nil
}

// missingOf returns what is missing of a Service: one address, attached where it can serve, and a
// status that says so.
func (p *people) missingOf(service *corev1.Service, state rack.State) string {
	var own []rack.FloatingIP
	for _, ip := range state.FloatingIPs {
		if strings.Contains(ip.Description, " uid="+string(service.UID)+" ") {
			own = append(own, ip)
		}
	}
	if len(own) != 1 {
		return fmt.Sprintf("one address of %s, which has %+v", service.Name, own)
	}
	ip := own[0]
	if ip.AttachState != rack.Attached || ip.Instance == p.silent ||
		!slices.Contains(steadyNodes, ip.Instance) {
		return fmt.Sprintf("the attachment of %+v where it can serve", ip)
	}
	carrier, _ := state.Instance(ip.Instance)
	var got []string
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		got = append(got, ingress.IP)
	}
	want := []string{ip.IP, carrier.PrivateIPs["v4"]}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		return fmt.Sprintf("that the status of %s is %v: it is %v", service.Name, want, got)
	}
	return ""
}

// look compares which addresses Services have published with those that they had before: clients
// use them.
func (p *people) look() {
	p.Helper()
	list, err := p.services().List(p.Context(), metav1.ListOptions{})
	p.must(err)
	for i := range list.Items {
		service := &list.Items[i]
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			if !strings.HasPrefix(ingress.IP, publicPrefix) {
				continue
			}
			if was := p.shown[service.UID]; was != "" && was != ingress.IP {
				p.Logf("%s became %s at %s", was, ingress.IP, service.Name)
				p.replaced++
			}
			p.shown[service.UID] = ingress.IP
		}
	}
}

// settleForGood waits until everything is as it has to be, and holds that it stays so when the
// programs look again.
func (p *people) settleForGood() {
	p.Helper()
	p.await(settleLimit, p.missing)
	before, err := p.addresses(p.Context())
	p.must(err)
	looked := p.requests("floating_ip_list")
	p.await(settleLimit, func(context.Context) (string, error) {
		// The first list may have begun before.
		if p.requests("floating_ip_list") < looked+2 {
			return "that the programs look again", nil
		}
		return "", nil
	})
	after, err := p.addresses(p.Context())
	p.must(err)
	if !maps.Equal(before, after) {
		p.Fatalf("it did not stay as it was: %v, now %v", before, after)
	}
	missing, err := p.missing(p.Context())
	p.must(err)
	if missing != "" {
		p.Fatalf("once more missing: %s", missing)
	}
}

// requests returns how often these operations were asked of the rack.
func (w *world) requests(operations ...string) (n int) {
	w.Helper()
	all, err := w.rack.Requests(w.Context())
	w.must(err)
	for _, operation := range operations {
		n += all[operation]
	}
	return n
}
