// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// limit is how long a test waits for anything that has to happen.
const limit = time.Minute

// scene is the world during one test.
type scene struct {
	*testing.T
	*world

	// faults and moves are those of this try to measure something, and stalled is for how long clients
	// were not run meanwhile.
	faults  []string
	moves   []moved
	stalled time.Duration
}

// newScene begins a test. All machines live then, and all Services of earlier ones are being deleted.
func newScene(t *testing.T) *scene {
	s := &scene{T: t, world: shared}
	t.Cleanup(func() {
		ctx, cancel := s.within(limit)
		defer cancel()
		for _, m := range s.machines {
			s.must(m.comeBack(ctx))
			s.must(s.label(ctx, m.name, crowdLabel, ""))
			s.must(s.cordon(ctx, m, false))
		}
		list, err := s.client.CoreV1().Services("default").List(ctx,
			metav1.ListOptions{LabelSelector: ownLabel})
		s.must(err)
		var names []string
		for _, service := range list.Items {
			names = append(names, service.Name)
		}
		s.remove(names...)
	})
	return s
}

// newOnceScene begins a long test of what does not depend on the mode of kube-proxy.
func newOnceScene(t *testing.T) *scene {
	t.Helper()
	if !shared.prepared.First {
		t.Skip("was run in another mode of kube-proxy")
	}
	s := newLongScene(t)
	s.awaitNone()
	return s
}

// newLongScene begins a test that `make e2e-datapath SHORT=1` leaves out.
func newLongScene(t *testing.T) *scene {
	t.Helper()
	return newSceneIf(t, false)
}

// newFirstScene begins one that it leaves out but for the first mode of kube-proxy.
func newFirstScene(t *testing.T) *scene {
	t.Helper()
	return newSceneIf(t, shared.prepared.First)
}

// newSceneIf begins a test that it leaves out unless short is true.
func newSceneIf(t *testing.T, short bool) *scene {
	t.Helper()
	if testing.Short() && !short {
		t.Skip("left out by -test.short")
	}
	return newScene(t)
}

// must fails the test at an error.
func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// within returns a context for something that has to happen.
func (s *scene) within(limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.Background(), limit,
		fmt.Errorf("waited %s in vain", limit))
}

// ownLabel is on all Services of the tests.
const ownLabel = "datapath"

// service is a Service whose address is served.
type service struct {
	name, address string
	port          int32
	// machine is the one that carries the address.
	machine *machine
	made    wanted
}

// wanted is what Services are like.
type wanted struct {
	prefix string
	// first is the port of the first one, of count; each of the others has the next one.
	first       int32
	count       int
	annotations map[string]string
	// family is IPv4 if it is empty.
	family corev1.IPFamily
	// udp: they serve UDP as well, at the same port.
	udp bool
	// on are the machines with pods; nil: all.
	on []*machine
	// podPort is where the pods serve them; 0: at podPort.
	podPort int32
	// change changes them before they are created.
	change func(*corev1.Service)
}

// create makes Services, one for each port from first on, and pods of theirs on all machines, and
// waits until they are served.
func (s *scene) create(
	prefix string, first int32, count int, annotations map[string]string,
) []service {
	s.Helper()
	return s.make(wanted{prefix: prefix, first: first, count: count, annotations: annotations})
}

// make makes Services and waits until they are served.
func (s *scene) make(w wanted) []service {
	s.Helper()
	ctx, cancel := s.within(limit)
	defer cancel()
	if w.on == nil {
		w.on = s.machines
	}
	w.family, w.podPort = cmp.Or(w.family, corev1.IPv4Protocol), cmp.Or(w.podPort, podPort)
	all := make([]service, max(w.count, 1))
	for i := range all {
		all[i].port, all[i].made = w.first+int32(i), w
		all[i].name = fmt.Sprintf("%s-%d", w.prefix, all[i].port)
		_, err := s.client.CoreV1().Services("default").Create(ctx, all[i].object(), metav1.CreateOptions{})
		s.must(err)
		_, err = s.client.DiscoveryV1().EndpointSlices("default").Create(ctx,
			all[i].endpoints(nil), metav1.CreateOptions{})
		s.must(err)
	}
	for i := range all {
		s.must(process.Await(ctx, func(ctx context.Context) (bool, error) {
			return s.locate(ctx, &all[i])
		}))
	}
	return all
}

// object is the Service as it is created.
func (of service) object() *corev1.Service {
	tcp, udp := objects.TCP(of.port), objects.UDP(of.port)
	tcp.Name, udp.Name = "tcp", "udp"
	ports := []corev1.ServicePort{tcp}
	if of.made.udp {
		ports = append(ports, udp)
	}
	object := objects.LoadBalancer("default", of.name, ports...)
	object.Annotations, object.Labels = of.made.annotations, map[string]string{ownLabel: "true"}
	object.Spec.IPFamilies = []corev1.IPFamily{of.made.family}
	if of.made.change != nil {
		of.made.change(object)
	}
	return object
}

// endpointState is what an endpoint is said to be: the zero value, that it serves.
type endpointState string

const (
	// ending: it is to end and still serves, as when its pod is evicted. notReady: it is one of a node
	// that is not ready.
	ending, notReady endpointState = "ending", "not ready"
)

