// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// addNodes adds n running instances.
func (w *world) addNodes(n int) []string {
	w.t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = w.node(fmt.Sprintf("node-%d", i)).ID
	}
	return ids
}

// findAll looks up all of them at the same time.
func (w *world) findAll(ids []string) []instances.Instance {
	w.t.Helper()
	found := make([]instances.Instance, len(ids))
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() { found[i], errs[i] = w.finder.ByID(w.t.Context(), id, instances.Full) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil || found[i].ID != ids[i] || len(found[i].Interfaces) != 1 {
			w.t.Fatalf("%s: %+v, %v", ids[i], found[i], err)
		}
	}
	return found
}

func (w *world) wantRequests(when string, want map[string]int) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.requests()); diff != "" {
		w.t.Errorf("%s: -want +got:\n%s", when, diff)
	}
}

// The number of lists does not depend on that of instances. Only ephemeral addresses cost a request
// for each instance, on first sight, and then none for three hours.
func TestListsServeAllInstances(t *testing.T) {
	for _, n := range []int{1, 10, 200} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			inBubble(t, func(_ *testing.T, w *world) {
				ids := w.addNodes(n)
				w.requests()
				w.findAll(ids)
				// Once, it is proved that nothing follows the page of a list that has one. In the
				// subnet each instance has its interface, so that there can be no other.
				w.wantRequests("first sight", map[string]int{
					"current_user_view": 1, "project_view": 1,
					"instance_list": 2, "floating_ip_list": 1,
					"vpc_list": 2, "vpc_subnet_list": 2, "vpc_subnet_list_network_interfaces": 1,
					"instance_external_ip_list": n, "anti_affinity_group_list": 1,
				})
				w.findAll(ids)
				w.wantRequests("again at once", map[string]int{})
				time.Sleep(11 * time.Second)
				w.findAll(ids)
				w.wantRequests("after 11 s", map[string]int{"instance_list": 1})
				time.Sleep(time.Minute)
				w.findAll(ids)
				w.wantRequests("after a minute", map[string]int{
					"instance_list": 1, "floating_ip_list": 1,
					"vpc_subnet_list_network_interfaces": 1,
				})
				time.Sleep(3*time.Hour - 2*time.Minute)
				w.findAll(ids)
				if got := w.requests()["instance_external_ip_list"]; got != 0 {
					t.Errorf("%d ephemeral addresses were read again before three hours", got)
				}
			})
		})
	}
}

// Ephemeral addresses that were first read together are not read again together, and all are
// within six hours.
func TestEphemeralAddressesAreReadAgainRarelyAndSpreadOut(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const n, steps = 100, 12
		ids := w.addNodes(n)
		w.findAll(ids)
		time.Sleep(3 * time.Hour)
		w.requests()
		total := 0
		for range steps {
			time.Sleep(3 * time.Hour / steps)
			w.findAll(ids)
			got := w.requests()["instance_external_ip_list"]
			if total += got; got > 3*n/steps {
				t.Errorf("%d of %d are read again in a quarter of an hour", got, n)
			}
		}
		if total != n {
			t.Errorf("%d of %d were read again within six hours", total, n)
		}
	})
}

func TestNoInstanceIsShownWithoutItsEphemeralAddress(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		node := w.add(ourProject, oxidesim.InstanceSeed{Name: "node-1", NIC: "v4", Ephemeral: true})
		w.fault(oxidesim.Fault{Operation: "instance_external_ip_list", Status: 500, Nth: []int{1, 3}})
		_, err := w.finder.ByID(t.Context(), node.ID, instances.Full)
		wantError(t, err, oxide.KindInternal)
		first, err := w.finder.ByID(t.Context(), node.ID, instances.Full)
		w.must(err)
		if len(first.ExternalIPs) != 1 {
			t.Fatalf("got %+v", first)
		}
		// Known once, it is not lost because it could not be read again.
		time.Sleep(6 * time.Hour)
		for _, when := range []string{"the third request fails", "from memory"} {
			w.requests()
			again, err := w.finder.ByID(t.Context(), node.ID, instances.Full)
			w.must(err)
			if len(again.ExternalIPs) != 1 {
				t.Errorf("%s: got %+v", when, again)
			}
		}
		if got := w.requests()["instance_external_ip_list"]; got != 0 {
			t.Errorf("%d tries at once", got)
		}
		time.Sleep(6 * time.Minute)
		if _, err = w.finder.ByID(t.Context(), node.ID, instances.Full); err != nil {
			t.Error(err)
		}
		if got := w.requests()["instance_external_ip_list"]; got != 1 {
			t.Errorf("%d tries after some minutes, want 1", got)
		}
	})
}

