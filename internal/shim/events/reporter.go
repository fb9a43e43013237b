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

// repeatAfter is when something that still holds is told again: API servers keep events for an hour
// by default, and who looks at an object after that should still see why it is as it is.
const repeatAfter = time.Hour

// Reporter sends events on Nodes and Services. It may be used concurrently.
type Reporter struct {
	recorder record.EventRecorder

	mu   sync.Mutex
	told map[types.UID]map[subject]time.Time
}

// subject identifies what was told of an object.
type subject struct{ topic, cause string }

// NewReporter returns a Reporter that sends by way of recorder, which must not block.
func NewReporter(recorder record.EventRecorder) *Reporter {
	return &Reporter{recorder: recorder, told: make(map[types.UID]map[subject]time.Time)}
}

// Event is what is told.
type Event struct {
	// Topic and Cause identify what is told: the same is told once for each object; a warning again
	// after an hour, if it still holds. The text may differ from time to time, these may not.
	Topic, Cause string

	// Type is v1.EventTypeNormal or v1.EventTypeWarning.
	Type string

	// Reason is one word for machines, Message one line for people.
	Reason, Message string
}

// Tell sends an event about an object, unless that was told before. It reports whether it did.
func (r *Reporter) Tell(object *v1.ObjectReference, event Event) bool {
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
	about := subject{event.Topic, event.Cause}
	last, told := r.told[object][about]
	if told && (event.Type != v1.EventTypeWarning || now.Sub(last) < repeatAfter) {
		return false
	}
	if r.told[object] == nil {
		r.told[object] = make(map[subject]time.Time)
	}
	r.told[object][about] = now
	return true
}

// Settle ends a topic of an object, but for what is told by these causes: what else was told of it holds
// no more, and would be news again.
func (r *Reporter) Settle(object types.UID, topic string, except ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for about := range r.told[object] {
		if about.topic == topic && !slices.Contains(except, about.cause) {
			delete(r.told[object], about)
		}
	}
}

// Forget forgets an object that there is no more.
func (r *Reporter) Forget(object types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.told, object)
}
