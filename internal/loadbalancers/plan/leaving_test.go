// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"strings"
	"testing"
)

// A degraded load balancer says why its address has to leave, and what keeps each other node from
// carrying it.
func TestDegradedNamesTheCauseAndWhatIsInTheWay(t *testing.T) {
	excluded := func(in *Input) {
		in.Candidates[0].Health, in.Candidates[0].Why = Unhealthy, "has the label exclude"
	}
	selected := func(d *LoadBalancer) {
		eligible("n2")(d)
		d.Eligible.Description = "has the labels a=b"
	}
	holder := ip("b 192.0.2.2 n2", ofOther)
	for _, tc := range []struct {
		name       string
		web        *LoadBalancer
		candidates []string
		want       string
	}{
		{
			"the others have another load balancer, a failure, or no eligibility", web(),
			[]string{"n1", "n2", "n3 unhealthy"}, "the address 192.0.2.1 stays on node-n1, which has the label " +
				"exclude: no other node can carry it: node-n2: TCP 80 is held by default/other, " +
				"node-n3: is not Ready",
		},
		{
			"it is the only node", web(), []string{"n1"},
			"the address 192.0.2.1 stays on node-n1, which has the label exclude: there is no other node",
		},
		{
			"the one that the selector admits comes first", web(selected), []string{"n1", "n0", "n2"},
			"the address 192.0.2.1 stays on node-n1, which has the label exclude: no other node can carry it: " +
				"node-n2: TCP 80 is held by default/other, node-n0: is not one that has the labels a=b",
		},
		{
			"no node is eligible", web(local()), []string{"n1", "n2"},
			"the address 192.0.2.1 stays on node-n1: no node has a ready endpoint",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.web.Created = 300 * day
			r := planned(ips{ip("a 192.0.2.1 n1"), holder},
				[]*LoadBalancer{tc.web, other(serving(tcp80))}, cluster(tc.candidates...), excluded)
			same(t, "the message", tc.want, says(r.ByKey[webKey]))
		})
	}
	t.Run("many nodes with long names", func(t *testing.T) {
		candidates := []string{"n1"}
		for i := range 100 {
			candidates = append(candidates, fmt.Sprintf("x%d unhealthy", i))
		}
		message := says(planWeb(ips{ip("a 192.0.2.1 n1")}, web(), cluster(candidates...), excluded))
		if len(message) > maxMessage || !strings.Contains(message, "node-x0: is not Ready") ||
			!strings.HasSuffix(message, " more") {
			t.Errorf("the message is %q", message)
		}
	})
}

// An address that leaves a living node for what the user has changed says so, with the node's name.
func TestAMoveNamesTheSelectorOrTheMissingEndpoint(t *testing.T) {
	selected := func(d *LoadBalancer) {
		eligible("n2")(d)
		d.Eligible.Description = "has the labels a=b"
	}
	onItsWay := func(in *Input) { in.InFlight = map[string]InFlight{"a": {Instance: "n2"}} }
	for _, tc := range []struct {
		name, want string
		web        *LoadBalancer
		change     func(*Input)
	}{
		{"a selector", "node-n1 is not one that has the labels a=b", web(selected), nil},
		{"an endpoint", "node-n1 is not one that has a ready endpoint", web(local("n2")), nil},
		{"an endpoint that ends", "node-n1 has only endpoints that are about to end",
			web(local("n1 leaving", "n2")), nil},
		{"while it is on its way", "node-n1 is not one that has the labels a=b", web(selected), onItsWay},
		{"an instance that is no node any more", "instance-n1 is no candidate any more", web(),
			func(in *Input) { in.Candidates = in.Candidates[1:] }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := planWeb(ips{ip("a 192.0.2.1 n1")}, tc.web, cluster("n1", "n2"), tc.change)
			if c := p.Claims[0]; c.Target != "n2" || c.Why != tc.want {
				t.Errorf("it goes to %s because %q, want %q", c.Target, c.Why, tc.want)
			}
		})
	}
}
