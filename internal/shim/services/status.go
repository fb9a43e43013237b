// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	// writeTimeout is how long the write of one status may take.
	writeTimeout = 10 * time.Second

	// firstRetry and lastRetry bound the pauses before a status is written again that could not be.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// statusRecord is what is remembered of the status of a Service.
type statusRecord struct {
	// publish is what was to be published last. established: the status has shown just that since, or
	// it was written: whatever else it shows was written by somebody else.
	publish     []string
	established bool
	// stale is the Service in whose place it was written, and version the resourceVersion that came
	// of that: the cache has yet to show it. since is when that was, by the API server's clock.
	stale   *v1.Service
	version string
	since   time.Time
	// repairs are those of it. One that is due waits until eligibleAt.
	repairs    repairs
	due        bool
	eligibleAt time.Time
}

// isStale reports whether the cache has yet to show what was written.
func (r *statusRecord) isStale(service *v1.Service) bool {
	if r.stale == service {
		return service != nil
	}
	order, err := resourceversion.CompareResourceVersion(service.ResourceVersion, r.version)
	return err == nil && order < 0
}

// outlasting returns what the status of a Service publishes, and with it what somebody has
// overwritten there again and again, and is restored after a pause only: were it left out, a move
// would wait for that, as it does until its next place is published.
func (r *statusRecord) outlasting(service *v1.Service, shown []string) []string {
	if !r.due || !time.Now().Before(r.eligibleAt) || shows(&service.Status.LoadBalancer, r.publish) {
		return shown
	}
	all := slices.Clone(r.publish)
	for _, address := range shown {
		if !slices.Contains(all, address) {
			all = append(all, address)
		}
	}
	return all[:min(len(all), maxPublished)]
}

// statusOf returns the status that publishes addresses, in their order. All have the mode VIP:
// packets arrive with the published address as their destination, and without a proxy between.
func statusOf(addresses []string) *v1.LoadBalancerStatus {
	mode := v1.LoadBalancerIPModeVIP
	status := &v1.LoadBalancerStatus{Ingress: []v1.LoadBalancerIngress{}}
	for _, address := range addresses {
		status.Ingress = append(status.Ingress, v1.LoadBalancerIngress{IP: address, IPMode: &mode})
	}
	return status
}

// shows reports whether a status is the one that publishes these addresses. A mode that is missing
// is VIP.
func shows(status *v1.LoadBalancerStatus, addresses []string) bool {
	return slices.EqualFunc(status.Ingress, addresses, func(i v1.LoadBalancerIngress, address string) bool {
		return i.IP == address && i.Hostname == "" &&
			(i.IPMode == nil || *i.IPMode == v1.LoadBalancerIPModeVIP)
	})
}

// syncStatus records what a state says about a Service, and has the Service publish what it says.
// Without a session there are no states, and nothing is written.
func (c *Controller) syncStatus(key string) {
	service := c.cached(key)
	if service != nil {
		c.notifyReleased(service)
	}
	state, ok := c.session.State(c.lbKey(key))
	if !ok || service == nil || string(service.UID) != state.GetOwnerUid() {
		c.statuses.Forget(key)
		return
	}
	c.reportConditions(service, state)
	pending, _ := isPending(state)
	if c.config.ReadOnly || !c.isOurs(service) ||
		pending && !c.isCurrent(state) { // it may be no more than what was published before
		return
	}
	wait := c.compare(service, state)
	switch {
	case wait < 0:
		c.statuses.Forget(key)
		return
	case wait > 0:
		c.statuses.AddAfter(key, wait)
		c.changed.Add(key) // what was overwritten counts as published meanwhile
		return
	}
	if err := c.publish(service, state); err != nil && !apierrors.IsNotFound(err) &&
		c.ctx.Err() == nil {
		klog.ErrorS(err, "Cannot publish the addresses", serviceKeys(service)...)
		c.statuses.AddRateLimited(key)
	}
}

// compare returns how long to wait before the status of a Service is written; below 0: it is as it
// should be, or was just written. A status that is no longer right is written at once, and so is
// one that somebody has overwritten, but not for ever.
func (c *Controller) compare(
	service *v1.Service, state *backendv1.LoadBalancerState,
) (wait time.Duration) {
	wait = -1 // which holds for a Service that was forgotten meanwhile, too
	var before, after repairs
	var since time.Time
	c.update(keyOf(service), string(service.UID), func(t *tracked) {
		record := &t.status
		before = record.repairs
		if !slices.Equal(record.publish, state.GetPublish()) {
			*record = statusRecord{publish: state.GetPublish(), repairs: record.repairs}
		}
		switch {
		case shows(&service.Status.LoadBalancer, state.GetPublish()):
			record.established, record.due = true, false
			t.failoverPublished(state)
			t.followChange(c.ctx, state, true)
		case record.isStale(service):
		default:
			if record.established && !record.due {
				record.due = true
				record.eligibleAt = record.repairs.next(time.Now(), cmp.Or(c.config.TimeScale, 1))
			}
			wait = max(0, time.Until(record.eligibleAt))
		}
		after, since = record.repairs, record.since
	})
	c.reportRepairs(service, before, after, since)
	return wait
}

// publish writes the status of a Service, if it is still the same Service.
func (c *Controller) publish(service *v1.Service, state *backendv1.LoadBalancerState) (err error) {
	ctx, cancel := context.WithTimeout(c.ctx, writeTimeout)
	defer cancel()
	ctx, span := c.publication(ctx, service, state)
	defer func() { tracing.End(span, err) }()
	addresses := state.GetPublish()
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": service.UID},
		"status":   map[string]any{"loadBalancer": map[string]any{"ingress": statusOf(addresses).Ingress}},
	})
	utilruntime.Must(err) // all of it is text
	written, err := c.client.CoreV1().Services(service.Namespace).Patch(ctx, service.Name,
		types.MergePatchType, patch, metav1.PatchOptions{FieldManager: Name}, "status")
	if err == nil {
		c.update(keyOf(service), string(service.UID), func(t *tracked) {
			record := &t.status
			record.established, record.due = true, false
			record.stale, record.version, record.since = service, written.ResourceVersion, ownWrite(written)
		})
		klog.V(2).InfoS("Published addresses", serviceKeys(service, "addresses", addresses)...)
	}
	return err
}
