// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const testScope = "cluster-1"

var webKey = Key{Scope: testScope, Name: "default/web"}

// web is the load balancer that the tests want.
func web(change ...func(*Desired)) Desired {
	want := Desired{
		Key: webKey, OwnerUID: "uid-1", Wanted: []Wanted{{Family: IPv4}},
		Ports: []Port{{TCP, 80}}, Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	for _, c := range change {
		c(&want)
	}
	return want
}

func wish(source Source) func(*Desired) {
	return func(d *Desired) { d.Wanted[0].Source = source }
}

// ip makes a fact about a floating IP: "id address instance", and marks it as web's.
func ip(text string, change ...func(*Marker)) fact {
	var id, addr, instance string
	_, _ = fmt.Sscan(text, &id, &addr, &instance)
	marker := Marker{Key: webKey, OwnerUID: "uid-1", Family: IPv4, Source: "default"}
	for _, c := range change {
		c(&marker)
	}
	return newFact(oxide.FloatingIP{
		ID: id, Name: "name-" + id, Addr: netip.MustParseAddr(addr), InstanceID: instance,
		PoolID: "pool-1", Description: marker.String(),
		TimeCreated: time.Date(2026, 1, 1, 0, 0, 0, len(id), time.UTC),
	})
}

// ips are facts about floating IPs.
type ips []fact

// planned plans a set on instances n1 to n9, which all have addresses of both families, and which
// were all candidates before, on a rack with these floating IPs.
func planned(found ips, c Cluster, set []Desired, change ...func(*planner)) *planner {
	f := facts{
		ips: make(map[string]*fact), endpoints: make(map[string]instances.Endpoint),
		pools: map[string]oxide.IPPool{
			"pool-1": {ID: "pool-1", Bits: 32, Unicast: true},
			"p":      {ID: "pool-of-name-p", Bits: 32, Unicast: true},
			"six":    {ID: "pool-6", Bits: 128, Unicast: true},

			"multicast": {ID: "pool-m", Bits: 32},
		},
		poolErrors: map[string]error{"gone": errors.New("no such pool")},
	}
	for _, ip := range found {
		f.ips[ip.ID] = &ip
	}
	known := &scope{held: make(map[Key][]Port), nodes: make(map[string]bool)}
	for i := range 10 {
		id := fmt.Sprintf("n%d", i)
		known.nodes[id] = true
		f.endpoints[id] = instances.Endpoint{
			InstanceID: id, Name: "node-" + id, EphemeralKnown: true, Addrs: []netip.Addr{
				netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}),
				netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i)}),
			},
		}
	}
	p := newPlanner(f, c, set, known, nil)
	for _, edit := range change {
		edit(p)
	}
	p.plan(false)
	return p
}

// plan plans web alone.
func planWeb(found ips, c Cluster, want Desired) *balancer {
	return planned(found, c, []Desired{want}).balancers[0]
}

func foreign(text string) fact {
	f := ip(text)
	f.Description = "somebody's own"
	return newFact(f.FloatingIP)
}

func cluster(candidates ...string) Cluster {
	c := Cluster{Scope: testScope}
	for _, text := range candidates {
		var candidate Candidate
		id, mood, _ := strings.Cut(text, " ")
		candidate.InstanceID = id
		switch mood {
		case "suspect":
			candidate.Health = Suspect
		case "unhealthy":
			candidate.Health = Unhealthy
		case "avoid":
			candidate.Avoid = true
		}
		c.Candidates = append(c.Candidates, candidate)
	}
	return c
}

func briefly(b *balancer) []string {
	var all []string
	for _, c := range b.claims {
		all = append(all, brief(c.actions())...)
	}
	return append(all, brief(b.releases)...)
}

func brief(actions []Action) []string {
	var texts []string
	for _, a := range actions {
		text := a.Type.String()
		if a.ID != "" {
			text += " " + a.ID
		}
		if a.InstanceID != "" {
			text += " " + a.InstanceID
		}
		texts = append(texts, text)
	}
	return texts
}

