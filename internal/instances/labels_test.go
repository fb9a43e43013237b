// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// The backend reads the project again every minute, for its readiness.
func TestTheNameOfTheProjectFollowsARename(t *testing.T) {
	w := newWorld(t)
	node := w.node("node-1")
	for _, name := range []string{"demo", "renamed"} {
		for _, view := range []instances.View{instances.Basic, instances.Full} {
			found, err := w.finder.ByIDNow(t.Context(), node.ID, view)
			w.must(err)
			if found.ProjectName != name {
				t.Errorf("view %d: the project is %q, want %q", view, found.ProjectName, name)
			}
		}
		if name == "demo" {
			w.call(http.MethodPut, "/v1/projects/demo", `{"name": "renamed"}`)
			_, err := w.client.ReadIdentity(t.Context())
			w.must(err)
		}
	}
}

// group makes an anti-affinity group, and puts stopped instances into it. It returns its path.
func (w *world) group(name string, members ...string) string {
	w.t.Helper()
	w.ask(http.MethodPost, "/v1/anti-affinity-groups?project=demo", fmt.Sprintf(
		`{"name": %q, "description": "", "policy": "allow", "failure_domain": "sled"}`, name))
	for _, member := range members {
		w.ask(http.MethodPost, "/v1/anti-affinity-groups/"+name+"/members/instance/"+member+
			"?project=demo", "")
	}
	return "/v1/anti-affinity-groups/" + name + "?project=demo"
}

// ask asks the rack something as the default user, without a network between.
func (w *world) ask(method, path, body string) {
	w.t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+oxidesim.DefaultToken)
	req.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	w.rack.Handler().ServeHTTP(answer, req)
	if answer.Code > 299 {
		w.t.Fatalf("%s %s: HTTP %d %s", method, path, answer.Code, answer.Body)
	}
}

// stopped adds instances that do not run: only such ones can be put into a group.
func (w *world) stopped(names ...string) []string {
	w.t.Helper()
	ids := make([]string, len(names))
	for i, name := range names {
		ids[i] = w.node(name).ID
		w.must(w.rack.SetRunState(name, oxide.RunStateStopped))
	}
	return ids
}

// groupsOf returns what is said of the groups of instances.
func (w *world) groupsOf(ids []string) []string {
	w.t.Helper()
	said := make([]string, len(ids))
	for i, found := range w.findAll(ids) {
		said[i] = strings.Join(found.AntiAffinityGroups, " ")
		if !found.AntiAffinityGroupsKnown {
			said[i] += "unknown"
		}
	}
	return said
}

func (w *world) wantGroups(when string, ids []string, want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.groupsOf(ids)); diff != "" {
		w.t.Errorf("%s: -want +got:\n%s", when, diff)
	}
}

// Groups cost one list of them and one of the members of each, however many instances there are, and
// again five minutes later, if somebody asks.
func TestGroupsAreReadForAllInstancesTogether(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		ids := append(w.stopped("node-0", "node-1", "node-2"), w.node("node-3").ID)
		web := w.group("web", "node-0", "node-1")
		w.group("etcd", "node-0", "node-2")
		w.group("empty")
		cost := func(when string, lists, members int) {
			w.t.Helper()
			got := w.requests()
			if got["anti_affinity_group_list"] != lists ||
				got["anti_affinity_group_member_list"] != members ||
				got["instance_anti_affinity_group_list"] != 0 {
				w.t.Errorf("%s: %v", when, got)
			}
		}
		w.requests()
		w.wantGroups("first sight", ids, "etcd web", "web", "etcd", "")
		cost("first sight", 2, 5) // with the proofs that nothing follows a page
		w.ask(http.MethodDelete, web, "")
		time.Sleep(4 * time.Minute)
		w.wantGroups("after four minutes", ids, "etcd web", "web", "etcd", "")
		cost("after four minutes", 0, 0)
		time.Sleep(2 * time.Minute)
		w.wantGroups("after six minutes", ids, "etcd", "", "etcd", "")
		cost("after six minutes", 2, 2) // the list has become shorter
		time.Sleep(time.Hour)
		cost("nobody asks", 0, 0)
	})
}

