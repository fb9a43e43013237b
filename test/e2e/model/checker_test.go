// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

const (
	scope   = "cluster-1"
	fipWeb  = "id-web"
	fipDNS  = "id-dns"
	fipUser = "id-user"
	fipKept = "id-kept"
)

// settledWorld is one in which nothing is wrong: web on node-1, dns on node-2, node-3 without an
// address, a Service whose address was kept, and a floating IP of a user.
func settledWorld() (*expectation, snapshot) {
	e := &expectation{
		scope: scope, others: make(map[string]rack.Carried),
		services: map[string]*service{
			"web": {name: "web", shape: plain(), balanced: true, ports: []corev1.ServicePort{objects.TCP(80)}},
			"dns": {name: "dns", shape: plain(), balanced: true, ports: []corev1.ServicePort{objects.UDP(53)}},
			"old": {name: "old", shape: plain(), balanced: true, deleted: true, retained: true},
		},
		nodes: make(map[string]*node),
	}
	s := snapshot{services: make(map[string]corev1.Service), nodes: make(map[string]corev1.Node)}
	for i, name := range []string{"node-1", "node-2", "node-3"} {
		e.nodes[name] = &node{
			name: name, uid: types.UID("uid-" + name), present: true, ready: corev1.ConditionTrue,
			run: running, fitSince: time.Now().Add(-time.Hour),
		}
		s.nodes[name] = corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)},
			Spec:       corev1.NodeSpec{ProviderID: "oxide://id-" + name},
		}
		s.rack.Instances = append(s.rack.Instances, rack.Instance{
			ID: "id-" + name, Name: name, RunState: running,
			PrivateIPs: map[string]string{"v4": "172.30.0." + string(rune('1'+i))},
		})
	}
	user := rack.FloatingIP{ID: fipUser, Name: "mail", Description: "mail", IP: "198.51.100.9",
		AttachState: detached}
	e.others[user.ID] = rack.Carried{
		ID: user.ID, Name: user.Name, Description: user.Description, Addr: user.IP,
		AttachState: user.AttachState,
	}
	s.rack.FloatingIPs = []rack.FloatingIP{
		{ID: fipWeb, Name: "lb-web", Description: "shop\n" + markerFor("web", ""),
			IP: "198.51.100.1", AttachState: rack.Attached, Instance: "node-1"},
		{ID: fipDNS, Name: "lb-dns", Description: markerFor("dns", ""),
			IP: "198.51.100.2", AttachState: rack.Attached, Instance: "node-2"},
		{ID: fipKept, Name: "lb-old", Description: markerFor("old", " retained"),
			IP: "198.51.100.3", AttachState: detached},
		user,
	}
	s.services["web"] = published("web", "198.51.100.1", "172.30.0.1")
	s.services["dns"] = published("dns", "198.51.100.2", "172.30.0.2")
	s.firewall = rulesFor(e)
	e.adopt(s)
	return e, s
}

func markerFor(name, suffix string) string {
	return "oxide-ccm/v1 scope=" + scope + " name=default/" + name + " uid=uid-" + name +
		" family=v4 source=any" + suffix
}

func published(name string, ips ...string) corev1.Service {
	s := corev1.Service{ObjectMeta: metav1.ObjectMeta{
		Name: name, UID: types.UID("uid-" + name),
		Finalizers: []string{"service.kubernetes.io/load-balancer-cleanup"},
	}}
	vip := corev1.LoadBalancerIPModeVIP
	for _, ip := range ips {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress,
			corev1.LoadBalancerIngress{IP: ip, IPMode: &vip})
	}
	s.Status.Conditions = []metav1.Condition{{Type: readyCondition, Status: metav1.ConditionTrue}}
	return s
}

// unready is status for a Service of which an address is not served.
func unready(name string, ips ...string) doctor {
	return func(_ *expectation, s snapshot, _ *step) {
		now := published(name, ips...)
		now.Status.Conditions[0].Status = metav1.ConditionFalse
		s.services[name] = now
	}
}

// doctor changes a snapshot: its floating IPs by id, and its Services.
type doctor func(e *expectation, s snapshot, st *step)

func ip(id string, change func(*rack.FloatingIP)) doctor {
	return func(_ *expectation, s snapshot, _ *step) {
		i := slices.IndexFunc(s.rack.FloatingIPs, func(f rack.FloatingIP) bool { return f.ID == id })
		change(&s.rack.FloatingIPs[i])
	}
}

