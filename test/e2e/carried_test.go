// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// What Services have whose addresses are several, of both IP families, or external subnets.

// Kinds of addresses, for each that a Service is to have.
const (
	floating4 = "floating IP v4"
	floating6 = "floating IP v6"
	subnet4   = "external subnet v4"
	subnet6   = "external subnet v6"
)

func kindOf(c rack.Carried) string {
	if c.Subnet {
		return "external subnet " + c.Version()
	}
	return "floating IP " + c.Version()
}

// ownedBy returns what is marked on the rack as a Service's, retained or not.
func ownedBy(state rack.State, key string) []rack.Carried {
	namespace, name := splitKey(key)
	return slices.DeleteFunc(state.Carried(), func(c rack.Carried) bool {
		return !strings.Contains(c.Description, " name="+namespace+"/"+name+" ")
	})
}

// carried waits until a Service has exactly these kinds of addresses, in the order of its status: each
// is attached, those of one family to different instances, and the status is the addresses, and after them
// the private addresses of the instances that carry floating IPs, all with ipMode VIP. Nothing else is
// marked as its own.
func (e *environment) carried(key string, kinds ...string) (all []rack.Carried) {
	e.Helper()
	e.eventually(func(ctx context.Context) (missing string, err error) {
		services, name := e.services(key)
		service, err := services.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		state, err := e.rack.State(ctx)
		if err != nil {
			return "", err
		}
		all, missing = wrongAddresses(service, state, kinds)
		return missing, nil
	})
	return all
}

// wrongAddresses returns the addresses of a Service, and what is missing for it to have these kinds.
func wrongAddresses(
	service *corev1.Service, state rack.State, kinds []string,
) (all []rack.Carried, missing string) {
	var published, places []string
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if ingress.IPMode == nil || *ingress.IPMode != corev1.LoadBalancerIPModeVIP {
			return nil, "the mode VIP of " + ingress.IP
		}
		published = append(published, ingress.IP)
	}
	if len(published) < len(kinds) {
		return nil, fmt.Sprintf("%q of %s, got %q", kinds, service.Name, published)
	}
	var has []string
	used := map[string]bool{}
	for _, addr := range published[:len(kinds)] {
		c, found := state.At(addr)
		if !found || c.AttachState != rack.Attached {
			return nil, fmt.Sprintf("the attachment of %s, got %+v", addr, c)
		}
		on := c.Version() + c.Instance
		if used[on] {
			return nil, fmt.Sprintf("an instance of its own for %s, got %s", addr, c.Instance)
		}
		used[on] = true
		instance, _ := state.Instance(c.Instance)
		if place := instance.PrivateIPs[c.Version()]; !c.Subnet && !slices.Contains(places, place) {
			places = append(places, place)
		}
		all, has = append(all, c), append(has, kindOf(c))
	}
	if diff := cmp.Diff(kinds, has); diff != "" {
		return nil, "other kinds of addresses of " + service.Name + " (-want +got): " + diff
	}
	got := slices.Clone(published[len(kinds):])
	slices.Sort(got)
	slices.Sort(places)
	if !slices.Equal(got, places) {
		return nil, fmt.Sprintf("the private addresses %q in the status of %s, got %q", places,
			service.Name, got)
	}
	for _, c := range ownedBy(state, service.Namespace+"/"+service.Name) {
		if !slices.Contains(published, c.Addr) {
			return nil, fmt.Sprintf("the end of %+v", c)
		}
	}
	return all, ""
}

// carriedAgain waits until a Service has these addresses still, wherever.
func (e *environment) carriedAgain(key string, before []rack.Carried) []rack.Carried {
	e.Helper()
	var kinds []string
	for _, c := range before {
		kinds = append(kinds, kindOf(c))
	}
	now := e.carried(key, kinds...)
	for i := range now {
		if now[i].Addr != before[i].Addr {
			e.Errorf("%s has %s, and had %s", key, now[i].Addr, before[i].Addr)
		}
	}
	return now
}

