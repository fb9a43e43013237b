// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// addNodesWithAddresses adds instances, the first of which have a floating IP each.
func (w *world) addNodesWithAddresses(nodes, addresses int) (ids []string) {
	w.t.Helper()
	ids = w.addNodes(nodes)
	for i := range addresses {
		_, err := w.rack.AddFloatingIP("demo", oxidesim.FloatingIPSeed{
			Name: fmt.Sprint("f", i), Instance: fmt.Sprint("node-", i),
		})
		w.must(err)
	}
	return ids
}

// staysFor fails if instances are found to be different, every two minutes for that long.
func (w *world) staysFor(duration time.Duration, before []instances.Instance) {
	w.t.Helper()
	ids := make([]string, len(before))
	for i, instance := range before {
		ids[i] = instance.ID
	}
	for end := time.Now().Add(duration); time.Now().Before(end); {
		time.Sleep(2 * time.Minute)
		if diff := cmp.Diff(before, w.findAll(ids), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			w.t.Fatalf("-before +now:\n%s", diff)
		}
	}
}

func TestListsThatMissRowsTakeNothingOffAnInstance(t *testing.T) {
	for name, fault := range map[string]oxidesim.Fault{
		"pages of three":              {PageCap: 3},
		"a third of the rows omitted": {Omit: 0.33, Seed: 1},
		"both":                        {PageCap: 3, Omit: 0.5, Seed: 2},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				ids := w.addNodesWithAddresses(7, 4)
				before := w.findAll(ids)
				watched := w.watch(nil)
				time.Sleep(time.Minute)
				watched.take()
				fault.Operation = "vpc_subnet_list_network_interfaces"
				w.fault(fault)
				fault.Operation = "floating_ip_list"
				w.fault(fault)
				fault.Operation = "instance_list"
				w.fault(fault)
				w.staysFor(time.Hour, before)
				watched.want(t, "")
				w.must(w.rack.RemoveInstance("node-0"))
				time.Sleep(10 * time.Second)
				watched.want(t, "gone "+ids[0])
				_, err := w.finder.ByID(t.Context(), ids[0], instances.Full)
				wantNotFound(t, err, "instance "+ids[0]+" does not exist")
				watched.end(t)
			})
		})
	}
}

func TestOneThatCannotBeReadStaysWhatItWasAndHidesNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ids := w.addNodesWithAddresses(3, 2)
		before := w.findAll(ids)
		for operation, fault := range map[string]oxidesim.Fault{
			"floating_ip_list": {Omit: 1}, "instance_list": {Omit: 0.5, Seed: 1},
			"vpc_subnet_list_network_interfaces": {Omit: 0.5, Seed: 1},
			"floating_ip_view":                   {Status: 500, ErrorCode: "Internal"},
			"instance_view":                      {Status: 503, ErrorCode: "ServiceNotAvailable"},
			"instance_network_interface_view":    {Status: 403, ErrorCode: "Forbidden"},
		} {
			fault.Operation = operation
			w.fault(fault)
		}
		w.staysFor(20*time.Minute, before)
	})
}

// Whoever has a name by the list has it: a Node that got the id of the instance before would keep that for
// ever.
func TestOneThatWasRecreatedHasItsNameWhileTheOldOneCannotBeRead(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		old := w.addNodesWithAddresses(2, 0)[0]
		_, err := w.finder.ByName(t.Context(), "node-0", instances.Full)
		w.must(err)
		w.must(w.rack.RemoveInstance("node-0"))
		w.fault(oxidesim.Fault{Operation: "instance_view", Status: 500, ErrorCode: "Internal"})
		added, err := w.rack.AddInstance("demo", oxidesim.InstanceSeed{Name: "node-0"})
		w.must(err)
		time.Sleep(10 * time.Second)
		found, err := w.finder.Identify(t.Context(), instances.Machine{Name: "node-0"}, instances.Full, true)
		w.must(err)
		if found.ID != added.ID {
			t.Errorf("node-0 is %s, want %s, and not %s", found.ID, added.ID, old)
		}
	})
}