func status(name string, ips ...string) doctor {
	return func(_ *expectation, s snapshot, _ *step) { s.services[name] = published(name, ips...) }
}

func moved(id, to string) doctor {
	return ip(id, func(f *rack.FloatingIP) { f.Instance = to })
}

// kept makes a Service one that comes back, and for which an address was kept; it may ask for one.
func kept(name, desired string) doctor {
	return func(e *expectation, _ snapshot, _ *step) {
		v := e.services[name]
		v.had, v.desired = nil, desired
		v.kept = []address{{
			kind: kindOfAddress{version: "v4"}, id: fipKept, ip: "198.51.100.3", name: "lb-old",
		}}
	}
}

// before applies a doctor to the snapshot before the operation.
func before(change doctor) doctor {
	return func(e *expectation, _ snapshot, st *step) { change(e, st.before, st) }
}

func edited(name string, ports ...corev1.ServicePort) doctor {
	return func(e *expectation, _ snapshot, st *step) {
		st.edited[name], e.services[name].ports = e.services[name].ports, ports
		protected(e, st.now, st)
	}
}

func detachedNow(id string) doctor {
	return ip(id, func(f *rack.FloatingIP) { f.AttachState, f.Instance = detached, "" })
}

// doctored is what is made of a settled world, and what the checker is to find in it.
type doctored struct {
	name string
	// doctors make of a settled world what is found after an operation.
	doctors []doctor
	// want is the invariant that is not held; empty: all are.
	want string
	// says is in the problem's text.
	says string
}

