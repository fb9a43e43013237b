// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// addPools adds two pools: edge, which is no default one, and that of IPv6 addresses.
func (e *environment) addPools() {
	e.Helper()
	e.must(e.rack.AddPool(e.Context(), rack.Pool{
		Name: "edge", Version: "v4", First: "203.0.113.10", Last: "203.0.113.19",
	}))
	e.must(e.rack.AddPool(e.Context(), rack.Pool{
		Name: "default-v6", Version: "v6", First: "2001:db8:51::10", Last: "2001:db8:51::ffff",
		Default: true,
	}))
}

// Invariant 2: a new address is secured before an old one is let go.
func TestAnotherAddressIsThereBeforeTheOldOneGoes(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.addPools()
	e.join("node-a", "node-b")
	e.createWith("web", "floating-ip", "198.51.100.77", objects.TCP(80))
	e.servedBy("web", "198.51.100.77")
	e.neverWithout("198.51.100.77", "198.51.100.78", func() {
		e.annotate("web", "floating-ip", "198.51.100.78")
		e.servedBy("web", "198.51.100.78")
		e.gone("198.51.100.77")
	})
	e.neverWithout("198.51.100.78", "203.0.113.10", func() {
		e.annotate("web", "floating-ip", "203.0.113.10")
		e.servedBy("web", "203.0.113.10")
		e.gone("198.51.100.78")
	})
	// Withdrawn, a wish changes nothing.
	before := e.mutationCount()
	ensured := e.said("Ensured load balancer")
	e.annotate("web", "floating-ip", "")
	e.ensuredAgain(ensured + 1)
	e.servedBy("web", "203.0.113.10")
	if n := e.mutationCount() - before; n != 0 {
		t.Errorf("the end of a wish changed the rack %d times", n)
	}
}