// No node waits for its groups, and nobody may take it for out of them, because they cannot be read.
func TestGroupsThatCannotBeReadAreUnknownAndFailNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ids := w.stopped("node-0")
		w.group("web", "node-0")
		for _, operation := range []string{"list", "member_list"} {
			w.forget()
			w.fault(oxidesim.Fault{
				ID: operation, Operation: "anti_affinity_group_" + operation, Status: 500,
			})
			logged := w.log()
			w.requests()
			for range 5 {
				w.wantGroups("at first", ids, "unknown")
				time.Sleep(10 * time.Second)
			}
			if got := w.requests()["anti_affinity_group_list"]; got != 1 {
				t.Errorf("%d tries within a minute", got)
			}
			if n := strings.Count(logged.String(), "list the anti-affinity groups; "); n != 1 {
				t.Errorf("told %d times:\n%s", n, logged)
			}
			w.rack.RemoveFault(operation)
			time.Sleep(time.Minute)
			w.wantGroups("later", ids, "web")
			w.fault(oxidesim.Fault{
				ID: operation, Operation: "anti_affinity_group_" + operation, Status: 503,
			})
			time.Sleep(10 * time.Minute)
			w.wantGroups("once known", ids, "web")
			w.rack.RemoveFault(operation)
		}
	})
}

func TestAGroupThatIsDeletedMeanwhileIsNoError(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		ids := w.stopped("node-0")
		w.group("web", "node-0")
		w.fault(oxidesim.Fault{
			Operation: "anti_affinity_group_member_list", Status: 404,
			ErrorCode: "ObjectNotFound", Nth: []int{1},
		})
		w.wantGroups("read again", ids, "web")
	})
}

func TestWhoWatchesIsToldOfGroups(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.stopped("node-0")
		v := w.watch(nil)
		defer v.end(t)
		v.want(t, "node-0 stopped, complete 0s")
		w.group("web", "node-0")
		time.Sleep(6*time.Minute + time.Second) // between two lists
		v.want(t, "node-0 stopped")
	})
}

// One query tells the racks of all instances; it is repeated after ten minutes, or after one if a
// running instance is not in it.
func TestRacksAreReadForAllInstancesTogetherIfSomebodyAsks(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ids := w.addNodes(20)
		want := func(when string, id, rack string, queries int) {
			t.Helper()
			if got := w.inventory.Rack(t.Context(), id); got != rack {
				t.Errorf("%s: the rack is %q, want %q", when, got, rack)
			}
			if got := w.requests()["timeseries_query"]; got != queries {
				t.Errorf("%s: %d queries, want %d", when, got, queries)
			}
		}
		rack := w.rack.State().RackID
		w.findAll(ids)
		if got := w.requests()["timeseries_query"]; got != 0 {
			t.Errorf("%d queries although nobody asked", got)
		}
		want("first", ids[0], rack, 1)
		for _, id := range ids {
			want("the others", id, rack, 0)
		}
		added := w.node("late").ID
		want("at once", added, "", 0)
		time.Sleep(61 * time.Second)
		want("a minute later", added, rack, 1)
		time.Sleep(9 * time.Minute)
		want("nine minutes later", ids[0], rack, 0)
		time.Sleep(2 * time.Minute)
		want("two more", ids[0], rack, 1)

		w.fault(oxidesim.Fault{ID: "down", Operation: "timeseries_query", Status: 500})
		time.Sleep(11 * time.Minute)
		want("it fails", ids[0], rack, 1)
		want("it is not repeated at once", ids[0], rack, 0)
		w.forget()
		want("it never succeeded", ids[0], "", 1)
	})
}

func TestRacksAreWatchedIfAWatcherWantsThem(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.node("node-0")
		without := w.watch(nil)
		defer without.end(t)
		without.want(t, "node-0 running, complete 0s")
		time.Sleep(time.Minute)
		if got := w.requests()["timeseries_query"]; got != 0 {
			t.Errorf("%d queries although nobody asked", got)
		}
		var racks []string
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = w.inventory.Watch(ctx, true, func(e instances.Event) error {
				if e.Instance != nil {
					racks = append(racks, e.Instance.RackID)
				}
				return nil
			}, func(time.Duration) {})
		}()
		time.Sleep(9 * time.Minute)
		if got := w.requests()["timeseries_query"]; got != 1 {
			t.Errorf("%d queries in nine minutes", got)
		}
		w.must(w.rack.SetRunState("node-0", oxide.RunStateStopped))
		time.Sleep(9*time.Minute + time.Second) // between two lists
		if got := w.requests()["timeseries_query"]; got != 1 {
			t.Errorf("%d queries in nine more minutes, with an instance that does not run", got)
		}
		cancel()
		<-done
		// Unknown at first, known while it runs, still known when it has just stopped.
		rack := w.rack.State().RackID
		if diff := cmp.Diff([]string{"", rack, rack, ""}, racks); diff != "" {
			t.Errorf("racks (-want +got):\n%s", diff)
		}
	})
}
