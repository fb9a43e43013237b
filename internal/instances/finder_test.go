// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func TestByIDAndByNameFindTheInstanceWithItsSilo(t *testing.T) {
	w := newWorld(t)
	node := w.node("node-1")
	identity, err := w.client.Identity(t.Context())
	w.must(err)
	type lookup func(context.Context, string, instances.View) (instances.Instance, error)
	for _, tc := range []struct {
		how  string
		find lookup
		key  string
	}{
		{"id", w.finder.ByID, node.ID},
		{"name", w.finder.ByName, "node-1"},
		{"hostname", w.finder.ByHostname, "node-1"},
	} {
		t.Run(tc.how, func(t *testing.T) {
			found, err := tc.find(t.Context(), tc.key, instances.Full)
			w.must(err)
			if found.ID != node.ID || found.SiloID != identity.SiloID ||
				found.ProjectID != identity.ProjectID || len(found.Interfaces) != 1 {
				t.Errorf("got %+v", found)
			}
		})
	}
}

// lookups are the ways to find an instance that does not exist.
var lookups = []struct {
	name string
	find func(*world) (instances.Instance, error)
	text string
}{
	{
		"id",
		func(w *world) (instances.Instance, error) {
			return w.finder.ByID(w.t.Context(), anID, instances.Full)
		},
		"instance " + anID + " does not exist",
	},
	{
		"name",
		func(w *world) (instances.Instance, error) {
			return w.finder.ByName(w.t.Context(), "node-9", instances.Full)
		},
		"instance node-9 does not exist",
	},
	{
		"hostname",
		func(w *world) (instances.Instance, error) {
			return w.finder.ByHostname(w.t.Context(), "node-9.example", instances.Full)
		},
		"an instance with the hostname node-9.example does not exist",
	},
}

func TestNotFoundIsSaidOnlyWhileTheProjectIsReadable(t *testing.T) {
	for _, lookup := range lookups {
		t.Run(lookup.name, func(t *testing.T) {
			w := newWorld(t)
			w.node("node-1")
			_, err := lookup.find(w)
			wantNotFound(t, err, lookup.text)

			w.must(w.rack.SetSiloRole("demo", "none"))
			_, err = lookup.find(w)
			wantError(t, err, oxide.KindProjectNotFound)

			w.must(w.rack.SetSiloRole("demo", "viewer"))
			_, err = lookup.find(w)
			wantNotFound(t, err, lookup.text)

			w.rack.RevokeToken(oxidesim.DefaultToken)
			_, err = lookup.find(w)
			wantError(t, err, oxide.KindUnauthorized)
		})
	}
}

func TestInstanceOfAnotherProjectIsElsewhere(t *testing.T) {
	w := newWorld(t)
	node := w.add(secondProject, oxidesim.InstanceSeed{Name: "node-1", Hostname: "node-1.example"})
	_, err := w.finder.ByID(t.Context(), node.ID, instances.Full)
	if !instances.IsElsewhere(err) || errors.Is(err, instances.ErrNotFound) {
		t.Errorf("got %v, want that it is elsewhere", err)
	}
	checkText(t, err)
	if !strings.Contains(err.Error(), node.ID) {
		t.Errorf("does not name the instance: %v", err)
	}
	// Its name and hostname mean nothing in our project.
	_, err = w.finder.ByName(t.Context(), "node-1", instances.Full)
	wantNotFound(t, err, "instance node-1 does not exist")
	_, err = w.finder.ByHostname(t.Context(), "node-1.example", instances.Full)
	wantNotFound(t, err, "an instance with the hostname node-1.example does not exist")
}

func TestByHostnameDisregardsCase(t *testing.T) {
	w := newWorld(t)
	node := w.add(ourProject, oxidesim.InstanceSeed{Name: "a", Hostname: "Node-1.Example"})
	w.add(ourProject, oxidesim.InstanceSeed{Name: "b", Hostname: "node-1.example.com"})
	for _, hostname := range []string{"node-1.example", "NODE-1.EXAMPLE", "Node-1.Example"} {
		found, err := w.finder.ByHostname(t.Context(), hostname, instances.Full)
		if err != nil || found.ID != node.ID {
			t.Errorf("%s: got %s, %v", hostname, found.Name, err)
		}
	}
	_, err := w.finder.ByHostname(t.Context(), "node-1", instances.Full)
	wantNotFound(t, err, "an instance with the hostname node-1 does not exist")
}

