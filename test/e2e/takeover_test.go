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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// legacyDescription is what the existing Oxide CCM writes into each floating IP.
const legacyDescription = "Managed by oxide-cloud-controller-manager."

// legacyService is a Service of the existing Oxide CCM. Two may share an address.
type legacyService struct {
	key, address string
	port         int32
}

// legacyName is how the existing Oxide CCM names, and finds again, the address of a Service.
func (s legacyService) legacyName() string {
	name := "kubernetes-" + strings.ReplaceAll(s.key, "/", "-")
	return strings.TrimRight(name[:min(len(name), 63)], "-")
}

// The oldest comes first. The one with the long name is cut just behind a "-".
var legacyServices = []legacyService{
	{"default/web-5", "198.51.100.105", 80},
	{"team/a-web", "198.51.100.110", 443},
	// Younger ones:
	{"default/web-1", "198.51.100.101", 80},
	{"default/web-2", "198.51.100.102", 80},
	{"default/web-3", "198.51.100.103", 80},
	{"default/web-4", "198.51.100.104", 80},
	{"team-a/web", "198.51.100.110", 443},
	{"a-namespace-with-a-long-name/and-a-service-for-them-all", "198.51.100.120", 8080},
	{"default/ssh", "198.51.100.130", 22},
}

const elders = 2

// asLeftBehind makes everything as the existing Oxide CCM leaves it: every address is on the first
// Node by name, and the status of a Service has nothing else.
func (e *environment) asLeftBehind(nodes []rack.Machine) {
	e.Helper()
	state := e.state()
	for _, machine := range nodes {
		instance, _ := state.Instance(machine.Name)
		node := objects.Node(machine.Name)
		node.Spec.ProviderID, node.Spec.Taints = "oxide://"+instance.ID, nil
		_, err := e.client.CoreV1().Nodes().Create(e.Context(), node, metav1.CreateOptions{})
		e.must(err)
	}
	made := make(map[string]bool)
	for i, s := range legacyServices {
		if i == elders {
			e.nextSecond()
		}
		if !made[s.address] {
			e.must(e.rack.AddAddresses(e.Context(), rack.Address{
				Name: s.legacyName(), Description: legacyDescription, IP: s.address,
				Instance: nodes[0].Name,
			}))
			made[s.address] = true
		}
		namespace, name := splitKey(s.key)
		service := objects.LoadBalancer(namespace, name, objects.TCP(s.port))
		service.Finalizers = []string{finalizer}
		service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: s.address}}
		e.createService(service)
	}
}

// The promise to the users of the existing Oxide CCM: they keep every address, and may go back.
func TestAddressesOfTheExistingCCMAreKeptThereAndBack(t *testing.T) {
	nodes := machines(6)
	e := newEnvironment(t, settings{machines: nodes, idle: true})
	e.asLeftBehind(nodes)
	if name := legacyServices[7].legacyName(); len(name) != 62 {
		t.Fatalf("%s is not cut before a -", name)
	}
	before := e.state()

	e.start(settings{})
	for _, s := range legacyServices {
		if s.key != "team-a/web" {
			e.servedBy(s.key, s.address)
		}
	}
	own := e.served("team-a/web")
	e.warned("default/ssh", "PortRefused", "TCP 22", "SSH")

	e.eventually(func(context.Context) (string, error) {
		for _, ip := range e.state().FloatingIPs {
			if !strings.Contains(ip.Description, "oxide-ccm/v1 ") {
				return "the marker of " + ip.IP, nil
			}
		}
		return "", nil
	})
	after := e.state()
	for _, old := range before.FloatingIPs {
		ip, _ := after.FloatingIP(old.IP)
		text, marker, _ := strings.Cut(ip.Description, "\n")
		if ip.ID != old.ID || ip.Name != old.Name || text != legacyDescription ||
			!strings.HasPrefix(marker, "oxide-ccm/v1 ") {
			t.Errorf("%+v became %+v", old, ip)
		}
	}
	if len(after.FloatingIPs) != len(before.FloatingIPs)+1 || own == legacyServices[1].address {
		t.Errorf("the younger claimant of a shared address has %s; the rack has %+v", own,
			after.FloatingIPs)
	}
	// Of those that share a port on one node all but the oldest make way, the statuses leading.
	var holders map[string]string
	e.eventually(func(context.Context) (string, error) {
		holders = make(map[string]string)
		for _, s := range legacyServices {
			if s.port != 80 {
				continue
			}
			ip, _ := e.state().FloatingIP(s.address)
			node := ip.Instance
			if ip.AttachState != rack.Attached {
				return "the attachment of " + s.address, nil
			}
			if holders[node] != "" {
				return fmt.Sprintf("another node for one of %s and %s, which serve one port on %s",
					holders[node], s.key, node), nil
			}
			holders[node] = s.key
		}
		return "", nil
	})
	for _, s := range legacyServices {
		if s.key != "team-a/web" {
			e.servedBy(s.key, s.address)
		}
	}
	after = e.state()
	if got := holders[nodes[0].Name]; got != "default/web-5" {
		t.Errorf("the contested port is %q's, want the oldest one's", got)
	}

	// A restart finds nothing to do.
	requests := e.mutations()
	ensured := e.said("Ensured load balancer")
	e.restart()
	e.ensuredAgain(ensured + len(legacyServices))
	if diff := cmp.Diff(requests, e.mutations()); diff != "" {
		t.Errorf("a restart changed something (-before +after):\n%s", diff)
	}

	// And back.
	statuses := e.statuses()
	e.must(e.ccm.Stop())
	if diff := cmp.Diff(after, e.state()); diff != "" {
		t.Errorf("the end changed the rack (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(statuses, e.statuses()); diff != "" {
		t.Errorf("the end changed Services (-before +after):\n%s", diff)
	}
	for _, s := range legacyServices {
		found := rack.FloatingIP{}
		for _, ip := range e.state().FloatingIPs {
			if ip.Name == s.legacyName() {
				found = ip
			}
		}
		if found.IP != s.address || found.AttachState != rack.Attached {
			t.Errorf("by its name the existing CCM finds %+v for %s, which had %s", found, s.key,
				s.address)
		}
	}
}

// ensuredAgain waits until the framework finished so many syncs of Services in all.
func (e *environment) ensuredAgain(n int) {
	e.Helper()
	e.eventually(func(ctx context.Context) (string, error) {
		if got := e.said("Ensured load balancer"); got < n {
			return fmt.Sprintf("%d syncs of Services, got %d", n, got), nil
		}
		return "", nil
	})
}

// statuses returns the statuses of all Services of type LoadBalancer.
func (e *environment) statuses() map[string][]corev1.LoadBalancerIngress {
	e.Helper()
	list, err := e.client.CoreV1().Services(metav1.NamespaceAll).List(e.Context(),
		metav1.ListOptions{})
	e.must(err)
	all := make(map[string][]corev1.LoadBalancerIngress)
	for _, service := range list.Items {
		if service.Spec.Type == corev1.ServiceTypeLoadBalancer {
			all[service.Namespace+"/"+service.Name] = service.Status.LoadBalancer.Ingress
		}
	}
	return all
}
