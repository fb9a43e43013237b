// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"slices"
	"testing"
)

// subnet makes an external subnet of one address, marked as web's, as ip does.
func subnet(text string, change ...func(*Marker)) Address {
	a := ip(text, append([]func(*Marker){func(m *Marker) { m.Source = "subnet-default" }}, change...)...)
	a.Kind, a.PoolID = ExternalSubnet, "subnet-pool-1"
	return a
}

// routed makes a load balancer desire an external subnet.
func routed(d *LoadBalancer) { d.Desired[0].Source = Source{Kind: ExternalSubnet, Pool: "s"} }

// Packets for an external subnet keep their destination: nobody else's port is in the way, and it is in
// nobody's.
func TestExternalSubnetsKnowNoPortConflict(t *testing.T) {
	host := func(in *Input) {
		in.Candidates[0].Used = []UsedPort{{Port: Port{Protocol: TCP, Number: 80}, Holder: "pod ingress/nginx"}}
		in.Reserved = []ReservedPorts{{First: 80, Last: 80, Purpose: "somebody"}}
		in.Occupied = map[Place]string{{"n1", IPv4, Port{Protocol: TCP, Number: 80}}: "another scope"}
	}
	younger := other(serving(Port{Protocol: TCP, Number: 80}), routed)
	r := planned(nil, []*LoadBalancer{web(routed), younger}, cluster("n1"), host)
	same(t, "actions", [][]string{{"create", "attach n1"}, {"create", "attach n1"}}, brieflyAll(r))
	t.Run("beside a floating IP on the same port", func(t *testing.T) {
		r := planned(ips{ip("a 192.0.2.1 n1")}, []*LoadBalancer{web(), younger}, cluster("n1"))
		same(t, "actions", [][]string{nil, {"create", "attach n1"}}, brieflyAll(r))
	})
}

// An instance carries 32 external subnets, besides its external IPs.
func TestLimitOfExternalSubnets(t *testing.T) {
	var found ips
	for i := range maxExternalSubnets {
		a := subnet(fmt.Sprintf("full-%02d 198.51.100.%d n1", i, i), ofOther)
		a.Description = "somebody's own"
		found = append(found, a)
	}
	p := planWeb(found, web(routed), cluster("n1"))
	if !isProblem(p.Problem, ReasonLimit, "carries as many addresses as Oxide allows") {
		t.Errorf("got %v", p.Problem)
	}
	same(t, "a floating IP comes all the same", []string{"create", "attach n1"},
		briefly(planWeb(found, web(), cluster("n1"))))
	same(t, "one fewer", []string{"create", "attach n1"},
		briefly(planWeb(found[1:], web(routed), cluster("n1"))))
}

// The new address is secured and attached before the old one goes, in both directions.
func TestTheSourceIsChanged(t *testing.T) {
	same(t, "to an external subnet", []string{"create", "attach n1", "detach a n1", "delete a"},
		briefly(planWeb(ips{ip("a 192.0.2.1 n1")}, web(routed), cluster("n1"))))
	same(t, "to a floating IP", []string{"create", "attach n1", "detach a n1", "delete a"},
		briefly(planWeb(ips{subnet("a 198.51.100.1 n1")}, web(), cluster("n1"))))
	t.Run("what cannot be had leaves it what it has", func(t *testing.T) {
		lb := web(from(Source{Kind: ExternalSubnet, Pool: "gone"}))
		p := planWeb(ips{ip("a 192.0.2.1 n1")}, lb, cluster("n1"))
		if !isProblem(p.Problem, ReasonPoolUnreadable, "the subnet pool gone has not been read yet") ||
			len(briefly(p)) > 0 || len(p.Claims) != 1 {
			t.Errorf("got %v, %v", briefly(p), p.Problem)
		}
	})
}