// The checker finds each way in which an invariant can be broken, and nothing where none is.
func TestTheCheckerFindsWhatIsBroken(t *testing.T) {
	checkDoctored(t, settledWorld, 2, []doctored{
		{name: "nothing has happened"},
		{"a Node is gone whose instance exists", []doctor{
			func(_ *expectation, s snapshot, _ *step) { delete(s.nodes, "node-3") },
		}, noNodeOnDoubt, "node-3"},
		{"a Node is another one", []doctor{func(_ *expectation, s snapshot, _ *step) {
			n := s.nodes["node-3"]
			n.UID = "new"
			s.nodes["node-3"] = n
		}}, noNodeOnDoubt, "node-3"},
		{"a Node stays though its instance is gone", []doctor{
			func(e *expectation, _ snapshot, _ *step) { e.nodes["node-3"].removed = true },
		}, converges, "node-3"},
		{"a user's floating IP was described", []doctor{
			ip(fipUser, func(f *rack.FloatingIP) { f.Description = markerFor("web", "") }),
		}, noneLost, "mail"},
		{"a user's floating IP was attached", []doctor{
			ip(fipUser, func(f *rack.FloatingIP) { f.AttachState, f.Instance = rack.Attached, "node-3" }),
		}, noneLost, "mail"},
		{"an address is another one", []doctor{
			ip(fipWeb, func(f *rack.FloatingIP) { f.ID, f.IP = "id-new", "198.51.100.77" }),
			status("web", "198.51.100.77", "172.30.0.1"),
		}, noneLost, "the addresses [198.51.100.1], and has lost 1"},
		{"the address that was kept is gone", []doctor{
			ip(fipKept, func(f *rack.FloatingIP) { f.ID, f.Description = "x", markerFor("old", "") }),
		}, noneLost, "198.51.100.3"},
		{"the text of a user is gone", []doctor{
			ip(fipWeb, func(f *rack.FloatingIP) { f.Description = markerFor("web", "") }),
		}, noneLost, `"shop"`},
		{"there is an address of nobody", []doctor{
			ip(fipDNS, func(f *rack.FloatingIP) { f.Description = markerFor("who", "") }),
		}, noneLost, "nobody's"},
		{"an address was renamed", []doctor{
			ip(fipWeb, func(f *rack.FloatingIP) { f.Name = "better" }),
		}, noneShared, "better"},
		{"two Services publish one address", []doctor{
			status("dns", "198.51.100.1", "172.30.0.2"),
		}, noneShared, "198.51.100.1"},
		{"two Services are on one port of one node", []doctor{
			func(e *expectation, _ snapshot, _ *step) { e.services["dns"].ports = e.services["web"].ports },
			moved(fipDNS, "node-1"), status("dns", "198.51.100.2", "172.30.0.1"),
		}, onePerPort, "dns and web are on node-1"},
		{"two Services publish one node for one port", []doctor{
			func(e *expectation, _ snapshot, _ *step) { e.services["dns"].ports = e.services["web"].ports },
			status("dns", "198.51.100.2", "172.30.0.2", "172.30.0.1"),
		}, onePerPort, "both publish the IPv4 of node-1"},
		{"a reserved port was attached anew", []doctor{
			func(e *expectation, _ snapshot, _ *step) {
				e.services["web"].ports = []corev1.ServicePort{objects.TCP(reservedPorts[0])}
			},
			moved(fipWeb, "node-3"), status("web", "198.51.100.1", "172.30.0.3"),
		}, onePerPort, "reserved"},
		{"a reserved port stays where it is", []doctor{
			func(e *expectation, _ snapshot, _ *step) {
				e.services["web"].ports = []corev1.ServicePort{objects.TCP(reservedPorts[0])}
			}, protected,
		}, "", ""},
		{"an address has left a node that is fit", []doctor{
			moved(fipWeb, "node-3"), status("web", "198.51.100.1", "172.30.0.3"),
		}, leastMovement, "web was on node-1"},
		{"an address has left a node that is not fit", []doctor{
			func(e *expectation, _ snapshot, _ *step) { e.nodes["node-1"].ready = corev1.ConditionUnknown },
			moved(fipWeb, "node-3"), status("web", "198.51.100.1", "172.30.0.3"),
		}, "", ""},
		{"an address has left a node by hand", []doctor{
			func(_ *expectation, _ snapshot, st *step) { st.moved[fipWeb] = true },
			moved(fipWeb, "node-3"), status("web", "198.51.100.1", "172.30.0.3"),
		}, "", ""},
		{"an edited Service makes way for one that was there", []doctor{
			before(moved(fipDNS, "node-1")), moved(fipDNS, "node-1"),
			status("dns", "198.51.100.2", "172.30.0.1"), edited("web", objects.UDP(53)),
			moved(fipWeb, "node-3"), status("web", "198.51.100.1", "172.30.0.3"),
		}, "", ""},
		{"an edited Service makes way for one that was on its way there", []doctor{
			before(detachedNow(fipDNS)), moved(fipDNS, "node-1"),
			status("dns", "198.51.100.2", "172.30.0.1"), edited("web", objects.UDP(53)),
			moved(fipWeb, "node-3"), status("web", "198.51.100.1", "172.30.0.3"),
		}, "", ""},
		{"an edited Service makes way for one that is held up on its way there", []doctor{
			func(e *expectation, _ snapshot, _ *step) { e.nodes["node-2"].lost = true },
			before(status("dns", "198.51.100.2", "172.30.0.2", "172.30.0.1")),
			status("dns", "198.51.100.2", "172.30.0.2", "172.30.0.1"), edited("web", objects.UDP(53)),
			moved(fipWeb, "node-3"), status("web", "198.51.100.1", "172.30.0.3"),
		}, "", ""},
		{"an edited Service makes way for one that comes", []doctor{
			moved(fipDNS, "node-1"), status("dns", "198.51.100.2", "172.30.0.1"),
			edited("web", objects.UDP(53)),
			moved(fipWeb, "node-3"), status("web", "198.51.100.1", "172.30.0.3"),
		}, leastMovement, "web was on node-1"},
		{"an edited Service has another one make way", []doctor{
			before(moved(fipDNS, "node-1")), moved(fipDNS, "node-1"),
			status("dns", "198.51.100.2", "172.30.0.1"), edited("dns", objects.TCP(80)),
			moved(fipWeb, "node-3"), status("web", "198.51.100.1", "172.30.0.3"),
		}, leastMovement, "web was on node-1"},
		{"another address than the one that was kept", []doctor{
			kept("web", ""),
		}, noneLost, "kept for it"},
		{"another address than the one that was kept, as asked for", []doctor{
			kept("web", "198.51.100.1"),
		}, "", ""},
		{"a Service has no address", []doctor{
			ip(fipWeb, func(f *rack.FloatingIP) { f.Description = "shop" }),
		}, converges, "web has no address"},
		{"a Service has two addresses", []doctor{
			ip(fipDNS, func(f *rack.FloatingIP) { f.Description = markerFor("web", "") }),
		}, converges, "web has 1 addresses too many"},
		{"an address is attached nowhere", []doctor{
			detachedNow(fipWeb), status("web"),
		}, converges, "web is attached nowhere"},
		{"an address is attached nowhere because no node is fit", []doctor{
			func(e *expectation, _ snapshot, _ *step) {
				for _, n := range e.nodes {
					n.excluded = true
				}
			},
			detachedNow(fipWeb), unready("web"), unready("dns", "198.51.100.2", "172.30.0.2"),
		}, "", ""},
		{"an address stays on a node that is not fit", []doctor{
			func(e *expectation, _ snapshot, _ *step) { e.nodes["node-1"].excluded = true },
		}, converges, "not fit"},
		{"an address is on its way for ever", []doctor{
			ip(fipWeb, func(f *rack.FloatingIP) { f.AttachState = "detaching" }),
		}, converges, "detaching"},
		{"an address is left of a Service that is gone", []doctor{
			func(e *expectation, s snapshot, _ *step) {
				e.services["web"].deleted = true
				delete(s.services, "web")
			},
		}, converges, "web, which wants none"},
		{"a Service stays though its address is gone", []doctor{
			func(e *expectation, _ snapshot, _ *step) { e.services["web"].deleted = true },
			func(e *expectation, s snapshot, _ *step) {
				s.rack.FloatingIPs[0] = rack.FloatingIP{
					ID: "other", IP: "198.51.100.8", Name: "other", AttachState: detached,
				}
				e.others["other"] = s.rack.Carried()[0]
			},
		}, converges, "web is not gone"},
		{"a status is empty", []doctor{status("web")}, statusIsFact, "web"},
		{"a status has the wrong node", []doctor{
			status("web", "198.51.100.1", "172.30.0.3"),
		}, statusIsFact, "172.30.0.3"},
		{"a status has the other order", []doctor{
			status("web", "172.30.0.1", "198.51.100.1"),
		}, statusIsFact, "web"},
		{"a status has no mode", []doctor{func(_ *expectation, s snapshot, _ *step) {
			web := s.services["web"]
			web.Status.LoadBalancer.Ingress[0].IPMode = nil
		}}, statusIsFact, "198.51.100.1/-"},
		{"a status is left", []doctor{
			func(e *expectation, _ snapshot, _ *step) { e.nodes["node-1"].excluded = true },
			func(e *expectation, _ snapshot, _ *step) { e.nodes["node-2"].excluded = true },
			func(e *expectation, _ snapshot, _ *step) { e.nodes["node-3"].excluded = true },
			detachedNow(fipWeb),
		}, statusIsFact, "web"},
		{"a restart has moved an address", []doctor{
			func(e *expectation, _ snapshot, st *step) {
				st.restart = true
				e.nodes["node-1"].excluded = true
			},
			moved(fipWeb, "node-3"), status("web", "198.51.100.1", "172.30.0.3"),
		}, restartIsNone, "the addresses have"},
		{"a restart has taken a finalizer away", []doctor{func(_ *expectation, s snapshot, st *step) {
			st.restart = true
			web := s.services["web"]
			web.Finalizers = nil
			s.services["web"] = web
		}}, restartIsNone, "web"},
		{"a restart has labelled a Node", []doctor{func(_ *expectation, s snapshot, st *step) {
			st.restart = true
			n := s.nodes["node-1"]
			n.Labels = map[string]string{"new": ""}
			s.nodes["node-1"] = n
		}}, restartIsNone, "node-1"},
	})
}

// checkDoctored has the checker check worlds that were doctored. Held is how many addresses are held to
// stay where they are in a settled one.
func checkDoctored(t *testing.T, settled func() (*expectation, snapshot), held int, cases []doctored) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			e, before := settled()
			_, now := settled()
			st := step{
				before: before, now: now, moved: make(map[string]bool), replaced: make(map[string]bool),
				edited: make(map[string][]corev1.ServicePort),
				steady: func(*node) bool { return true },
			}
			for _, change := range tc.doctors {
				change(e, st.now, &st)
			}
			found, stayed := e.broken(st)
			found = append(e.unsettled(st.now), found...)
			if tc.want == "" {
				if len(found) > 0 {
					t.Errorf("found %v", found)
				}
				if len(tc.doctors) == 0 && stayed != held {
					t.Errorf("%d addresses were held to stay, want %d", stayed, held)
				}
				return
			}
			if !slices.ContainsFunc(found, func(p problem) bool {
				return p.invariant == tc.want && strings.Contains(p.text, tc.says)
			}) {
				t.Errorf("found %v, want %q of %q", found, tc.says, tc.want)
			}
		})
	}
}