func TestAmbiguousHostnameNamesTheInstances(t *testing.T) {
	for _, tc := range []struct {
		count int
		want  string
	}{
		{2, "2 instances have the hostname host: n-00, n-01; say which by its id (of a node, " +
			"the provider ID), or by its name"},
		{5, "5 instances have the hostname host: n-00, n-01, n-02, n-03, n-04; " +
			"say which by its id (of a node, the provider ID), or by its name"},
		{50, "50 instances have the hostname host: n-00, n-01, n-02, n-03, n-04 and 45 more; " +
			"say which by its id (of a node, the provider ID), or by its name"},
	} {
		t.Run(strconv.Itoa(tc.count), func(t *testing.T) {
			w := newWorld(t)
			var want []string
			for i := range tc.count {
				name := fmt.Sprintf("n-%02d", i)
				w.add(ourProject, oxidesim.InstanceSeed{Name: name, Hostname: "host", NIC: "none"})
				want = append(want, name)
			}
			_, err := w.finder.ByHostname(t.Context(), "host", instances.Full)
			var ambiguous *instances.AmbiguousError
			if !errors.As(err, &ambiguous) || errors.Is(err, instances.ErrNotFound) {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(want, ambiguous.Names); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if err.Error() != tc.want {
				t.Errorf("got  %s\nwant %s", err, tc.want)
			}
		})
	}
	t.Run("long names", func(t *testing.T) {
		err := &instances.AmbiguousError{Hostname: "host"}
		for i := range 50 {
			err.Names = append(err.Names, fmt.Sprintf("%s%02d", strings.Repeat("n", 61), i))
		}
		checkText(t, err)
	})
}

func TestListGivesAllInstancesInPagesOrderedByID(t *testing.T) {
	w := newWorld(t)
	names := map[string]bool{}
	for i := range 7 {
		names[w.node(fmt.Sprintf("node-%d", i)).Name] = true
	}
	w.add(secondProject, oxidesim.InstanceSeed{Name: "elsewhere"})
	for _, limit := range []int{1, 3, 6, 7, 8} {
		t.Run(strconv.Itoa(limit), func(t *testing.T) {
			got := map[string]bool{}
			for after, more := "", true; more; {
				var page []instances.Instance
				var err error
				page, more, err = w.finder.List(t.Context(), instances.Query{}, after, limit)
				w.must(err)
				if len(page) == 0 || len(page) > limit || more && len(page) < limit {
					t.Fatalf("a page of %d, more: %v", len(page), more)
				}
				for _, found := range page {
					if found.ID <= after {
						t.Fatalf("%s comes after %s", found.ID, after)
					}
					if len(found.Interfaces) != 1 {
						t.Errorf("%s has no addresses", found.Name)
					}
					after = found.ID
					got[found.Name] = true
				}
			}
			if diff := cmp.Diff(names, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestListOfAnEmptyProjectIsEmpty(t *testing.T) {
	w := newWorld(t)
	if got, more, err := w.finder.List(t.Context(), instances.Query{}, "", 10); err != nil || more || len(got) > 0 {
		t.Errorf("got %v, %v, %v", got, more, err)
	}
	w.must(w.rack.SetSiloRole("demo", "none"))
	w.forget()
	_, _, err := w.finder.List(t.Context(), instances.Query{}, "", 10)
	wantError(t, err, oxide.KindProjectNotFound)
}

// An instance whose addresses are not known is an error: with none, a node would lose them.
func TestFailedReadOfAddressesFailsTheLookup(t *testing.T) {
	for _, operation := range []string{
		"vpc_list", "vpc_subnet_list", "vpc_subnet_list_network_interfaces", "floating_ip_list",
		"instance_external_ip_list",
	} {
		t.Run(operation, func(t *testing.T) {
			w := newWorld(t)
			node := w.node("node-1")
			w.fault(oxidesim.Fault{Operation: operation, Status: 500})
			found, err := w.finder.ByID(t.Context(), node.ID, instances.Full)
			wantError(t, err, oxide.KindInternal)
			if found.ID != "" {
				t.Errorf("got %+v besides the error", found)
			}
			_, _, err = w.finder.List(t.Context(), instances.Query{}, "", 10)
			wantError(t, err, oxide.KindInternal)
		})
	}
}

// What was listed a moment ago will do for ByID; ByIDNow sees what has changed since, by a list that
// callers share.
func TestByIDNowSeesWhatHasJustChanged(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ids := w.addNodes(50)
		w.findAll(ids)
		for _, id := range ids {
			w.must(w.rack.SetRunState(id, oxide.RunStateStopped))
		}
		w.requests()
		for _, found := range w.findAll(ids) {
			if found.RunState != oxide.RunStateRunning {
				t.Errorf("ByID asked Oxide: %+v", found)
			}
		}
		w.wantRequests("ByID", map[string]int{})
		var wg sync.WaitGroup
		for _, id := range ids {
			wg.Go(func() {
				found, err := w.finder.ByIDNow(t.Context(), id, instances.Full)
				if err != nil || found.RunState != oxide.RunStateStopped {
					t.Errorf("ByIDNow: %+v, %v", found, err)
				}
			})
		}
		wg.Wait()
		got := w.requests()
		if n := got["instance_list"]; n < 1 || n > 2 || len(got) > 1 {
			t.Errorf("ByIDNow cost %v for 50 instances, want a list or two", got)
		}
	})
}

// A name may pass from a deleted instance to a new one at any moment.
func TestByNameNeverReturnsTheFormerHolderOfAName(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for range 5 {
			node := w.node("node-1")
			for how, find := range map[string]func(
				context.Context, string, instances.View) (instances.Instance, error){
				"name": w.finder.ByName, "hostname": w.finder.ByHostname,
			} {
				if found, err := find(t.Context(), "node-1", instances.Full); err != nil ||
					found.ID != node.ID {
					t.Errorf("by %s: %s, %v, want %s", how, found.ID, err, node.ID)
				}
			}
			w.must(w.rack.RemoveInstance(node.ID))
		}
		_, err := w.finder.ByName(t.Context(), "node-1", instances.Full)
		wantNotFound(t, err, "instance node-1 does not exist")
	})
}

func TestRunState(t *testing.T) {
	w := newWorld(t)
	node := w.node("node-1")
	w.must(w.rack.SetRunState(node.ID, oxide.RunStateMigrating))
	if got, err := w.finder.RunState(t.Context(), node.ID); got != oxide.RunStateMigrating ||
		err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	_, err := w.finder.RunState(t.Context(), anID)
	wantError(t, err, oxide.KindNotFound)
}