// neverWithout checks, again and again while something is done, that one of two addresses is
// attached.
func (e *environment) neverWithout(one, other string, do func()) {
	e.Helper()
	ctx, cancel := context.WithCancel(e.Context())
	looked := make(chan int)
	go func() {
		n := 0
		defer func() { looked <- n }()
		// The rack has other things to do, too.
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for ; ctx.Err() == nil; n++ {
			<-pace.C
			state, err := e.rack.State(ctx)
			if err != nil {
				continue
			}
			first, _ := state.FloatingIP(one)
			second, _ := state.FloatingIP(other)
			if first.AttachState != rack.Attached && second.AttachState != rack.Attached {
				e.Errorf("for a moment none is attached: %+v, %+v", first, second)
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

// gone waits until an address was given back.
func (e *environment) gone(address string) {
	e.Helper()
	e.eventually(func(ctx context.Context) (string, error) {
		state, err := e.rack.State(ctx)
		if _, found := state.FloatingIP(address); found {
			return "the end of " + address, err
		}
		return "", err
	})
}

func TestAnnotationsChooseTheAddress(t *testing.T) {
	e := newEnvironment(t, settings{machines: dualStack})
	e.addPools()
	e.join("node-a", "node-b")
	for name, tc := range map[string]struct {
		annotation, value string
		change            func(*corev1.Service)
		// want begins the address.
		want string
	}{
		"field": {
			want: "198.51.100.99", change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "198.51.100.99" },
		},
		"address": {annotation: "floating-ip", value: "203.0.113.15", want: "203.0.113.15"},
		"pool":    {annotation: "floating-ip-pool", value: "edge", want: "203.0.113."},
		"version": {annotation: "floating-ip-version", value: "v6", change: both, want: "2001:db8:51:"},
		"families": {
			annotation: "floating-ip-version", value: "v4", change: both, want: "198.51.100.",
		},
		"spelling": {
			annotation: "floating-ip", value: "2001:DB8:51:0:0::0020", change: onlyIPv6,
			want: "2001:db8:51::20",
		},
		"nodes": {
			annotation: "node-selector", value: "kubernetes.io/hostname in (node-b)", want: "198.51.100.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := e.within(t)
			service := objects.LoadBalancer("default", name, objects.TCP(80))
			if tc.annotation != "" {
				service.Annotations = map[string]string{prefix + tc.annotation: tc.value}
			}
			if tc.change != nil {
				tc.change(service)
			}
			e.createService(service)
			address := e.served(name)
			if !strings.HasPrefix(address, tc.want) {
				t.Errorf("the address is %s, want %s", address, tc.want)
			}
			if node := e.nodeOf(address); tc.annotation == "node-selector" && node != "node-b" {
				t.Errorf("the address is on %s", node)
			}
			e.remove(name)
			e.gone(address)
		})
	}
}

func both(s *corev1.Service) {
	policy := corev1.IPFamilyPolicyPreferDualStack
	s.Spec.IPFamilyPolicy = &policy
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
}

func onlyIPv6(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }

func TestAMisspeltAnnotationIsTold(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a")
	service := objects.LoadBalancer("default", "web", objects.TCP(80))
	service.Annotations = map[string]string{
		prefix + "floating-ip-pol": "edge", prefix + "somebody-elses": "true",
	}
	e.createService(service)
	e.served("web")
	e.warned("web", "UnknownAnnotation", prefix+"floating-ip-pol ", prefix+"floating-ip-pool")
	e.warned("web", "UnknownAnnotation")
}

// A retained address waits for the next Service of the name, and for no other.
func TestARetainedAddressComesBack(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	e.createWith("web", "retain-address", "true", objects.TCP(80))
	address := e.served("web")
	e.remove("web")
	ip, found := e.state().FloatingIP(address)
	if !found || ip.AttachState != rack.Detached || !strings.HasSuffix(ip.Description, " retained") {
		t.Errorf("the Service is gone, and its address is %+v", ip)
	}
	e.restart()
	e.create("other", objects.TCP(80))
	if got := e.served("other"); got == address {
		t.Errorf("another Service got the retained address")
	}
	e.create("web", objects.TCP(80))
	e.servedBy("web", address)
	// It is not to be retained any more.
	e.remove("web")
	e.gone(address)
}

// A floating IP that the user owns is attached and detached, and nothing else is done to it. It is
// no address of the Node that carries it, whatever is restarted.
func TestAUsersOwnAddressStaysTheUsers(t *testing.T) {
	quick := settings{idle: true, shimFlags: []string{"--node-status-update-frequency=500ms"}}
	e := newEnvironment(t, quick)
	e.must(e.rack.AddAddresses(t.Context(),
		rack.Address{Name: "mine", Description: "paid for by team x", IP: "198.51.100.200"},
		rack.Address{Name: "nodes", Description: "of node-b", IP: "198.51.100.201", Instance: "node-b"},
	))
	e.start(quick)
	e.join("node-b")
	e.createWith("web", "existing-floating-ip", "mine", objects.TCP(80))
	e.servedBy("web", "198.51.100.200")
	check := func(when string) {
		t.Helper()
		e.synchronized(2)
		var external []string
		for _, a := range e.node("node-b").Status.Addresses {
			if a.Type == corev1.NodeExternalIP {
				external = append(external, a.Address)
			}
		}
		if got := strings.Join(external, " "); got != "198.51.100.201" {
			t.Errorf("%s the Node's external addresses are %q, want its own alone", when, got)
		}
		ip, found := e.state().FloatingIP("198.51.100.200")
		if !found || ip.Name != "mine" || ip.Description != "paid for by team x" {
			t.Errorf("%s the user's floating IP is %+v", when, ip)
		}
	}
	check("at first")
	before := e.state()
	e.neverOf("node-b", "198.51.100.200", func() {
		e.unchanging("web", func() {
			e.restart()
			check("after a restart of both")
			e.must(e.ccm.Backend.Stop(limit))
			e.must(e.ccm.StartBackend(t.Context()))
			check("after a restart of the backend")
		})
		e.remove("web")
		ip, found := e.state().FloatingIP("198.51.100.200")
		if !found || ip.AttachState != rack.Detached {
			t.Errorf("the Service is gone, and the user's floating IP is %+v", ip)
		}
		check("at last")
	})
	if n := len(e.state().FloatingIPs); n != len(before.FloatingIPs) {
		t.Errorf("%d floating IPs became %d", len(before.FloatingIPs), n)
	}
	requests := e.mutations()
	for _, never := range []string{"create", "update", "delete"} {
		if n := requests["floating_ip_"+never]; n != 0 {
			t.Errorf("the rack was asked %d times for a floating_ip_%s", n, never)
		}
	}
}

// neverOf checks that a Node has an address at no moment while something is done.
func (e *environment) neverOf(node, address string, do func()) {
	e.Helper()
	ctx, cancel := context.WithCancel(e.Context())
	watcher, err := e.client.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=" + node, ResourceVersion: e.node(node).ResourceVersion,
	})
	e.must(err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for event := range watcher.ResultChan() {
			n, _ := event.Object.(*corev1.Node)
			if n != nil && slices.ContainsFunc(n.Status.Addresses,
				func(a corev1.NodeAddress) bool { return a.Address == address }) {
				e.Errorf("for a moment %s has %s: %v", node, address, n.Status.Addresses)
			}
		}
	}()
	do()
	cancel()
	<-ended
}
