// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"cmp"
	"context"
	"time"

	"golang.org/x/time/rate"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/klog/v2"
)

const (
	// conditionManager is the field manager of the condition: it owns nothing else.
	conditionManager = "oxide-load-balancer-condition"

	// conditionWorkers are few, so that conditions never hold up the addresses in statuses, which go
	// by the same Kubernetes client.
	conditionWorkers = 2

	// conditionSettles is how long after a change a condition is written, once for all that changes
	// until then.
	conditionSettles = 500 * time.Millisecond

	// conditionWrites is how often a condition is written in conditionRests at most.
	conditionWrites = 5

	// conditionRests is how long it takes until a condition is written again for its message alone,
	// and until one is Unknown.
	conditionRests = time.Minute
)

// conditionRecord is what is remembered of the condition of a Service.
type conditionRecord struct {
	// written is the Service for whose status it was written last, and writtenAt when.
	written   *v1.Service
	writtenAt time.Time
	// unknownSince is since when it would be Unknown; zero: it would not.
	unknownSince time.Time
	// writes limits them.
	writes *rate.Limiter
}

// syncCondition has a Service say whether its addresses are served. One that is no load balancer of
// this provider any more says nothing.
func (c *Controller) syncCondition(key string) {
	service := c.cached(key)
	if c.config.ReadOnly || service == nil {
		c.conditions.Forget(key)
		return
	}
	has := meta.FindStatusCondition(service.Status.Conditions, ReadyCondition)
	if !c.isDesired(service) && !c.isEnding(service) {
		if has != nil {
			c.writeCondition(service, nil)
		}
		return
	}
	state, ok := c.session.State(c.lbKey(key))
	if !ok || string(service.UID) != state.GetOwnerUid() || !c.isCurrent(state) {
		return
	}
	condition, known := c.readyCondition(service, state)
	if !known || c.isEnding(service) && condition.Status != metav1.ConditionFalse {
		return
	}
	condition.ObservedGeneration = service.Generation
	condition.LastTransitionTime = metav1.Now()
	if has != nil && has.Status == condition.Status {
		condition.LastTransitionTime = has.LastTransitionTime
	}
	switch wait := c.conditionWait(service, has, condition); {
	case wait < 0:
		c.conditions.Forget(key)
	case wait > 0:
		c.conditions.AddAfter(key, wait)
	default:
		c.writeCondition(service, &condition)
	}
}

// conditionWait returns how long to wait before the condition of a Service is written; below 0: it is
// as it should be, or was just written.
func (c *Controller) conditionWait(
	service *v1.Service, has *metav1.Condition, condition metav1.Condition,
) (wait time.Duration) {
	wait = -1
	now, rests := time.Now(), time.Duration(float64(conditionRests)*cmp.Or(c.config.TimeScale, 1))
	c.update(keyOf(service), string(service.UID), func(t *tracked) {
		record := &t.condition
		if condition.Status != metav1.ConditionUnknown {
			record.unknownSince = time.Time{}
		} else if record.unknownSince.IsZero() {
			record.unknownSince = now
		}
		same := has != nil && has.Status == condition.Status && has.Reason == condition.Reason &&
			has.ObservedGeneration == condition.ObservedGeneration
		switch {
		case same && has.Message == condition.Message, record.written == service:
			return
		case condition.Status == metav1.ConditionUnknown && (has == nil || has.Status != condition.Status):
			wait = max(0, record.unknownSince.Add(rests).Sub(now))
		case same && !record.writtenAt.IsZero():
			wait = max(0, record.writtenAt.Add(rests).Sub(now))
		default:
			wait = 0
		}
		if wait > 0 {
			return
		}
		if record.writes == nil {
			record.writes = rate.NewLimiter(rate.Limit(conditionWrites/rests.Seconds()), conditionWrites)
		}
		if !record.writes.AllowN(now, 1) {
			wait = rests / conditionWrites
			return
		}
		record.written, record.writtenAt = service, now
	})
	return wait
}

// writeCondition writes the condition of a Service, if that is still the same one; nil: removes it. By
// server-side apply, so that conditions of others, and the addresses, stay as they are.
func (c *Controller) writeCondition(service *v1.Service, condition *metav1.Condition) {
	ctx, cancel := context.WithTimeout(c.ctx, writeTimeout)
	defer cancel()
	status := applycorev1.ServiceStatus()
	if condition != nil {
		status.WithConditions(applymetav1.Condition().WithType(condition.Type).
			WithStatus(condition.Status).WithReason(condition.Reason).WithMessage(condition.Message).
			WithObservedGeneration(condition.ObservedGeneration).
			WithLastTransitionTime(condition.LastTransitionTime))
	}
	_, err := c.client.CoreV1().Services(service.Namespace).ApplyStatus(ctx,
		applycorev1.Service(service.Name, service.Namespace).WithUID(service.UID).WithStatus(status),
		metav1.ApplyOptions{FieldManager: conditionManager, Force: true})
	switch key := keyOf(service); {
	case err == nil:
		c.conditions.Forget(key)
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err) || c.ctx.Err() != nil:
		// The Service is gone, or another one by now, of which a change is yet to be seen.
	default:
		klog.ErrorS(err, "Cannot write the condition", serviceKeys(service, "condition", ReadyCondition)...)
		c.update(key, string(service.UID), func(t *tracked) { t.condition.written = nil })
		c.conditions.AddRateLimited(key)
	}
}
