// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

type (
	Key    = ownership.Key
	Marker = ownership.Marker
	Source = ownership.Source
	Family = ownership.Family
)

const (
	IPv4 = ownership.IPv4
	IPv6 = ownership.IPv6

	FloatingIP     = ownership.FloatingIP
	ExternalSubnet = ownership.ExternalSubnet

	TCP = firewall.TCP
	UDP = firewall.UDP

	testScope = "cluster-1"
	day       = int64(24 * 3600e9)
)

var (
	webKey   = Key{Scope: testScope, Name: "default/web"}
	otherKey = Key{Scope: testScope, Name: "default/other"}
)

// web is the load balancer that the tests desire.
func web(change ...func(*LoadBalancer)) *LoadBalancer {
	lb := &LoadBalancer{
		Key: webKey, OwnerUID: "uid-1", Desired: []Desired{{Family: IPv4}},
		Ports: []Port{{Protocol: TCP, Number: 80}}, Created: 100 * day, MayMove: true,
	}
	for _, c := range change {
		c(lb)
	}
	return lb
}

// other is a load balancer that is a day younger than web.
func other(change ...func(*LoadBalancer)) *LoadBalancer {
	lb := web(func(d *LoadBalancer) {
		d.Key, d.OwnerUID = otherKey, "uid-other"
		d.Created, d.Ports = d.Created+day, []Port{{Protocol: TCP, Number: 81}}
	})
	for _, c := range change {
		c(lb)
	}
	return lb
}

func from(source Source) func(*LoadBalancer) {
	return func(d *LoadBalancer) { d.Desired[0].Source = source }
}

func ofOther(m *Marker) { m.Key, m.OwnerUID = otherKey, "uid-other" }

func defaultPool(family Family) string { return PoolKey(Source{}, family) }

func ofIPv6(d *LoadBalancer) { d.Desired[0].Family = IPv6 }

func preserved(d *LoadBalancer) { d.Preserve = true }

func ending(how Ending) func(*LoadBalancer) {
	return func(d *LoadBalancer) { d.Ending = how }
}

func serving(ports ...Port) func(*LoadBalancer) {
	return func(d *LoadBalancer) { d.Ports = ports }
}

func held(ports ...Port) func(*LoadBalancer) {
	return func(d *LoadBalancer) { d.LastPorts, d.LastPortsKnown = ports, true }
}

func announcing(id, instance string) func(*LoadBalancer) {
	return func(d *LoadBalancer) { d.Announced = map[string]string{id: instance} }
}

// eligible allows only some instances.
func eligible(instances ...string) func(*LoadBalancer) {
	return func(d *LoadBalancer) {
		d.Eligible = &Eligible{Instances: make(map[string]Serving), Description: "has what it takes"}
		for _, id := range instances {
			d.Eligible.Instances[id] = IsServing
		}
	}
}

// local allows only instances that serve; "n1 leaving" is one where what serves is leaving.
func local(instances ...string) func(*LoadBalancer) {
	return func(d *LoadBalancer) {
		d.Eligible = &Eligible{
			Instances: make(map[string]Serving), Description: "has a ready endpoint", FollowsServing: true,
		}
		for _, text := range instances {
			id, leaving, _ := strings.Cut(text, " ")
			d.Eligible.Instances[id] = IsServing
			if leaving != "" {
				d.Eligible.Instances[id] = IsLeaving
			}
		}
	}
}

// publishing makes an owner publish addresses.
func publishing(addrs ...string) func(*LoadBalancer) {
	return func(d *LoadBalancer) {
		for _, addr := range addrs {
			d.Published = append(d.Published, netip.MustParseAddr(addr))
		}
	}
}

// ips are floating IPs.
type ips []Address

// ip makes a floating IP: "id address instance", and marks it as web's.
func ip(text string, change ...func(*Marker)) Address {
	var id, addr, instance string
	_, _ = fmt.Sscan(text, &id, &addr, &instance)
	marker := Marker{Key: webKey, OwnerUID: "uid-1", Family: IPv4, Source: "default"}
	for _, c := range change {
		c(&marker)
	}
	return Address{
		ID: id, Name: "name-" + id, Addr: netip.MustParseAddr(addr), InstanceID: instance,
		PoolID: "pool-1", Description: marker.String(), Created: int64(len(id)),
	}
}

// described gives a floating IP another description.
func described(text, description string) Address {
	a := ip(text)
	a.Description = description
	return a
}

func foreign(text string) Address { return described(text, "somebody's own") }

// named gives a floating IP another name.
func named(a Address, name string) Address {
	a.Name = name
	return a
}

