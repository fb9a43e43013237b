// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"net/netip"
	"strings"
	"testing"
)

// People read why a node was chosen or not: each reason is a sentence after the node's name.
func TestEachReasonOfAVerdictSaysWhatToKnow(t *testing.T) {
	at := func(text string) ips { return ips{ip(text)} }
	for _, tc := range []struct {
		name    string
		found   ips
		web     *LoadBalancer
		cluster func(*Input)
		change  func(*Input)
		reasons map[string]string
	}{
		{
			name: "it stays", found: at("a 192.0.2.1 n1"), cluster: cluster("n1", "n2"),
			reasons: map[string]string{
				"n1": "192.0.2.1 is there, and stays",
				"n2": "could carry it, but the address is on node-n1, and moves only if it has to",
			},
		},
		{
			name: "it moves", found: at("a 192.0.2.1 n1"), cluster: cluster("n1 unhealthy", "n2", "n3 cordoned"),
			reasons: map[string]string{
				"n1": "is not Ready",
				"n2": "192.0.2.1 moves here: node-n1 is not Ready",
				"n3": "is cordoned, so it is the last choice",
			},
		},
		{
			name: "nowhere to go", found: at("a 192.0.2.1 n1"), cluster: cluster("n1 unhealthy", "n2 suspect"),
			reasons: map[string]string{
				"n1": "192.0.2.1 stays, though it is not Ready: no other can carry it", "n2": "may fail",
			},
		},
		{
			name: "a cordoned node that nothing can leave", found: at("a 192.0.2.1 n1"),
			cluster: cluster("n1 draining", "n2 cordoned"),
			reasons: map[string]string{
				"n1": "192.0.2.1 stays, though it was cordoned: no other can carry it",
				"n2": "is cordoned as well",
			},
		},
		{
			name: "it is reserved", found: at("a 192.0.2.1"), cluster: cluster("n1 least", "n2", "n3 backoff"),
			reasons: map[string]string{
				"n1": "others are preferred: its own outbound traffic would leave from the address",
				"n2": "192.0.2.1 comes here: first in the order of preference",
				"n3": "changes of addresses fail there now, and are tried again later",
			},
		},
		{
			name: "the loads", cluster: cluster("n1", "n2", "n3"),
			found: append(at("a 192.0.2.1"), foreign("x 192.0.2.9 n3"), foreign("y 192.0.2.8 n3")),
			reasons: map[string]string{
				"n1": "192.0.2.1 comes here: first in the order of preference",
				"n2": "carries as many as node-n1 without this one: of equals the choice is fixed",
				"n3": "carries 2, and node-n1 no more with this one",
			},
		},
		{
			name: "Local", found: at("a 192.0.2.1"), web: web(local("n1", "n2 leaving")),
			cluster: cluster("n1", "n2", "n3"),
			reasons: map[string]string{
				"n1": "192.0.2.1 comes here: first in the order of preference",
				"n2": "has only endpoints that are about to end",
				"n3": "is not one that has a ready endpoint",
			},
		},
		{
			name: "the port is in use", found: at("a 192.0.2.1"), cluster: cluster("n1", "n2", "n3", "n4"),
			change: func(in *Input) {
				in.Candidates[0].Used = []UsedPort{{Port: tcp80, Holder: "pod ingress/nginx"}}
				in.Occupied = map[Place]string{{"n2", IPv4, tcp80}: "default/web in cluster-2"}
				in.Reserved = []ReservedPorts{{
					First: 80, Last: 80, Purpose: "a NodePort", On: netip.MustParseAddr("10.0.0.3"),
				}}
			},
			reasons: map[string]string{
				"n1": "TCP 80 is used by pod ingress/nginx",
				"n2": "TCP 80 is held by default/web in cluster-2",
				"n3": "TCP 80 is reserved for a NodePort on 10.0.0.3",
				"n4": "192.0.2.1 comes here: first in the order of preference",
			},
		},
		{
			name: "two addresses, of which one has no place", cluster: cluster("n1", "n2 unhealthy"),
			found: ips{ip("a 192.0.2.1 n1"), ip("bb 192.0.2.2")},
			web:   web(func(d *LoadBalancer) { d.Desired = append(d.Desired, d.Desired[0]) }),
			reasons: map[string]string{
				"n1": "192.0.2.1 is there, and stays", "n2": "is not Ready",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lb := tc.web
			if lb == nil {
				lb = web()
			}
			explained := planWeb(tc.found, lb, tc.cluster, tc.change, func(in *Input) {
				in.Explain = map[string]bool{lb.Key.Name: true}
			})
			got := make(map[string]string)
			for _, v := range explained.Verdicts {
				got[v.InstanceID] = v.Reason
				if isChosen := strings.Contains(v.Reason, "192.0.2.1 "); isChosen != v.Chosen {
					t.Errorf("%s: chosen is %v, because %s", v.Name, v.Chosen, v.Reason)
				}
			}
			same(t, "the reasons", tc.reasons, got)
		})
	}
}