// What is published of an external subnet does not say where it is. One that is marked as this very
// owner's is believed, but where another session has a candidate; so a Node that was deleted while nobody
// ran strands nothing.
func TestAnExternalSubnetLeavesAnInstanceThatNoNodeNames(t *testing.T) {
	forget := func(in *Input) { in.FormerCandidates = nil }
	theirs := func(in *Input) { in.OthersCandidates = map[string]bool{"n3": true} }
	published := publishing("198.51.100.1")
	stranded := ips{subnet("a 198.51.100.1 n3")}
	for _, tc := range []struct {
		name    string
		found   ips
		lb      *LoadBalancer
		change  []func(*Input)
		actions []string
	}{
		{"its own", stranded, web(routed, published), nil, []string{"detach a n3", "attach a n1"}},
		{"its own at the end", stranded, web(routed, published, ending(EndRelease)), nil,
			[]string{"detach a n3", "delete a"}},
		{"another session's candidate", stranded, web(routed, published), []func(*Input){theirs}, nil},
		{"another session's candidate at the end", stranded, web(routed, published, ending(EndRelease)),
			[]func(*Input){theirs}, nil},
		{"of another owner of that name", stranded,
			web(routed, func(d *LoadBalancer) { d.OwnerUID = "uid-2" }), nil, nil},
		{"a floating IP proves its place by what is published", ips{ip("a 198.51.100.1 n3")},
			web(published), nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := planWeb(tc.found, tc.lb, append(tc.change, cluster("n1"), forget)...)
			same(t, "actions", tc.actions, briefly(p))
		})
	}
	t.Run("a user's own stays where it never was a node", func(t *testing.T) {
		mine := subnet("mine 198.51.100.1 n3")
		mine.Description = "mine"
		lb := web(from(Source{Kind: ExternalSubnet, Existing: "name-mine"}), published)
		p := planWeb(ips{mine}, lb, cluster("n1"), forget)
		same(t, "conditions", []ConditionType{ForeignAttachment}, conditionsOf(p))
		same(t, "actions", []string(nil), briefly(p))
		p = planWeb(ips{mine}, lb, cluster("n1", "n3 unhealthy"), forget)
		same(t, "actions", []string{"detach mine n3", "attach mine n1"}, briefly(p))
	})
}

// A user's own external subnet is one of a single address, and is not sought among the floating IPs.
func TestAUsersOwnExternalSubnet(t *testing.T) {
	mine := subnet("mine 198.51.100.1")
	mine.Description = "mine"
	larger := mine
	larger.Larger = true
	lb := web(from(Source{Kind: ExternalSubnet, Existing: "name-mine"}))
	same(t, "actions", []string{"attach mine n1"}, briefly(planWeb(ips{mine}, lb, cluster("n1"))))
	for says, found := range map[string]ips{
		"the external subnet name-mine has more than one address": {larger},
		"there is no external subnet name-mine in the project":    {foreign("mine 192.0.2.9")},
	} {
		p := planWeb(found, lb, cluster("n1"))
		if p.Problem == nil || !slices.Contains([]Reason{ReasonInvalid, ReasonResourceNotFound}, p.Problem.Reason) ||
			!isProblem(p.Problem, p.Problem.Reason, says) || len(briefly(p)) > 0 {
			t.Errorf("got %v, %v; want one that says %q", p.Problem, briefly(p), says)
		}
	}
	t.Run("released at the end", func(t *testing.T) {
		on := mine
		on.InstanceID = "n1"
		ends := web(from(Source{Kind: ExternalSubnet, Existing: "name-mine"}), ending(EndRelease),
			publishing("198.51.100.1"))
		same(t, "actions", []string{"detach mine n1"}, briefly(planWeb(ips{on}, ends, cluster("n1"))))
	})
}

// A lost marker is restored by the name and by what is published, as that of a floating IP.
func TestALostMarkerOfAnExternalSubnetIsRestored(t *testing.T) {
	lost := subnet("a 198.51.100.1 n1")
	lost.Description, lost.Name = "", nameOf(webKey, IPv4, Source{Kind: ExternalSubnet, Pool: "s"})
	p := planWeb(ips{lost}, web(routed, publishing("198.51.100.1")), cluster("n1"))
	same(t, "actions", []string{"mark a"}, briefly(p))
	p = planWeb(ips{lost}, web(routed), cluster("n1"))
	if !isProblem(p.Problem, ReasonNotOwned, "is taken by another external subnet") {
		t.Errorf("got %v", p.Problem)
	}
}
