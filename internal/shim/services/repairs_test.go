// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// overwriting has somebody write another status within each of our writes, after it and before its
// answer, as long as that is wished for. It counts our writes.
func overwriting(e func() *cluster, client *fake.Clientset, more func(n int32) bool) *atomic.Int32 {
	var count atomic.Int32
	apply := clienttesting.ObjectReaction(client.Tracker())
	client.PrependReactor("patch", "services", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.(clienttesting.PatchAction).GetPatchType() == types.ApplyPatchType {
			return false, nil, nil // the condition
		}
		handled, object, err := apply(action)
		if n := count.Add(1); err != nil || !more(n) {
			return handled, object, err
		}
		other := object.(*v1.Service).DeepCopy()
		publishing("203.0.113.1")(other)
		err = client.Tracker().Update(action.GetResource(), other, other.Namespace)
		e().await("the cache shows the other status", func() bool {
			return shows(&e().c.cached("shop/web").Status.LoadBalancer, []string{"203.0.113.1"})
		})
		return handled, object, err
	})
	return &count
}

// What somebody writes while our own write is under way comes after that, and is repaired.
func TestAForeignWriteDuringOurOwnIsRepaired(t *testing.T) {
	client := fake.NewClientset(service(finalized))
	var e *cluster
	count := overwriting(func() *cluster { return e }, client, func(n int32) bool { return n == 1 })
	e = runWith(t, client, &peer{}, Config{})
	e.inSync()
	e.peer.answers(toPublish("198.51.100.9"))
	e.await("it is written again", func() bool { return count.Load() == 2 })
	e.status("shop/web", "198.51.100.9")
	e.stop()
	if n := count.Load(); n != 2 {
		t.Errorf("the status was written %d times", n)
	}
}

// Somebody who overwrites a status at each change is slowed down, however fast that is, with one
// event; what is to be published next is written at once all the same.
func TestWhoKeepsOverwritingAStatusIsSlowedDown(t *testing.T) {
	client := fake.NewClientset(service(finalized))
	var e *cluster
	count := overwriting(func() *cluster { return e }, client, func(int32) bool { return true })
	e = runWith(t, client, &peer{}, Config{TimeScale: 1000})
	e.inSync()
	e.peer.answers(toPublish("198.51.100.9"))
	e.recorded("Warning StatusOverwritten The addresses in the status were overwritten again and again")
	if n := count.Load(); n != 1+promptRepairs {
		t.Errorf("the status was written %d times", n)
	}
	e.peer.answers(toPublish("198.51.100.9", "172.30.0.12"))
	e.await("the new addresses are written", func() bool { return count.Load() == 2+promptRepairs })
	e.change("shop/web", publishing("203.0.113.2"))
	e.await("the cache shows it", func() bool {
		return shows(&e.c.cached("shop/web").Status.LoadBalancer, []string{"203.0.113.2"})
	})
	e.stop()
	if n := count.Load(); n != 2+promptRepairs {
		t.Errorf("the status was written %d times", n)
	}
	if sent := e.events.Sent(); len(sent) != 1 {
		t.Errorf("%d events: %q", len(sent), sent)
	}
}

// A change of something else that the cache shows first is no foreign write.
func TestAnOlderVersionOfAServiceIsNoForeignWrite(t *testing.T) {
	c := bare(t)
	c.track(service(), func(tracked *tracked) {
		tracked.status = statusRecord{publish: []string{"198.51.100.9"}, established: true, version: "10"}
	})
	state := stateEvent(c.describe(service()), toPublish("198.51.100.9")).GetState()
	at := func(version string) *v1.Service {
		return service(func(s *v1.Service) { s.ResourceVersion = version })
	}
	if wait := c.compare(at("9"), state); wait >= 0 {
		t.Errorf("it is written after %s", wait)
	}
	if wait := c.compare(at("11"), state); wait != 0 {
		t.Errorf("what somebody wrote since is repaired after %s", wait)
	}
}

func TestRepairsSlowDownAndRecover(t *testing.T) {
	var r repairs
	began := time.Unix(1e9, 0)
	now, perMinute := began, make(map[int]int)
	for now.Sub(began) < 10*time.Minute {
		now = r.next(now, 1)
		perMinute[int(now.Sub(began)/time.Minute)]++
	}
	for minute, n := range perMinute {
		if limit := 12; n > limit || minute > 0 && n > 4 {
			t.Errorf("in minute %d there are %d repairs", minute, n)
		}
	}
	if got := r.next(now.Add(calmAfter), 1); !got.Equal(now.Add(calmAfter)) {
		t.Errorf("after a while without any the pause is %s", got.Sub(now.Add(calmAfter)))
	}
}

func TestTheOtherWriterOfAStatusIsNamed(t *testing.T) {
	at := time.Date(2026, 11, 28, 1, 2, 3, 0, time.UTC)
	entry := func(manager, subresource, fields string, after time.Duration) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{
			Manager: manager, Subresource: subresource, Operation: metav1.ManagedFieldsOperationUpdate,
			Time: new(metav1.NewTime(at.Add(after))), FieldsV1: metav1.NewFieldsV1(fields),
		}
	}
	const addresses = `{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}`
	const emptied = `{"f:status":{"f:loadBalancer":{}}}`
	ours, nobody := entry(Name, "status", addresses, time.Hour), "somebody whom metadata.managedFields"
	for name, tt := range map[string]struct {
		fields []metav1.ManagedFieldsEntry
		want   string
	}{
		"nobody":          {nil, nobody},
		"ourselves alone": {[]metav1.ManagedFieldsEntry{ours}, nobody},
		"the only other one": {
			[]metav1.ManagedFieldsEntry{ours, entry("rival", "status", addresses, 0)},
			`the field manager "rival" (Update, 2026-11-28T01:02:03Z)`,
		},
		"who emptied it": {[]metav1.ManagedFieldsEntry{entry("rival", "status", emptied, 0)}, `"rival"`},
		"the last of several": {[]metav1.ManagedFieldsEntry{
			entry("second", "status", addresses, 2*time.Second), entry("first", "status", addresses, time.Second),
		}, `"second"`},
		"not who wrote before us": {
			[]metav1.ManagedFieldsEntry{entry("old", "status", addresses, -time.Second)}, nobody,
		},
		"not who wrote conditions": {
			[]metav1.ManagedFieldsEntry{entry("x", "status", `{"f:status":{"f:conditions":{}}}`, 0)}, nobody,
		},
		"not who wrote no status": {[]metav1.ManagedFieldsEntry{entry("x", "", addresses, 0)}, nobody},
		"what cannot be read":     {[]metav1.ManagedFieldsEntry{entry("x", "status", `{`, 0), {}}, nobody},
	} {
		s := service(func(s *v1.Service) { s.ManagedFields = tt.fields })
		if got := otherWriter(s, at); !strings.Contains(got, tt.want) {
			t.Errorf("%s: it was %s", name, got)
		}
	}
	s := service(func(s *v1.Service) { s.ManagedFields = []metav1.ManagedFieldsEntry{ours} })
	if got := ownWrite(s); !got.Equal(at.Add(time.Hour)) {
		t.Errorf("our own write was at %s", got)
	}
}