// leaves waits until an address is attached to another instance, and returns where it is.
func (e *environment) leaves(address, instance string) string {
	e.Helper()
	now := ""
	e.eventually(func(ctx context.Context) (string, error) {
		state, err := e.rack.State(ctx)
		c, _ := state.At(address)
		now = c.Instance
		if err == nil && (c.AttachState != rack.Attached || c.Instance == instance) {
			return fmt.Sprintf("another instance than %s, got %+v", instance, c), nil
		}
		return "", err
	})
	return now
}

// vanishes waits until nothing is left on the rack of a Service.
func (e *environment) vanishes(key string) {
	e.Helper()
	e.eventually(func(ctx context.Context) (string, error) {
		state, err := e.rack.State(ctx)
		if left := ownedBy(state, key); err == nil && len(left) > 0 {
			return fmt.Sprintf("the end of %+v", left), nil
		}
		return "", err
	})
}

// annotated makes the edit of a Service that gives it our annotations: names and values in turn.
func annotated(pairs ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		for i := 0; i < len(pairs); i += 2 {
			s.Annotations[prefix+pairs[i]] = pairs[i+1]
		}
	}
}

// inFamilies makes the edit of a Service that gives it IP families.
func inFamilies(policy corev1.IPFamilyPolicy, all ...corev1.IPFamily) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = &policy, all }
}

// edits makes one edit of several.
func edits(all ...func(*corev1.Service)) func(*corev1.Service) {
	return func(s *corev1.Service) {
		for _, edit := range all {
			edit(s)
		}
	}
}

// different returns what the Service has published since, without repetitions.
func (j *journal) different() [][]string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all [][]string
	for _, n := range j.notes {
		if len(all) == 0 || !slices.Equal(all[len(all)-1], n.published) {
			all = append(all, n.published)
		}
	}
	return all
}

// carriedBeside waits until a Service has an address of a kind, while one that it does not use is left
// on the rack as it was.
func (e *environment) carriedBeside(key, kind string, left rack.Carried) {
	e.Helper()
	e.eventually(func(ctx context.Context) (string, error) {
		state, err := e.rack.State(ctx)
		if err != nil {
			return "", err
		}
		now, found := state.At(left.Addr)
		if !found || now.ID != left.ID {
			e.Fatalf("%+v became %+v", left, now)
		}
		state.ExternalSubnets = slices.DeleteFunc(state.ExternalSubnets, func(s rack.ExternalSubnet) bool {
			return strings.HasPrefix(s.Subnet, left.Addr+"/")
		})
		_, missing := wrongAddresses(e.service(key), state, []string{kind})
		return missing, nil
	})
}

// neverWithoutAny checks, again and again while something is done, that an address of a Service is
// attached.
func (e *environment) neverWithoutAny(key string, do func()) {
	e.Helper()
	e.whileLooking(do, func(state rack.State) string {
		all := ownedBy(state, key)
		if !slices.ContainsFunc(all, func(c rack.Carried) bool { return c.AttachState == rack.Attached }) {
			return fmt.Sprintf("for a moment none is attached: %+v", all)
		}
		return ""
	})
}

// whileLooking does something, and looks at the rack again and again meanwhile: what is wrong there is
// said once.
func (e *environment) whileLooking(do func(), wrong func(rack.State) string) {
	e.Helper()
	ctx, cancel := context.WithCancel(e.Context())
	looked := make(chan int)
	go func() {
		n := 0
		defer func() { looked <- n }()
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for ; ctx.Err() == nil; n++ {
			<-pace.C
			state, err := e.rack.State(ctx)
			if err != nil {
				continue
			}
			if what := wrong(state); what != "" {
				e.Error(what)
				return
			}
		}
	}()
	do()
	cancel()
	if n := <-looked; n < 10 {
		e.Errorf("looked only %d times", n)
	}
}
