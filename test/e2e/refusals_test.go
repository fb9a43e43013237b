// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// refusal is something that a Service cannot have.
type refusal struct {
	annotation, value string
	change            func(*corev1.Service)
	// says is what the one event says.
	says []string
}

func refusals(steady string) map[string]refusal {
	field := func(change func(*corev1.ServiceSpec), says ...string) refusal {
		return refusal{change: func(s *corev1.Service) { change(&s.Spec) }, says: says}
	}
	return map[string]refusal{
		"no address": {
			"floating-ip", "198.51.100.300", nil, []string{`"198.51.100.300" is not an IP address`},
		},
		"foreign address": {
			"floating-ip", "192.0.2.1", nil, []string{"192.0.2.1", "in no pool that is linked to the silo"},
		},
		"address of another service": {
			"floating-ip", steady, nil, []string{steady, "taken", "default/steady"},
		},
		"address of the user": {
			"floating-ip", "198.51.100.200", nil, []string{"198.51.100.200", "taken", "mine"},
		},
		"address of another cluster": {
			"floating-ip", "198.51.100.201", nil, []string{"198.51.100.201", "taken", "scope elsewhere"},
		},
		"existing one of another cluster": {
			"existing-floating-ip", "theirs", nil, []string{"theirs", "scope elsewhere", "not the user's"},
		},
		"existing one of another service": {
			"existing-floating-ip", "STEADY", nil, []string{"default/steady", "not the user's"},
		},
		"existing one that is not there": {
			"existing-floating-ip", "nothing", nil, []string{"there is no floating IP nothing"},
		},
		"no name": {
			"existing-floating-ip", "My IP", nil, []string{"neither a name nor an id"},
		},
		"wrong family": {
			"floating-ip", "2001:db8:51::10", nil, []string{"IPv4", "spec.ipFamilies"},
		},
		"two of one family": {
			"floating-ip", "198.51.100.20,198.51.100.21", nil,
			[]string{"gets one address of that IP family", prefix + "addresses-per-family"},
		},
		"unknown pool": {
			"floating-ip-pool", "nowhere", nil, []string{"the IP pool nowhere does not exist"},
		},
		"pool of the wrong family": {
			"floating-ip-pool", "default-v6", nil, []string{"the IP pool default-v6 has no IPv4 addresses"},
		},
		"exhausted pool": {
			"floating-ip-pool", "full", nil, []string{"the IP pool full has no free address"},
		},
		"contradicting version": {
			"floating-ip-version", "v6", nil, []string{"spec.ipFamilies"},
		},
		"no version": {
			"floating-ip-version", "6", nil, []string{"use v4 or v6"},
		},
		"no source": {
			"address-source", "subnet", nil, []string{"use floating-ip or external-subnet"},
		},
		"both sources": {
			"subnet-pool", "edge", nil, []string{"without the annotation " + prefix + "address-source"},
		},
		"two pools": {
			"floating-ip-pool", "edge,default-v6", nil, []string{"IPv4 alone", "name one pool"},
		},
		"no count": {
			"addresses-per-family", "9", nil, []string{"use a number from 1 to 8"},
		},
		"no selector": {
			"node-selector", "a in b", nil, []string{"not a label selector such as"},
		},
		"no truth": {
			"retain-address", "yes", nil, []string{"use true or false"},
		},
		"two wishes": {
			"floating-ip", "198.51.100.20", func(s *corev1.Service) {
				s.Annotations[prefix+"floating-ip-pool"] = "full"
			}, []string{prefix + "floating-ip-pool", "exclude each other"},
		},
		"contradicting field": {
			"floating-ip", "198.51.100.20", func(s *corev1.Service) {
				s.Spec.LoadBalancerIP = "198.51.100.21"
			}, []string{"spec.loadBalancerIP", "make them agree"},
		},
		"too many of one of two families": field(func(s *corev1.ServiceSpec) {
			policy := corev1.IPFamilyPolicyRequireDualStack
			s.IPFamilyPolicy = &policy
			s.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
			s.LoadBalancerIP = "198.51.100.20,198.51.100.21,2001:db8:51::20"
		}, "spec.loadBalancerIP", "names 2 addresses of IPv4", "gets one address"),
		"protocol": field(func(s *corev1.ServiceSpec) {
			s.Ports = append(s.Ports, corev1.ServicePort{
				Name: "sctp", Port: 91, Protocol: corev1.ProtocolSCTP,
			})
		}, "ports[1].protocol is SCTP", "use TCP or UDP"),
		"only one protocol": field(func(s *corev1.ServiceSpec) {
			s.Ports[0].Protocol = corev1.ProtocolSCTP
		}, "ports[0].protocol is SCTP", "use TCP or UDP"),
		"foreign field": field(func(s *corev1.ServiceSpec) { s.LoadBalancerIP = "192.0.2.1" },
			"192.0.2.1", "in no pool that is linked to the silo", "spec.loadBalancerIP"),
	}
}