func TestPlanEnsure(t *testing.T) {
	for _, tc := range []struct {
		name       string
		facts      ips
		cluster    Cluster
		want       Desired
		actions    []string
		conditions []ConditionType
	}{
		{
			name: "nothing is there", cluster: cluster("n1"), want: web(),
			actions: []string{"create", "attach n1"},
		},
		{
			name: "all is as desired", facts: ips{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1", "n2"), want: web(),
		},
		{
			name: "a suspect node keeps its address", facts: ips{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1 suspect", "n2"), want: web(),
		},
		{
			name: "an unhealthy node loses it", facts: ips{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1 unhealthy", "n2"), want: web(),
			actions: []string{"detach a n1", "attach a n2"},
		},
		{
			name: "a node that left the set loses it", facts: ips{ip("a 192.0.2.1 n1")},
			cluster: cluster("n2"), want: web(),
			actions: []string{"detach a n1", "attach a n2"},
		},
		{
			name: "a suspect node gets nothing new", facts: ips{ip("a 192.0.2.1")},
			cluster: cluster("n1 suspect"), want: web(), conditions: []ConditionType{NoCandidate},
		},
		{
			name: "no healthy node: it stays", facts: ips{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1 unhealthy"), want: web(), conditions: []ConditionType{Degraded},
		},
		{
			name: "no candidate: it is reserved all the same", want: web(),
			actions: []string{"create"}, conditions: []ConditionType{NoCandidate},
		},
		{
			name: "a detached address comes back", facts: ips{ip("a 192.0.2.1")},
			cluster: cluster("n1"), want: web(), actions: []string{"attach a n1"},
		},
		{
			name: "only eligible nodes", cluster: cluster("n1", "n2"),
			want:    web(func(d *Desired) { d.Eligible = map[string]bool{"n2": true} }),
			actions: []string{"create", "attach n2"},
		},
		{
			name: "no eligible node", cluster: cluster("n1"),
			want:    web(func(d *Desired) { d.Eligible = map[string]bool{} }),
			actions: []string{"create"}, conditions: []ConditionType{NoCandidate},
		},
		{
			name: "nodes to be avoided come last", cluster: cluster("n1 avoid", "n2"),
			facts: ips{foreign("x 192.0.2.9 n2")}, want: web(),
			actions: []string{"create", "attach n2"},
		},
		{
			name: "a node to be avoided is better than none", cluster: cluster("n1 avoid"),
			want: web(), actions: []string{"create", "attach n1"},
		},
		{
			name: "a new owner of the same name", facts: ips{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1"), want: web(func(d *Desired) { d.OwnerUID = "uid-2" }),
			actions: []string{"mark a"},
		},
		{
			name:    "a retained address comes back",
			facts:   ips{ip("a 192.0.2.1", func(m *Marker) { m.Retained = true })},
			cluster: cluster("n1"), want: web(func(d *Desired) { d.OwnerUID = "uid-2" }),
			actions: []string{"mark a", "attach a n1"},
		},
		{
			name:  "another address is wished for: the new one is secured before the old one goes",
			facts: ips{ip("a 192.0.2.1 n1")}, cluster: cluster("n1"),
			want:    web(wish(Source{Addr: netip.MustParseAddr("192.0.2.7")})),
			actions: []string{"create", "attach n1", "detach a n1", "delete a"},
		},
		{
			name: "the wished address is the one that is there", cluster: cluster("n1"),
			facts: ips{ip("a 192.0.2.7 n1")},
			want:  web(wish(Source{Addr: netip.MustParseAddr("192.0.2.7")})),
		},
		{
			name: "the wish is withdrawn: nothing changes", cluster: cluster("n1"), want: web(),
			facts: ips{ip("a 192.0.2.7 n1", func(m *Marker) { m.Source = "address:192.0.2.7" })},
		},
		{
			name: "the pool is the one it came from, by name", cluster: cluster("n1"),
			facts: ips{ip("a 192.0.2.7 n1", func(m *Marker) { m.Source = "pool:p" })},
			want:  web(wish(Source{Pool: "p"})),
		},
		{
			name: "the pool is the one it came from, by id", cluster: cluster("n1"),
			facts: ips{ip("a 192.0.2.7 n1")}, want: web(wish(Source{Pool: "pool-1"})),
		},
		{
			name: "two addresses: the attached one is kept", cluster: cluster("n1"), want: web(),
			facts: ips{ip("a 192.0.2.1"), ip("bb 192.0.2.2 n1")}, actions: []string{"delete a"},
		},
		{
			name: "two addresses: else the oldest", cluster: cluster("n1"), want: web(),
			facts:   ips{ip("bb 192.0.2.2"), ip("c 192.0.2.1")},
			actions: []string{"attach c n1", "delete bb"},
		},
		{
			name: "nobody else's address is touched", cluster: cluster("n1"), want: web(),
			facts: ips{
				foreign("x 192.0.2.9 n1"),
				ip("y 192.0.2.8 n1", func(m *Marker) { m.Key.Scope = "cluster-2" }),
				ip("z 192.0.2.7 n1", func(m *Marker) { m.Key.Name = "default/other" }),
			},
			actions: []string{"create", "attach n1"},
		},
		{
			name: "a marker copied to an address of the other family", cluster: cluster("n1"),
			facts: ips{ip("x 2001:db8::1 n1")}, want: web(),
			actions: []string{"create", "attach n1"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := planWeb(tc.facts, tc.cluster, tc.want)
			if p.problem != nil {
				t.Fatal(p.problem)
			}
			if diff := cmp.Diff(tc.actions, briefly(p)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			var conditions []ConditionType
			for _, c := range p.conditions {
				conditions = append(conditions, c.Type)
			}
			if diff := cmp.Diff(tc.conditions, conditions); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAWishedAddressThatIsTakenSaysByWhom(t *testing.T) {
	want := web(wish(Source{Addr: netip.MustParseAddr("192.0.2.9")}))
	for _, tc := range []struct {
		name  string
		taken fact
		says  string
	}{
		{"by a user", foreign("x 192.0.2.9 n1"), "name-x, which is not managed here"},
		{
			"by another load balancer",
			ip("x 192.0.2.9 n1", func(m *Marker) { m.Key.Name = "default/other" }),
			"of the load balancer default/other in the scope cluster-1",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := planWeb(ips{tc.taken}, cluster("n1"), want).problem
			if !IsReason(err, ReasonNotOwned) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want one that says %q", err, tc.says)
			}
		})
	}
}

func TestPlanDelete(t *testing.T) {
	retained := func(m *Marker) { m.Retained = true }
	newer := func(m *Marker) { m.OwnerUID = "uid-2" }
	for _, tc := range []struct {
		name    string
		facts   ips
		retain  bool
		actions []string
	}{
		{name: "nothing is there"},
		{
			name: "attached", facts: ips{ip("a 192.0.2.1 n1")},
			actions: []string{"detach a n1", "delete a"},
		},
		{name: "detached", facts: ips{ip("a 192.0.2.1")}, actions: []string{"delete a"}},
		{
			name: "to be retained", facts: ips{ip("a 192.0.2.1 n1")}, retain: true,
			actions: []string{"detach a n1", "mark a"},
		},
		{name: "already retained", facts: ips{ip("a 192.0.2.1", retained)}, retain: true},
		{name: "retained before", facts: ips{ip("a 192.0.2.1", retained)}},
		{name: "of a newer owner", facts: ips{ip("a 192.0.2.1 n1", newer)}},
		{name: "somebody else's", facts: ips{foreign("a 192.0.2.1 n1")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			known := planned(tc.facts, Cluster{}, nil)
			actions, err := planDelete(known.facts, Deletion{
				Key: webKey, OwnerUID: "uid-1", Retain: tc.retain,
			}, &scope{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.actions, brief(actions)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Invariant 5: addresses are spread, and a node that joins moves nothing.
func TestInvariant5SpreadAndLeastMovement(t *testing.T) {
	var nodes []string
	for n := range 5 {
		nodes = append(nodes, fmt.Sprintf("n%d", n))
	}
	var set []Desired
	for i := range 23 {
		set = append(set, web(func(d *Desired) {
			d.Key.Name, d.Ports = fmt.Sprintf("default/svc-%d", i), []Port{{TCP, 1000 + i}}
		}))
	}
	var all ips
	on := make(map[string]int)
	for i, b := range planned(nil, cluster(nodes...), set).balancers {
		at := b.claims[0].target
		on[at]++
		all = append(all, ip(fmt.Sprintf("ip-%d 192.0.2.%d %s", i, i+1, at),
			func(m *Marker) { m.Key = b.want.Key }))
	}
	for _, node := range nodes {
		if on[node] < 4 || on[node] > 5 {
			t.Errorf("%s carries %d of 23 addresses on 5 nodes", node, on[node])
		}
	}
	for _, b := range planned(all, cluster(append(nodes, "n9")...), set).balancers {
		if actions := briefly(b); len(actions) != 0 {
			t.Errorf("a joining node causes %v", actions)
		}
	}
}

// An instance never gets more floating IPs than Oxide allows for certain.
func TestAFullNodeGetsNothing(t *testing.T) {
	var full ips
	for i := range maxExternalIPs - 2 {
		full = append(full, foreign(fmt.Sprintf("x-%d 192.0.2.%d n1", i, i+1)))
	}
	if b := planWeb(full, cluster("n1", "n2 avoid"), web()); b.claims[0].target != "n2" {
		t.Errorf("got %+v", b.claims[0])
	}
	b := planWeb(full, cluster("n1"), web())
	if !IsReason(b.refusal(), ReasonLimit) {
		t.Errorf("with every node full: %v", b.refusal())
	}
}

// The order in which Oxide lists addresses, and Kubernetes nodes, decides nothing.
func TestThePlanDoesNotDependOnOrder(t *testing.T) {
	f := ips{ip("a 192.0.2.1"), ip("bb 192.0.2.2"), foreign("x 192.0.2.9 n1")}
	c := cluster("n1", "n2", "n3", "n4")
	first := planWeb(f, c, web())
	for range 50 {
		rand.Shuffle(len(f), func(i, j int) { f[i], f[j] = f[j], f[i] })
		rand.Shuffle(len(c.Candidates), func(i, j int) {
			c.Candidates[i], c.Candidates[j] = c.Candidates[j], c.Candidates[i]
		})
		if diff := cmp.Diff(briefly(first), briefly(planWeb(f, c, web()))); diff != "" {
			t.Fatal(diff)
		}
	}
}