func TestAddressesAreStableOverRepeatedReadings(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		node := w.add(ourProject, oxidesim.InstanceSeed{Name: "node-1", NIC: "dual", Ephemeral: true})
		for i := range 5 {
			_, err := w.rack.AddFloatingIP(ourProject, oxidesim.FloatingIPSeed{
				Name: fmt.Sprintf("f-%d", i), Instance: "node-1",
			})
			w.must(err)
		}
		first, err := w.finder.ByID(t.Context(), node.ID, instances.Full)
		w.must(err)
		if len(first.ExternalIPs) != 6 {
			t.Fatalf("got %+v", first)
		}
		for range 10 {
			w.forget()
			again, err := w.finder.ByID(t.Context(), node.ID, instances.Full)
			w.must(err)
			opts := cmp.Options{cmpopts.EquateComparable(netip.Addr{})}
			if diff := cmp.Diff(first, again, opts); diff != "" {
				t.Fatalf("-first +again:\n%s", diff)
			}
		}
	})
}

func TestTheFloatingIPsAreListedOnceForAllWhoNeedThem(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ids := w.addNodes(3)
		if _, err := w.inventory.FloatingIPs().After(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.findAll(ids)
		if got := w.requests()["floating_ip_list"]; got != 1 {
			t.Errorf("%d lists, want one", got)
		}
	})
}

// An instance without an interface may be one whose interface is on a page that is yet to come.
func TestASubnetInWhichAnInstanceIsMissingIsReadToItsEnd(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		ids := w.addNodes(3)
		w.add(ourProject, oxidesim.InstanceSeed{Name: "bare", NIC: "none"})
		w.requests()
		w.findAll(ids)
		if got := w.requests()["vpc_subnet_list_network_interfaces"]; got != 2 {
			w.t.Errorf("%d pages, want one with interfaces, and an empty one", got)
		}
	})
}

// An instance that is not in the facts at hand is looked for in facts that are read for it; only
// what was missing there is believed to be missing, and for a few seconds.
func TestInstanceNewerThanTheFactsIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.findAll([]string{w.node("node-1").ID})
		time.Sleep(time.Second)
		node := w.node("node-2")
		w.requests()
		w.findAll([]string{node.ID})
		w.wantRequests("a new instance", map[string]int{
			"instance_view": 1, "floating_ip_list": 1, "instance_external_ip_list": 1,
			"vpc_list": 1, "vpc_subnet_list": 1, "vpc_subnet_list_network_interfaces": 2,
		})
	})
}

func TestInstanceWithoutInterfaceCausesFewReadings(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.node("node-1")
		bare := w.add(ourProject, oxidesim.InstanceSeed{Name: "bare", NIC: "none"})
		look := func() {
			t.Helper()
			found, err := w.finder.ByID(t.Context(), bare.ID, instances.Full)
			w.must(err)
			if len(found.Interfaces) != 0 {
				t.Errorf("got %+v", found)
			}
		}
		look()
		w.requests()
		for range 100 {
			look()
		}
		if got := w.requests()["vpc_subnet_list_network_interfaces"]; got != 0 {
			t.Errorf("%d readings for what was missing a moment ago", got)
		}
		time.Sleep(6 * time.Second)
		look()
		if got := w.requests()["vpc_subnet_list_network_interfaces"]; got != 1 {
			t.Errorf("%d readings after six seconds, want 1", got)
		}
	})
}

func TestSubnetThatIsAddedLaterIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.findAll([]string{w.node("node-1").ID})
		w.must(w.rack.Apply(oxidesim.Seed{Silos: []oxidesim.SiloSeed{{
			Name: "demo",
			Projects: []oxidesim.ProjectSeed{{Name: "demo", VPCs: []oxidesim.VPCSeed{{
				Name: "late", Subnets: []oxidesim.SubnetSeed{{Name: "late", IPv4Block: "10.9.0.0/22"}},
			}}}},
		}}}))
		node := w.add(ourProject, oxidesim.InstanceSeed{
			Name: "node-2", NIC: "v4", VPC: "late", Subnet: "late",
		})
		found := w.findAll([]string{node.ID})[0]
		if got := found.Interfaces[0].Addrs[0]; !netip.MustParsePrefix("10.9.0.0/22").Contains(got) {
			t.Errorf("got %v", got)
		}
	})
}

// Oxide answers 404 for what the token may not read: interfaces that could not be read are an
// error, never none.
func TestRoleRevokedIsAnErrorAndNoEmptyFacts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		node := w.node("node-1")
		w.findAll([]string{node.ID})
		w.must(w.rack.SetSiloRole("demo", "none"))
		time.Sleep(2 * time.Minute)
		_, err := w.finder.ByID(t.Context(), node.ID, instances.Full)
		wantError(t, err, oxide.KindProjectNotFound)
		_, err = w.finder.Endpoints(t.Context(), []string{node.ID})
		wantError(t, err, oxide.KindProjectNotFound)
		_, _, err = w.finder.List(t.Context(), instances.Query{}, "", 10)
		wantError(t, err, oxide.KindProjectNotFound)
		w.must(w.rack.SetSiloRole("demo", "viewer"))
		w.findAll([]string{node.ID})
	})
}

