// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const testScope = "cluster-1"

var webKey = Key{Scope: testScope, Name: "default/web"}

// web is the load balancer that the tests want.
func web(change ...func(*Desired)) Desired {
	want := Desired{Key: webKey, OwnerUID: "uid-1", Wanted: []Wanted{{Family: IPv4}}}
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

func briefly(p plan) []string {
	var all []string
	for _, address := range p.addresses {
		all = append(all, brief(address.actions)...)
	}
	return append(all, brief(p.releases)...)
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
		facts      facts
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
			name: "all is as desired", facts: facts{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1", "n2"), want: web(),
		},
		{
			name: "a suspect node keeps its address", facts: facts{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1 suspect", "n2"), want: web(),
		},
		{
			name: "an unhealthy node loses it", facts: facts{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1 unhealthy", "n2"), want: web(),
			actions: []string{"detach a n1", "attach a n2"},
		},
		{
			name: "a node that left the set loses it", facts: facts{ip("a 192.0.2.1 n1")},
			cluster: cluster("n2"), want: web(),
			actions: []string{"detach a n1", "attach a n2"},
		},
		{
			name: "a suspect node gets nothing new", facts: facts{ip("a 192.0.2.1")},
			cluster: cluster("n1 suspect"), want: web(), conditions: []ConditionType{NoCandidate},
		},
		{
			name: "no healthy node: it stays", facts: facts{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1 unhealthy"), want: web(), conditions: []ConditionType{Degraded},
		},
		{
			name: "no candidate: it is reserved all the same", want: web(),
			actions: []string{"create"}, conditions: []ConditionType{NoCandidate},
		},
		{
			name: "a detached address comes back", facts: facts{ip("a 192.0.2.1")},
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
			facts: facts{foreign("x 192.0.2.9 n2")}, want: web(),
			actions: []string{"create", "attach n2"},
		},
		{
			name: "a node to be avoided is better than none", cluster: cluster("n1 avoid"),
			want: web(), actions: []string{"create", "attach n1"},
		},
		{
			name: "a new owner of the same name", facts: facts{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1"), want: web(func(d *Desired) { d.OwnerUID = "uid-2" }),
			actions: []string{"mark a"},
		},
		{
			name:    "a retained address comes back",
			facts:   facts{ip("a 192.0.2.1", func(m *Marker) { m.Retained = true })},
			cluster: cluster("n1"), want: web(func(d *Desired) { d.OwnerUID = "uid-2" }),
			actions: []string{"mark a", "attach a n1"},
		},
		{
			name:  "another address is wished for: the new one is secured before the old one goes",
			facts: facts{ip("a 192.0.2.1 n1")}, cluster: cluster("n1"),
			want:    web(wish(Source{Addr: netip.MustParseAddr("192.0.2.7")})),
			actions: []string{"create", "attach n1", "detach a n1", "delete a"},
		},
		{
			name: "the wished address is the one that is there", cluster: cluster("n1"),
			facts: facts{ip("a 192.0.2.7 n1")},
			want:  web(wish(Source{Addr: netip.MustParseAddr("192.0.2.7")})),
		},
		{
			name: "the wish is withdrawn: nothing changes", cluster: cluster("n1"), want: web(),
			facts: facts{ip("a 192.0.2.7 n1", func(m *Marker) { m.Source = "address:192.0.2.7" })},
		},
		{
			name: "the pool is the one it came from, by name", cluster: cluster("n1"),
			facts: facts{ip("a 192.0.2.7 n1", func(m *Marker) { m.Source = "pool:p" })},
			want:  web(wish(Source{Pool: "p"})),
		},
		{
			name: "the pool is the one it came from, by id", cluster: cluster("n1"),
			facts: facts{ip("a 192.0.2.7 n1")}, want: web(wish(Source{Pool: "pool-1"})),
		},
		{
			name: "two addresses: the attached one is kept", cluster: cluster("n1"), want: web(),
			facts: facts{ip("a 192.0.2.1"), ip("bb 192.0.2.2 n1")}, actions: []string{"delete a"},
		},
		{
			name: "two addresses: else the oldest", cluster: cluster("n1"), want: web(),
			facts:   facts{ip("bb 192.0.2.2"), ip("c 192.0.2.1")},
			actions: []string{"attach c n1", "delete bb"},
		},
		{
			name: "nobody else's address is touched", cluster: cluster("n1"), want: web(),
			facts: facts{
				foreign("x 192.0.2.9 n1"),
				ip("y 192.0.2.8 n1", func(m *Marker) { m.Key.Scope = "cluster-2" }),
				ip("z 192.0.2.7 n1", func(m *Marker) { m.Key.Name = "default/other" }),
			},
			actions: []string{"create", "attach n1"},
		},
		{
			name: "a marker copied to an address of the other family", cluster: cluster("n1"),
			facts: facts{ip("x 2001:db8::1 n1")}, want: web(),
			actions: []string{"create", "attach n1"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := planEnsure(tc.facts, nil, tc.cluster, tc.want)
			if err != nil {
				t.Fatal(err)
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
			_, err := planEnsure(facts{tc.taken}, nil, cluster("n1"), want)
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
		facts   facts
		retain  bool
		actions []string
	}{
		{name: "nothing is there"},
		{
			name: "attached", facts: facts{ip("a 192.0.2.1 n1")},
			actions: []string{"detach a n1", "delete a"},
		},
		{name: "detached", facts: facts{ip("a 192.0.2.1")}, actions: []string{"delete a"}},
		{
			name: "to be retained", facts: facts{ip("a 192.0.2.1 n1")}, retain: true,
			actions: []string{"detach a n1", "mark a"},
		},
		{name: "already retained", facts: facts{ip("a 192.0.2.1", retained)}, retain: true},
		{name: "retained before", facts: facts{ip("a 192.0.2.1", retained)}},
		{name: "of a newer owner", facts: facts{ip("a 192.0.2.1 n1", newer)}},
		{name: "somebody else's", facts: facts{foreign("a 192.0.2.1 n1")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			actions, err := planDelete(tc.facts, webKey, "uid-1", tc.retain)
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
	var all facts
	for i := range 23 {
		key := Key{testScope, fmt.Sprintf("default/svc-%d", i)}
		p, err := planEnsure(all, nil, cluster(nodes...), Desired{
			Key: key, OwnerUID: "u", Wanted: []Wanted{{Family: IPv4}},
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ip(
			fmt.Sprintf("ip-%d 192.0.2.%d %s", i, i+1, p.addresses[0].target),
			func(m *Marker) { m.Key, m.OwnerUID = key, "u" }))
	}
	loads := all.loads()
	for _, node := range nodes {
		if loads[node] < 4 || loads[node] > 5 {
			t.Errorf("%s carries %d of 23 addresses on 5 nodes", node, loads[node])
		}
	}
	for i := range 23 {
		p, err := planEnsure(all, nil, cluster(append(nodes, "a-first")...), Desired{
			Key:      Key{testScope, fmt.Sprintf("default/svc-%d", i)},
			OwnerUID: "u", Wanted: []Wanted{{Family: IPv4}},
		})
		if err != nil || len(briefly(p)) != 0 {
			t.Errorf("a joining node causes %v, %v", briefly(p), err)
		}
	}
}

// An instance never gets more floating IPs than Oxide allows for certain.
func TestAFullNodeGetsNothing(t *testing.T) {
	var full facts
	for i := range maxFloatingIPs {
		full = append(full, foreign(fmt.Sprintf("x-%d 192.0.2.%d n1", i, i+1)))
	}
	p, err := planEnsure(full, nil, cluster("n1", "n2 avoid"), web())
	if err != nil || p.addresses[0].target != "n2" {
		t.Errorf("got %+v, %v", p, err)
	}
}

// The order in which Oxide lists addresses, and Kubernetes nodes, decides nothing.
func TestThePlanDoesNotDependOnOrder(t *testing.T) {
	f := facts{ip("a 192.0.2.1"), ip("bb 192.0.2.2"), foreign("x 192.0.2.9 n1")}
	c := cluster("n1", "n2", "n3", "n4")
	first, err := planEnsure(f, nil, c, web())
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		rand.Shuffle(len(f), func(i, j int) { f[i], f[j] = f[j], f[i] })
		rand.Shuffle(len(c.Candidates), func(i, j int) {
			c.Candidates[i], c.Candidates[j] = c.Candidates[j], c.Candidates[i]
		})
		again, err := planEnsure(f, nil, c, web())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(briefly(first), briefly(again)); diff != "" {
			t.Fatal(diff)
		}
	}
}
