// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import "testing"

// What stays in use because what replaces it has no place still fails over, and keeps its place
// where nothing else can carry it.
func TestAFormerAddressFailsOverWhileWhatReplacesItHasNoPlace(t *testing.T) {
	old := ip("old 198.51.100.1 n1", func(m *Marker) { m.Source = Source{Kind: ExternalSubnet}.String() })
	old.Kind = ExternalSubnet
	web80 := func() *LoadBalancer {
		return web(func(d *LoadBalancer) { d.Created += 9 * day }, publishing("198.51.100.1"))
	}
	// The port is held wherever the floating IP could go.
	found := ips{old, ip("b 192.0.2.2 n2", ofOther), ip("c 192.0.2.3 n1", ofOther)}
	others := other(serving(Port{Protocol: TCP, Number: 80}), several(2), publishing("192.0.2.2", "192.0.2.3"))
	plans := func(change ...func(*Input)) *Planned {
		r := planned(found, []*LoadBalancer{others, web80()}, change...)
		return r.ByKey[webKey]
	}
	same(t, "actions", []string{"create"}, briefly(plans(cluster("n1", "n2"))))
	same(t, "kept", 1, len(plans(cluster("n1", "n2")).Kept))
	p := plans(cluster("n1 unhealthy", "n2"))
	same(t, "actions off an unhealthy node", []string{"create", "detach old n1", "attach old n2"}, briefly(p))
	if len(p.Kept) > 0 || len(p.Releases) > 0 {
		t.Errorf("kept %v, released %v", p.Kept, p.Releases)
	}
	same(t, "actions where no other node is healthy", []string{"create"},
		briefly(plans(cluster("n1 unhealthy", "n2 unhealthy"))))
	same(t, "kept", 1, len(plans(cluster("n1 unhealthy", "n2 unhealthy")).Kept))

	found[0].InstanceID = ""
	set := []*LoadBalancer{others, web80()}
	set[1].Announced = map[string]string{"old": "n2"}
	p = planned(found, set, cluster("n1 unhealthy", "n2")).ByKey[webKey]
	same(t, "actions on its way", []string{"create", "attach old n2"}, briefly(p))
}
