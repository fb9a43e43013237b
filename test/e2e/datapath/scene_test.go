// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
}

// newScene begins a test. All machines live then, and no Service is left of an earlier one.
func newScene(t *testing.T) *scene {
	s := &scene{T: t, world: shared}
	t.Cleanup(func() {
		ctx, cancel := s.within(limit)
		defer cancel()
		for _, m := range s.machines {
			s.must(m.comeBack(ctx))
			s.must(s.label(ctx, m.name, crowdLabel, ""))
		}
		list, err := s.client.CoreV1().Services("default").List(ctx,
			metav1.ListOptions{LabelSelector: ownLabel})
		s.must(err)
		for _, service := range list.Items {
			s.drop(service.Name)
		}
	})
	return s
}

// newLongScene begins a test that `make e2e-datapath SHORT=1` leaves out.
func newLongScene(t *testing.T) *scene {
	t.Helper()
	if testing.Short() {
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
}

// create makes Services, one for each port from first on, and pods of theirs on all machines, and
// waits until they are served.
func (s *scene) create(
	prefix string, first int32, count int, annotations map[string]string,
) []service {
	s.Helper()
	ctx, cancel := s.within(limit)
	defer cancel()
	all := make([]service, count)
	for i := range all {
		all[i].port = first + int32(i)
		all[i].name = fmt.Sprintf("%s-%d", prefix, all[i].port)
		object := objects.LoadBalancer("default", all[i].name, objects.TCP(all[i].port))
		object.Annotations, object.Labels = annotations, map[string]string{ownLabel: "true"}
		_, err := s.client.CoreV1().Services("default").Create(ctx, object, metav1.CreateOptions{})
		s.must(err)
		_, err = s.client.DiscoveryV1().EndpointSlices("default").Create(ctx,
			s.endpoints(object), metav1.CreateOptions{})
		s.must(err)
	}
	for i := range all {
		s.must(process.Await(ctx, func(ctx context.Context) (bool, error) {
			return s.locate(ctx, &all[i])
		}))
	}
	return all
}

// endpoints are those of the pods on all machines.
func (s *scene) endpoints(service *corev1.Service) *discoveryv1.EndpointSlice {
	port, protocol, ready := int32(podPort), corev1.ProtocolTCP, true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: service.Name, Labels: map[string]string{discoveryv1.LabelServiceName: service.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{
			Name: &service.Spec.Ports[0].Name, Port: &port, Protocol: &protocol,
		}},
	}
	for _, m := range s.machines {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{m.pod}, NodeName: &m.name,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		})
	}
	return slice
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
	if err != nil || len(published) != 2 {
		return false, err
	}
	state, err := s.rack.State(ctx)
	if err != nil {
		return false, err
	}
	address, _ := state.FloatingIP(published[0])
	if address.AttachState != rack.Attached {
		return false, nil
	}
	if of.machine, err = s.machine(address.Instance); err != nil {
		return false, err
	}
	of.address = address.IP
	return of.machine.private == published[1], nil
}

// drop deletes a Service with all that belongs to it.
func (s *scene) drop(name string) {
	s.Helper()
	ctx, cancel := s.within(limit)
	defer cancel()
	services := s.client.CoreV1().Services("default")
	s.must(services.Delete(ctx, name, metav1.DeleteOptions{}))
	s.must(s.client.DiscoveryV1().EndpointSlices("default").Delete(ctx, name, metav1.DeleteOptions{}))
	s.must(process.Await(ctx, func(ctx context.Context) (bool, error) {
		_, err := services.Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
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
	for _, address := range state.FloatingIPs {
		now.Instances[address.IP] = address.Instance + " " + address.AttachState
	}
	for _, each := range of {
		now.Published[each.name], err = s.published(ctx, each.name)
		s.must(err)
	}
	requests, err := s.rack.Requests(ctx)
	s.must(err)
	for _, operation := range []string{"floating_ip_attach", "floating_ip_detach"} {
		now.Requests[operation] = requests[operation]
	}
	return now
}

// stays checks that nothing has moved since before.
func (s *scene) stays(before placement, of ...service) {
	s.Helper()
	if diff := cmp.Diff(before, s.placement(of...)); diff != "" {
		s.Errorf("something was moved (-before +after):\n%s", diff)
	}
}