// What cannot be had is told in one line that names the annotation or field, and touches nothing
// that works.
func TestWhatCannotBeHadIsToldAndTouchesNothing(t *testing.T) {
	e := newEnvironment(t, settings{machines: dualStack})
	e.addPools()
	e.must(e.rack.AddPool(t.Context(), rack.Pool{
		Name: "full", Version: "v4", First: "203.0.113.30", Last: "203.0.113.39",
	}))
	e.must(e.rack.FillPool(t.Context(), "full"))
	e.must(e.rack.AddAddresses(t.Context(),
		rack.Address{Name: "mine", Description: "paid for by team x", IP: "198.51.100.200"},
		rack.Address{
			Name: "theirs", IP: "198.51.100.201", Description: "oxide-ccm/v1 scope=elsewhere " +
				"name=default/web uid=1 family=v4 source=default",
		},
	))
	e.join("node-a", "node-b")
	e.create("steady", objects.TCP(80))
	steady := e.served("steady")
	steadyIP, _ := e.state().FloatingIP(steady)
	before := e.state()
	for title, tc := range refusals(steady) {
		t.Run(title, func(t *testing.T) {
			e := e.within(t)
			name := strings.ReplaceAll(title, " ", "-")
			value := strings.ReplaceAll(tc.value, "STEADY", steadyIP.Name)
			service := objects.LoadBalancer("default", name, objects.TCP(90))
			service.Annotations = make(map[string]string)
			says := tc.says
			if tc.annotation != "" {
				service.Annotations[prefix+tc.annotation] = value
				says = append(says, prefix+tc.annotation)
			}
			if tc.change != nil {
				tc.change(service)
			}
			e.createService(service)
			e.warned(name, syncFailed, says...)
			if ingress := e.service(name).Status.LoadBalancer.Ingress; len(ingress) != 0 {
				t.Errorf("the status is %v", ingress)
			}
			e.remove(name)

			if tc.annotation != "" && len(service.Annotations) == 1 &&
				service.Spec.LoadBalancerIP == "" {
				e.refusedToWhoHasAnAddress("has-"+name, tc.annotation, value, says)
			}
		})
	}
	e.servedBy("steady", steady)
	if diff := cmp.Diff(before, e.state()); diff != "" {
		t.Errorf("the rack (-before +after):\n%s", diff)
	}
}

// refusedToWhoHasAnAddress lets a Service that has an address ask for what it cannot have: it keeps
// what it has.
func (e *environment) refusedToWhoHasAnAddress(name, annotation, value string, says []string) {
	e.Helper()
	e.create(name, objects.TCP(90))
	address := e.served(name)
	requests := e.mutations()
	e.keepsPublishing(name, func() {
		e.annotate(name, annotation, value)
		e.warned(name, syncFailed, says...)
		e.servedBy(name, address)
	})
	// What Oxide itself refuses it is asked for.
	requests["floating_ip_create"] = e.mutations()["floating_ip_create"]
	if diff := cmp.Diff(requests, e.mutations()); diff != "" {
		e.Errorf("requests for changes on the rack (-before +after):\n%s", diff)
	}
	e.annotate(name, annotation, "") // what is said of retaining the address counts at the end
	e.remove(name)
}

// A marker that somebody edited, doubled or removed is restored, because the address's name and the
// Service's status agree whose it is.
func TestADamagedMarkerIsRestored(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	for name, damage := range map[string]func(marker string) string{
		"removed": func(string) string { return "" },
		"edited":  func(m string) string { return strings.Replace(m, "uid=", "uuid=", 1) },
		"doubled": func(m string) string { return m + "\n" + m },
		"text":    func(m string) string { return "my own words\n" + strings.ToUpper(m) },
		"another's": func(m string) string {
			return strings.Replace(m, " name=default/another-s ", " name=default/whose ", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := e.within(t)
			service := strings.ReplaceAll(name, "'", "-")
			e.create(service, objects.TCP(80))
			address := e.served(service)
			ip, _ := e.state().FloatingIP(address)
			e.must(e.rack.Describe(t.Context(), ip, damage(ip.Description)))
			ensured := e.said("Ensured load balancer")
			e.annotate(service, "retain-address", "true") // what the backend is sent differs
			e.ensuredAgain(ensured + 1)
			e.servedBy(service, address)
			var now rack.FloatingIP
			e.eventually(func(context.Context) (string, error) {
				now, _ = e.state().FloatingIP(address)
				if strings.HasSuffix(now.Description, ip.Description) &&
					strings.Count(now.Description, "oxide-ccm/") == 1 {
					return "", nil
				}
				return "the marker of " + address, nil
			})
			if !strings.HasSuffix(now.Description, ip.Description) ||
				strings.Count(now.Description, "oxide-ccm/") != 1 ||
				name == "text" && !strings.HasPrefix(now.Description, "my own words\n") {
				t.Errorf("the description %q became %q", ip.Description, now.Description)
			}
			if n := len(e.state().FloatingIPs); n != 1 {
				t.Errorf("there are %d floating IPs", n)
			}
			e.annotate(service, "retain-address", "")
			e.remove(service)
			e.gone(address)
		})
	}
}

// A description that leaves no room for the marker is left as it is.
func TestADescriptionWithoutRoomIsLeftAlone(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80))
	address := e.served("web")
	ip, _ := e.state().FloatingIP(address)
	long := strings.Repeat("long ", 100)
	e.must(e.rack.Describe(t.Context(), ip, long))
	e.annotate("web", "retain-address", "true") // what the backend is sent differs
	e.warned("web", syncFailed, ip.Name, "remove ", " characters")
	e.servedBy("web", address)
	if now, _ := e.state().FloatingIP(address); now.Description != long {
		t.Errorf("the description became %q", now.Description)
	}
}

func TestAServiceMayHaveManyPorts(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	var ports []corev1.ServicePort
	for i := range 200 {
		port := objects.TCP(int32(20000 + 2*i))
		port.Name = fmt.Sprintf("port-%d", i)
		ports = append(ports, port)
	}
	e.create("many", ports...)
	e.served("many")
	e.warned("many", "FirewallClosed", "TCP 20000,20002,", " more", "VPC default")
}
