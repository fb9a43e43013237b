// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// described makes a fact about a floating IP with another description.
func described(text, description string) fact {
	f := ip(text)
	f.Description = description
	return newFact(f.FloatingIP)
}

// named gives a fact another name.
func named(f fact, name string) fact {
	f.Name = name
	return f
}

// publishing makes a load balancer publish addresses.
func publishing(addrs ...string) func(*Desired) {
	return func(d *Desired) {
		for _, addr := range addrs {
			d.Published = append(d.Published, netip.MustParseAddr(addr))
		}
	}
}

// conditionsOf are the types of a load balancer's conditions.
func conditionsOf(b *balancer) []ConditionType {
	var types []ConditionType
	for _, c := range b.conditions {
		types = append(types, c.Type)
	}
	return types
}

// Two clusters of one id: what the other one uses is on instances that never were nodes here.
func TestAnAddressOnAForeignInstanceIsNeverLetGo(t *testing.T) {
	theirs := ip("a 192.0.2.1 theirs")
	t.Run("not for another wish", func(t *testing.T) {
		want := web(wish(Source{Addr: netip.MustParseAddr("192.0.2.7")}))
		b := planWeb(ips{theirs}, cluster("n1"), want)
		if diff := cmp.Diff([]string{"create", "attach n1"}, briefly(b)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]ConditionType{ForeignAttachment}, conditionsOf(b)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("not for a better one", func(t *testing.T) {
		b := planWeb(ips{theirs, ip("bb 192.0.2.2")}, cluster("n1"), web())
		if diff := cmp.Diff([]string{"attach bb n1"}, briefly(b)); diff != "" {
			t.Error(diff)
		}
	})
	for _, tc := range []struct {
		name    string
		gone    Deletion
		actions []string
	}{
		{name: "not at the end of the load balancer", gone: Deletion{Cluster: cluster("n1")}},
		{
			name: "unless its private address is published: it was a node",
			gone: Deletion{
				Cluster: cluster("n1"), Published: []netip.Addr{netip.MustParseAddr("10.0.0.3")},
			},
			actions: []string{"detach a n3", "delete a"},
		},
		{
			name: "unless it is a node", gone: Deletion{Cluster: cluster("n1", "n3 unhealthy")},
			actions: []string{"detach a n3", "delete a"},
		},
		{
			name: "unless nobody tells which instances are nodes",
			gone: Deletion{}, actions: []string{"detach a n3", "delete a"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.gone.Key, tc.gone.OwnerUID = webKey, "uid-1"
			p := planned(ips{ip("a 192.0.2.1 n3")}, Cluster{}, nil)
			actions, err := planDelete(p.facts, tc.gone, &scope{complete: true})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.actions, brief(actions)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