// legacy makes a floating IP of the existing Oxide CCM.
func legacy(text, service string) Address {
	return named(described(text, ownership.LegacyDescription), "kubernetes-"+service)
}

func nameOf(key Key, family Family, source Source) string {
	return ownership.Name(key, family, source.String(), 0)
}

// ownName is the name that web's address is given.
func ownName() string { return nameOf(webKey, IPv4, Source{}) }

// cluster makes candidates, for example "n1 suspect".
func cluster(candidates ...string) func(*Input) {
	return func(in *Input) {
		for _, text := range candidates {
			id, what, _ := strings.Cut(text, " ")
			c := Candidate{InstanceID: id, Name: "node-" + id}
			switch what {
			case "suspect":
				c.Health, c.Why = Suspect, "may fail"
			case "stopping":
				c.Health, c.PlanNext = Suspect, true
			case "draining":
				c.Health, c.Why, c.Rank = Draining, "was cordoned", Cordoned
			case "leaving":
				c.Health, c.Why = Leaving, "is drained"
			case "unhealthy":
				c.Health, c.Why = Unhealthy, "is not Ready"
			case "least":
				c.Rank = LeastPreferred
			case "cordoned":
				c.Rank = Cordoned
			case "backoff":
				c.Backoff = true
			}
			in.Candidates = append(in.Candidates, c)
		}
	}
}

// input is a rack with these floating IPs and instances n0 to n9, which all have addresses of both
// families and were all candidates before.
func input(found ips, set []*LoadBalancer, change ...func(*Input)) *Input {
	in := &Input{
		Scope: testScope, Addresses: NewAddresses(), LoadBalancers: set,
		Instances: make(map[string]Instance), FormerCandidates: make(map[string]bool),
		Pools: make(map[string]Pool),
	}
	for name, pool := range map[string]Pool{
		"pool-1":    {ID: "pool-1", Family: IPv4, Unicast: true},
		"p":         {ID: "pool-of-name-p", Family: IPv4, Unicast: true},
		"six":       {ID: "pool-6", Family: IPv6, Unicast: true},
		"multicast": {ID: "pool-m", Family: IPv4},
		"gone":      {Missing: true},
		"unread":    {Unreadable: "the pool unread cannot be read: 503"},
		"empty":     {ID: "pool-e", Family: IPv4, Unicast: true, Exhausted: true},
	} {
		in.Pools[PoolKey(Source{Pool: name}, "")] = pool
	}
	in.Pools[PoolKey(Source{Kind: ExternalSubnet, Pool: "s"}, "")] = Pool{
		ID: "subnet-pool-1", Family: IPv4, Unicast: true,
	}
	in.Addresses.Replace(found)
	for i := range 10 {
		id := fmt.Sprintf("n%d", i)
		in.FormerCandidates[id] = true
		in.Instances[id] = Instance{Name: "instance-" + id, EphemeralKnown: true, Addrs: []netip.Addr{
			netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}),
			netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i)}),
		}}
	}
	for _, edit := range change {
		if edit != nil {
			edit(in)
		}
	}
	return in
}

func planned(found ips, set []*LoadBalancer, change ...func(*Input)) *Result {
	return Make(input(found, set, change...))
}

// planWeb plans web alone.
func planWeb(found ips, lb *LoadBalancer, change ...func(*Input)) *Planned {
	return planned(found, []*LoadBalancer{lb}, change...).LoadBalancers[0]
}

func briefly(p *Planned) []string {
	return brief((&Result{LoadBalancers: []*Planned{p}}).Actions())
}

func brief(actions []Action) []string {
	var texts []string
	for _, a := range actions {
		text := a.Type.String()
		if a.ID != "" {
			text += " " + a.ID
		}
		if a.Instance != "" {
			text += " " + a.Instance
		}
		texts = append(texts, text)
	}
	return texts
}

func brieflyAll(r *Result) [][]string {
	var all [][]string
	for _, p := range r.LoadBalancers {
		all = append(all, briefly(p))
	}
	return all
}

// conditionsOf are the types of a load balancer's conditions.
func conditionsOf(p *Planned) []ConditionType {
	var types []ConditionType
	for _, c := range p.Conditions {
		types = append(types, c.Type)
	}
	return types
}

func says(p *Planned) string {
	var all []string
	for _, c := range p.Conditions {
		all = append(all, c.Message)
	}
	return strings.Join(all, "\n")
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func isProblem(p *Problem, reason Reason, says string) bool {
	return p != nil && p.Reason == reason && strings.Contains(p.Message, says)
}
