// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
)

// rival overwrites the status of a Service as soon as it shows something else, under the name of a
// field manager, until the test ends. It counts how often that was so.
func (e *environment) rival(name, manager, status string) *atomic.Int32 {
	e.Helper()
	var count atomic.Int32
	services := e.client.CoreV1().Services("default")
	ctx, cancel := context.WithCancel(e.Context())
	watcher, err := services.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	e.must(err)
	ended := make(chan struct{})
	e.Cleanup(func() { cancel(); <-ended })
	overwrite := func() {
		count.Add(1)
		_, err := services.Patch(ctx, name, types.MergePatchType,
			[]byte(`{"status":{"loadBalancer":`+status+`}}`),
			metav1.PatchOptions{FieldManager: manager}, "status")
		if err != nil && ctx.Err() == nil {
			e.Errorf("the rival cannot write: %v", err)
		}
	}
	go func() {
		defer close(ended)
		for event := range watcher.ResultChan() {
			service, ok := event.Object.(*corev1.Service)
			if !ok {
				continue
			}
			for _, ingress := range service.Status.LoadBalancer.Ingress {
				if ingress.IP != "203.0.113.77" {
					overwrite()
					break
				}
			}
		}
	}()
	return &count
}

// Invariant 7: a status that somebody keeps overwriting is restored at once, then after pauses, and
// one event says who it is. Whatever is to be published next does not wait for that.
func TestWhoKeepsOverwritingAStatusIsNamedAndOutlasted(t *testing.T) {
	for name, tc := range map[string]struct{ status, says string }{
		"by another address": {`{"ingress":[{"ip":"203.0.113.77"}]}`, `the field manager "rival" (Update, 20`},
		"by none":            {`{"ingress":null}`, "metadata.managedFields does not name"},
		"by nothing":         {`null`, "metadata.managedFields does not name"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnvironment(t, settings{})
			e.join("node-a", "node-b")
			e.create("web", objects.TCP(80))
			address := e.served("web")
			began := time.Now()
			count := e.rival("web", "rival", tc.status)
			e.warned("web", "StatusOverwritten", tc.says)
			t.Logf("after %s the status was restored %d times", time.Since(began), count.Load())
			// Five times at once, and then after pauses of 1, 2, 4, 8 s and 15 s.
			const lapse = 10 * time.Second
			e.eventuallyWithin(3*lapse, func(context.Context) (string, error) {
				if time.Since(began) < lapse {
					return "the end of the time that is counted", nil
				}
				return "", nil
			})
			took := time.Since(began)
			writes := int(count.Load())
			t.Logf("in %s the status was restored %d times", took, writes)
			if limit := 6 + 4 + int(took/(15*time.Second)); writes > limit || writes < 7 {
				t.Errorf("it was restored %d times, want from 7 to %d", writes, limit)
			}
			// A move publishes another place, and that is written at once.
			node := e.nodeOf(address)
			e.ready(corev1.ConditionUnknown, node)
			e.eventuallyWithin(20*time.Second, func(context.Context) (string, error) {
				if now, _ := e.state().FloatingIP(address); now.Instance == "" || now.Instance == node {
					return "the move of " + address + " off " + node, nil
				}
				return "", nil
			})
			e.warned("web", "StatusOverwritten") // once
		})
	}
}
