// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package events

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
)

// sent takes what was sent out of the recorder.
func sent(recorder *record.FakeRecorder) []string {
	var all []string
	for {
		select {
		case event := <-recorder.Events:
			all = append(all, event)
		default:
			return all
		}
	}
}

func TestEachThingIsToldOnce(t *testing.T) {
	warning := func(cause string) Event {
		return Event{
			Key: "t", DedupKey: cause, Type: v1.EventTypeWarning, Reason: "R", Message: cause,
		}
	}
	hello := Event{Key: "hello", Type: v1.EventTypeNormal, Reason: "R", Message: "hello"}
	a := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: types.UID("1")}}
	again := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: types.UID("2")}}
	for _, tt := range []struct {
		name string
		do   func(*Reporter)
		want []string
	}{
		{"the same again", func(r *Reporter) {
			r.Record(Node(a), warning("x"))
			r.Record(Node(a), warning("x"))
		}, []string{"Warning R x"}},
		{"another cause, and back", func(r *Reporter) {
			r.Record(Node(a), warning("x"))
			r.Record(Node(a), warning("y"))
			r.Record(Node(a), warning("x"))
		}, []string{"Warning R x", "Warning R y"}},
		{"another Node under the same name", func(r *Reporter) {
			r.Record(Node(a), warning("x"))
			r.Record(Node(again), warning("x"))
		}, []string{"Warning R x", "Warning R x"}},
		{"a warning that still holds after an hour", func(r *Reporter) {
			r.Record(Node(a), warning("x"))
			time.Sleep(repeatAfter)
			r.Record(Node(a), warning("x"))
			r.Record(Node(a), warning("x"))
		}, []string{"Warning R x", "Warning R x"}},
		{"what is no warning, after an hour", func(r *Reporter) {
			r.Record(Node(a), hello)
			time.Sleep(repeatAfter)
			r.Record(Node(a), hello)
		}, []string{"Normal R hello"}},
		{"a topic that was settled", func(r *Reporter) {
			r.Record(Node(a), warning("x"))
			r.Record(Node(a), hello)
			r.Clear(a.UID, "t")
			r.Record(Node(a), warning("x"))
			r.Record(Node(a), hello)
		}, []string{"Warning R x", "Normal R hello", "Warning R x"}},
		{"a topic that was settled but for one cause", func(r *Reporter) {
			r.Record(Node(a), warning("x"))
			r.Record(Node(a), warning("y"))
			r.Clear(a.UID, "t", "y", "z")
			r.Record(Node(a), warning("y"))
			r.Record(Node(a), warning("x"))
		}, []string{"Warning R x", "Warning R y", "Warning R x"}},
		{"a Service of the same name as a Node", func(r *Reporter) {
			r.Record(Node(a), warning("x"))
			r.Record(Service(&v1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "3"}}),
				warning("x"))
		}, []string{"Warning R x", "Warning R x"}},
		{"a Node that was forgotten", func(r *Reporter) {
			r.Record(Node(a), hello)
			r.Forget(a.UID)
			r.Record(Node(a), hello)
		}, []string{"Normal R hello", "Normal R hello"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				recorder := record.NewFakeRecorder(10)
				tt.do(NewReporter(recorder))
				if diff := cmp.Diff(tt.want, sent(recorder)); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestTellSaysWhetherItTold(t *testing.T) {
	r := NewReporter(record.NewFakeRecorder(10))
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{UID: types.UID("1")}}
	event := Event{Key: "t", DedupKey: "c", Type: v1.EventTypeWarning}
	if !r.Record(Node(node), event) || r.Record(Node(node), event) {
		t.Error("it tells the first time, and no more")
	}
}
