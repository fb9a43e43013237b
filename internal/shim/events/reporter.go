// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package events

import (
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
)

// repeatAfter is when something that still holds is recorded again: API servers keep events for an hour
// by default, and whoever inspects an object after that should still see why it is as it is.
const repeatAfter = time.Hour

// Reporter records events on Nodes and Services. It may be used concurrently.
type Reporter struct {
	recorder record.EventRecorder

	mu       sync.Mutex
	recorded map[types.UID]map[subject]time.Time
}

// subject identifies what was recorded on an object.
type subject struct{ key, dedupKey string }

// NewReporter returns a Reporter that records by way of recorder, which must not block.
func NewReporter(recorder record.EventRecorder) *Reporter {
	return &Reporter{recorder: recorder, recorded: make(map[types.UID]map[subject]time.Time)}
}

// Event is what is recorded.
type Event struct {
	// Key and DedupKey identify what is recorded: the same is recorded once on each object; a warning
	// again after an hour, if it still holds. The text may differ from time to time, these may not.
	Key, DedupKey string

	// Type is v1.EventTypeNormal or v1.EventTypeWarning.
	Type string

	// Reason is one word for machines, Message one line for people.
	Reason, Message string
}

// Record records an event on an object, unless that was done before. It reports whether it did.
func (r *Reporter) Record(object *v1.ObjectReference, event Event) bool {
	if !r.isNews(object.UID, event) {
		return false
	}
	r.recorder.Event(object, event.Type, event.Reason, event.Message)
	return true
}

// Node refers to a Node.
func Node(node *v1.Node) *v1.ObjectReference {
	return &v1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
}

// Service refers to a Service.
func Service(service *v1.Service) *v1.ObjectReference {
	return &v1.ObjectReference{
		APIVersion: "v1", Kind: "Service", Namespace: service.Namespace, Name: service.Name,
		UID: service.UID, ResourceVersion: service.ResourceVersion,
	}
}

func (r *Reporter) isNews(object types.UID, event Event) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	about := subject{event.Key, event.DedupKey}
	last, again := r.recorded[object][about]
	if again && (event.Type != v1.EventTypeWarning || now.Sub(last) < repeatAfter) {
		return false
	}
	if r.recorded[object] == nil {
		r.recorded[object] = make(map[subject]time.Time)
	}
	r.recorded[object][about] = now
	return true
}

// Clear forgets what was recorded on an object under a key, but for these: it holds no more, and would
// be news again.
func (r *Reporter) Clear(object types.UID, key string, except ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for about := range r.recorded[object] {
		if about.key == key && !slices.Contains(except, about.dedupKey) {
			delete(r.recorded[object], about)
		}
	}
}

// Forget forgets an object that there is no more.
func (r *Reporter) Forget(object types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.recorded, object)
}
