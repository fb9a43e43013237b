// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package events

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	ktesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
)

// An event that the API server refuses is recorded no more often than one that it takes.
func TestEventsThatAreRefusedAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		var writes atomic.Int32
		client.PrependReactor("*", "events", func(ktesting.Action) (bool, runtime.Object, error) {
			writes.Add(1)
			return true, nil, apierrors.NewForbidden(v1.Resource("events"), "web", nil)
		})
		broadcaster := record.NewBroadcaster()
		broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
		reporter := NewReporter(broadcaster.NewRecorder(scheme.Scheme, v1.EventSource{Component: "test"}))
		node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker-1", UID: "uid-1"}}
		for range 30 * 12 {
			reporter.Record(Node(node), Event{
				Key: "removal", Type: v1.EventTypeWarning, Reason: "NodeKept", Message: "it is kept",
			})
			time.Sleep(5 * time.Second)
		}
		if got := writes.Load(); got != 1 {
			t.Errorf("%d writes in 30 minutes, want 1", got)
		}
		broadcaster.Shutdown()
	})
}
