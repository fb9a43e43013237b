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

func TestListsThatMissRowsTakeNothingOffAnInstance(t *testing.T) {
	for name, fault := range map[string]oxidesim.Fault{
		"pages of three":              {PageCap: 3},
		"a third of the rows omitted": {Omit: 0.33, Seed: 1},
		"both":                        {PageCap: 3, Omit: 0.5, Seed: 2},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				ids := w.addNodes(7)
				for i := range 4 {
					_, err := w.rack.AddFloatingIP("demo", oxidesim.FloatingIPSeed{
						Name: fmt.Sprint("f", i), Instance: fmt.Sprint("node-", i),
					})
					w.must(err)
				}
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
				opts := cmp.Options{cmpopts.EquateComparable(netip.Addr{})}
				for range 30 {
					time.Sleep(2 * time.Minute)
					if diff := cmp.Diff(before, w.findAll(ids), opts); diff != "" {
						t.Fatalf("-before +now:\n%s", diff)
					}
				}
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
		ids := w.addNodes(3)
		for i := range 2 {
			_, err := w.rack.AddFloatingIP("demo", oxidesim.FloatingIPSeed{
				Name: fmt.Sprint("f", i), Instance: fmt.Sprint("node-", i),
			})
			w.must(err)
		}
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
		opts := cmp.Options{cmpopts.EquateComparable(netip.Addr{})}
		for range 10 {
			time.Sleep(2 * time.Minute)
			if diff := cmp.Diff(before, w.findAll(ids), opts); diff != "" {
				t.Fatalf("-before +now:\n%s", diff)
			}
		}
	})
}