// endpoints are those of the pods, in the states that they have by machine.
func (of service) endpoints(states map[*machine]endpointState) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: of.name, Labels: map[string]string{discoveryv1.LabelServiceName: of.name},
		},
		AddressType: discoveryv1.AddressType(of.made.family),
	}
	for _, port := range of.object().Spec.Ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{
			Name: &port.Name, Port: &of.made.podPort, Protocol: &port.Protocol,
		})
	}
	for _, m := range of.made.on {
		state := states[m]
		address := m.pod
		if of.made.family == corev1.IPv6Protocol {
			address = m.pod6
		}
		ready, serving, terminating := state == "", state != notReady, state == ending
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{address}, NodeName: &m.name,
			Conditions: discoveryv1.EndpointConditions{
				Ready: &ready, Serving: &serving, Terminating: &terminating,
			},
		})
	}
	return slice
}

// setEndpoints changes the states of a Service's endpoints.
func (s *scene) setEndpoints(ctx context.Context, of service, states map[*machine]endpointState) {
	s.Helper()
	slices := s.client.DiscoveryV1().EndpointSlices("default")
	s.must(objects.Change(ctx, of.name, slices.Get, slices.Update,
		func(slice *discoveryv1.EndpointSlice) { slice.Endpoints = of.endpoints(states).Endpoints }))
}

// published returns the addresses in the status of a Service.
func (s *scene) published(ctx context.Context, name string) ([]string, error) {
	object, err := s.client.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return ingress(object), nil
}

func ingress(object *corev1.Service) []string {
	var all []string
	for _, each := range object.Status.LoadBalancer.Ingress {
		all = append(all, each.IP)
	}
	return all
}

// locate finds out where a Service is served: false if its address is not attached, or its status
// not final.
func (s *scene) locate(ctx context.Context, of *service) (bool, error) {
	published, err := s.published(ctx, of.name)
	if err != nil || len(published) == 0 {
		return false, err
	}
	state, err := s.rack.State(ctx)
	if err != nil {
		return false, err
	}
	address, _ := state.At(published[0])
	if address.AttachState != rack.Attached || !s.crossing.sends(address.Addr, address.Instance) {
		return false, nil
	}
	if of.machine, err = s.machine(address.Instance); err != nil {
		return false, err
	}
	of.address = address.Addr
	if address.Subnet {
		return len(published) == 1, nil
	}
	private := map[string]string{"v4": of.machine.private, "v6": of.machine.private6}[address.Version()]
	return len(published) == 2 && published[1] == private, nil
}

// remove deletes Services, and does not wait until they are gone.
func (s *scene) remove(names ...string) {
	s.Helper()
	ctx, cancel := s.within(limit)
	defer cancel()
	services := s.client.CoreV1().Services("default")
	for _, name := range names {
		for _, err := range []error{
			services.Delete(ctx, name, metav1.DeleteOptions{}),
			s.client.DiscoveryV1().EndpointSlices("default").Delete(ctx, name, metav1.DeleteOptions{}),
		} {
			if !apierrors.IsNotFound(err) {
				s.must(err)
			}
		}
	}
}

// awaitNone waits until no Service is left, of this test or of an earlier one.
func (s *scene) awaitNone() {
	s.Helper()
	ctx, cancel := s.within(limit)
	defer cancel()
	s.must(process.Await(ctx, func(ctx context.Context) (bool, error) {
		list, err := s.client.CoreV1().Services("default").List(ctx,
			metav1.ListOptions{LabelSelector: ownLabel})
		return err == nil && len(list.Items) == 0, err
	}))
}

// change is the first change of what a Service publishes: a failover begins with it.
type change struct {
	at  time.Time
	err error
}

// awaitChange begins to watch a Service, and delivers the time of the first change.
func (s *scene) awaitChange(ctx context.Context, of service) <-chan change {
	s.Helper()
	result := make(chan change, 1)
	before, err := s.published(ctx, of.name)
	s.must(err)
	watcher, err := s.client.CoreV1().Services("default").Watch(ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=" + of.name,
	})
	s.must(err)
	go func() {
		defer watcher.Stop()
		for event := range watcher.ResultChan() {
			object, ok := event.Object.(*corev1.Service)
			if ok && !slices.Equal(ingress(object), before) {
				result <- change{at: time.Now()}
				return
			}
		}
		result <- change{err: errors.New("what " + of.name + " publishes does not change")}
	}()
	return result
}

// placement is where all addresses are, and how often any was attached or detached.
type placement struct {
	Instances map[string]string
	Published map[string][]string
	Requests  map[string]int
}

func (s *scene) placement(of ...service) placement {
	s.Helper()
	ctx, cancel := s.within(limit)
	defer cancel()
	now := placement{
		Instances: map[string]string{}, Published: map[string][]string{}, Requests: map[string]int{},
	}
	state, err := s.rack.State(ctx)
	s.must(err)
	for _, address := range state.Carried() {
		now.Instances[address.Addr] = address.Instance + " " + address.AttachState
	}
	for _, each := range of {
		now.Published[each.name], err = s.published(ctx, each.name)
		s.must(err)
	}
	requests, err := s.rack.Requests(ctx)
	s.must(err)
	for _, operation := range []string{
		"floating_ip_attach", "floating_ip_detach", "external_subnet_attach", "external_subnet_detach",
	} {
		now.Requests[operation] = requests[operation]
	}
	return now
}

// stays checks that nothing has moved since before.
func (s *scene) stays(before placement, of ...service) {
	s.Helper()
	if diff := gocmp.Diff(before, s.placement(of...)); diff != "" {
		s.Errorf("something was moved (-before +after):\n%s", diff)
	}
}
