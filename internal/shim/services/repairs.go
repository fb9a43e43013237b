// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"encoding/json"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// promptRepairs is how often a status that somebody else has overwritten is restored at once.
	// After that the pauses double from firstPause to lastPause, until nobody has overwritten it for
	// calmAfter.
	promptRepairs = 5
	firstPause    = time.Second
	lastPause     = 15 * time.Second
	calmAfter     = time.Minute
)

// repairs are those of a status that somebody else overwrites.
type repairs struct {
	// count is how many there were since the status was last left alone, and last when the last one
	// was due.
	count int
	last  time.Time
}

// next returns when the status may be restored that was found overwritten now; all times are scaled.
func (r *repairs) next(now time.Time, scale float64) time.Time {
	scaled := func(d time.Duration) time.Duration { return time.Duration(float64(d) * scale) }
	if now.Sub(r.last) >= scaled(calmAfter) {
		r.count = 0
	}
	r.count++
	r.last = now
	if slow := r.count - promptRepairs; slow > 0 {
		r.last = now.Add(scaled(min(firstPause<<min(slow-1, 8), lastPause)))
	}
	return r.last
}

// reportRepairs records who keeps overwriting a status, once it is restored after pauses; since is
// when it was last restored.
func (c *Controller) reportRepairs(service *v1.Service, before, after repairs, since time.Time) {
	const reason = "StatusOverwritten"
	switch {
	case after == before:
	case after.count <= promptRepairs:
		c.config.Reporter.Clear(service.UID, reason)
	default:
		c.warn(service, reason, "", "The addresses in the status were overwritten again and again, last by "+
			otherWriter(service, since)+": they are restored after pauses now; let only one controller "+
			"serve the Service")
	}
}

// otherWriter says who else wrote the addresses in the status of a Service last, and not before a
// time, as far as its managed fields say so: of who only removes addresses they keep nothing.
func otherWriter(service *v1.Service, since time.Time) string {
	var last *metav1.ManagedFieldsEntry
	for i := range service.ManagedFields {
		entry := &service.ManagedFields[i]
		if entry.Manager != Name && hasAddresses(entry) && !entry.Time.Time.Before(since) &&
			(last == nil || !entry.Time.Before(last.Time)) {
			last = entry
		}
	}
	if last == nil {
		return "somebody whom metadata.managedFields does not name (the audit log of the API server does)"
	}
	return fmt.Sprintf("the field manager %.100q (%s, %s)", last.Manager, last.Operation,
		last.Time.UTC().Format(time.RFC3339))
}

// ownWrite returns when this program wrote the addresses in the status of a Service, by the clock
// of the API server; the zero time: that is not known.
func ownWrite(service *v1.Service) time.Time {
	for i := range service.ManagedFields {
		if entry := &service.ManagedFields[i]; entry.Manager == Name && hasAddresses(entry) {
			return entry.Time.Time
		}
	}
	return time.Time{}
}

// hasAddresses reports whether a field manager has set the addresses in the status.
func hasAddresses(entry *metav1.ManagedFieldsEntry) bool {
	var fields struct {
		Status struct {
			LoadBalancer *struct{} `json:"f:loadBalancer"`
		} `json:"f:status"`
	}
	return entry.Subresource == "status" && entry.Time != nil && entry.FieldsV1 != nil &&
		json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) == nil && fields.Status.LoadBalancer != nil
}