func TestSubnetThatCannotBeReadIsAnError(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		node := w.node("node-1")
		w.findAll([]string{node.ID})
		w.fault(oxidesim.Fault{
			Operation: "vpc_subnet_list_network_interfaces", Status: 404, ErrorCode: "ObjectNotFound",
		})
		time.Sleep(2 * time.Minute)
		w.requests()
		_, err := w.finder.Endpoints(t.Context(), []string{node.ID})
		wantError(t, err, oxide.KindNotFound)
		if got := w.requests()["vpc_subnet_list"]; got != 1 {
			t.Errorf("the subnets were listed anew %d times, want once", got)
		}
	})
}

func TestRunStateOfTomorrowIsPassedOn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		node := w.node("node-1")
		w.rewrite("/v1/instances", `"running"`, `"hibernating"`)
		found := w.findAll([]string{node.ID})[0]
		if found.RunState != "hibernating" || found.ShutDown() {
			t.Errorf("got %+v", found)
		}
	})
}

// What a newer API lists at one instance is that instance's trouble alone, and said once.
func TestUnknownInterfaceIsContainedToItsInstance(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		logged := w.log()
		ids := w.addNodes(3)
		badID, bad := w.rack.Instances()[0].ID, w.rack.Instances()[0].PrivateIPs["v4"]
		w.rewrite("/network-interfaces", fmt.Sprintf(`"ip":"%s"`, bad), `"anycast":true`)
		for range 3 {
			for _, id := range ids {
				found, err := w.finder.ByID(t.Context(), id, instances.Full)
				if id != badID {
					if err != nil || len(found.Interfaces) != 1 {
						t.Errorf("another instance: %+v, %v", found, err)
					}
					continue
				}
				wantError(t, err, oxide.KindBadResponse)
				for _, part := range []string{
					"the network interfaces of instance " + badID, "a kind that this release does not know",
					"update the Oxide Cloud Controller Manager",
				} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q does not say %q", err, part)
					}
				}
				if endpoint := w.endpoint(id); endpoint.Addr(32).IsValid() {
					t.Errorf("packets arrive at %+v", endpoint)
				}
				if found, err := w.finder.ByID(t.Context(), id, instances.Basic); err != nil ||
					found.RunState != oxide.RunStateRunning {
					t.Errorf("its run state: %+v, %v", found, err)
				}
			}
			time.Sleep(2 * time.Minute)
		}
		if n := strings.Count(logged.String(), "does not know"); n != 1 {
			t.Errorf("said %d times:\n%s", n, logged)
		}
	})
}

func TestUnknownExternalIPIsLeftOutAndSaidOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		logged := w.log()
		var ids []string
		for i := range 3 {
			ids = append(ids, w.add(ourProject, oxidesim.InstanceSeed{
				Name: fmt.Sprintf("node-%d", i), NIC: "v4", Ephemeral: true,
			}).ID)
		}
		w.rewrite("/external-ips", `"kind":"snat"`, `"kind":"anycast"`)
		for _, found := range w.findAll(ids) {
			if len(found.ExternalIPs) != 1 || found.ExternalIPs[0].Kind != oxide.ExternalIPEphemeral {
				t.Errorf("got %+v", found)
			}
		}
		if n := strings.Count(logged.String(), "does not know"); n != 1 {
			t.Errorf("said %d times:\n%s", n, logged)
		}
	})
}

// A dead or slow Oxide delays a caller no longer than it wants to wait, and fails nobody else.
func TestCallerThatGivesUpFailsNobodyElse(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		node := w.node("node-1")
		rack := w.rack.Handler()
		w.handle(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(2 * time.Second)
			rack.ServeHTTP(rw, r)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := w.finder.ByID(ctx, node.ID, instances.Full)
			wantError(t, err, oxide.KindEnded)
		})
		synctest.Wait()
		w.findAll([]string{node.ID})
		wg.Wait()
		if got := w.requests()["instance_list"]; got != 2 { // its page, and the proof that none follows
			t.Errorf("%d requests, want one list that both wait for", got)
		}
	})
}

func TestAgeOfTheInventory(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		if age, ok := w.inventory.Age(); ok {
			t.Errorf("an empty inventory is %v old", age)
		}
		w.findAll(w.addNodes(1))
		time.Sleep(7 * time.Second)
		if age, ok := w.inventory.Age(); !ok || age != 7*time.Second {
			t.Errorf("%v, %v", age, ok)
		}
	})
}
