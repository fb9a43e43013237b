// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// openWorld is a world whose firewall closes nothing, with node-a in it.
func openWorld(t *testing.T) *environment {
	t.Helper()
	e := newEnvironment(t, settings{idle: true})
	e.must(e.rack.AddFirewallRule(t.Context(), rack.AllOpen))
	e.start(settings{})
	e.join("node-a")
	return e
}

// waitFor does what "kubectl wait --for=condition=oxide.computer/LoadBalancerReady=STATUS" does, and
// checks that the condition says why.
func (e *environment) waitFor(
	key string, status metav1.ConditionStatus, reason string, words ...string,
) *metav1.Condition {
	e.Helper()
	var has *metav1.Condition
	e.eventually(func(context.Context) (string, error) {
		has = meta.FindStatusCondition(e.service(key).Status.Conditions, objects.ReadyCondition)
		if has == nil || has.Status != status {
			return fmt.Sprintf("the condition of %s: %s, got %+v", key, status, has), nil
		}
		return "", nil
	})
	missing := slices.DeleteFunc(words, func(word string) bool { return strings.Contains(has.Message, word) })
	if has.Reason != reason || len(missing) > 0 {
		e.Errorf("%s says %s: %q, want %s and %q", key, has.Reason, has.Message, reason, words)
	}
	return has
}

// ensured are the successes that the framework has recorded for a Service.
func (e *environment) ensured(key string) []corev1.Event {
	e.Helper()
	list, err := e.eventsOn(e.Context(), e.service(key), ",reason=EnsuredLoadBalancer")
	e.must(err)
	return list
}

func TestAServiceSaysInItsStatusWhetherItIsServed(t *testing.T) {
	e := openWorld(t)
	e.create("web", objects.TCP(80))
	e.served("web")
	e.waitFor("web", metav1.ConditionTrue, "AddressAttached", "is on node-a")

	e.create("other", objects.TCP(80))
	e.warned("other", portConflict, "default/web")
	e.waitFor("other", metav1.ConditionFalse, portConflict, "TCP 80 is held by default/web")
	if all := e.ensured("other"); len(all) > 0 {
		t.Errorf("a Service that is not served has the event %s", all[0].Reason)
	}

	// A new leader writes neither again.
	before := []string{e.service("web").ResourceVersion, e.service("other").ResourceVersion}
	taken := e.said("Ensured load balancer", "default/web")
	e.restart()
	e.eventually(func(context.Context) (string, error) {
		if e.said("Ensured load balancer", "default/web") <= taken {
			return "the new leader's sync", nil
		}
		return "", nil
	})
	e.join("node-b") // which serves the other one, so the new leader has come to it
	since := e.waitFor("other", metav1.ConditionTrue, "AddressAttached", "is on node-b")
	if time.Since(since.LastTransitionTime.Time) > limit {
		t.Errorf("the transition is said to be of %s", since.LastTransitionTime)
	}
	if now := e.service("web").ResourceVersion; now != before[0] {
		t.Errorf("the restart wrote a Service that is served as before")
	}

	e.patch("other", map[string]any{"spec": map[string]any{"type": "ClusterIP"}})
	e.eventually(func(context.Context) (string, error) {
		if meta.FindStatusCondition(e.service("other").Status.Conditions, objects.ReadyCondition) != nil {
			return "the end of the condition", nil
		}
		return "", nil
	})
}

// An edit takes the place of a Service that was served: what it publishes until it is detached is no
// success.
func TestAConflictByAnEditIsNotFollowedByASuccess(t *testing.T) {
	e := openWorld(t)
	e.create("web", objects.TCP(80))
	e.create("other", objects.TCP(81))
	e.served("web")
	e.served("other")
	e.waitFor("other", metav1.ConditionTrue, "AddressAttached")
	before := e.ensured("other")
	e.nextSecond()
	e.patch("other", map[string]any{"spec": map[string]any{
		"ports": []map[string]any{{"port": 80, "protocol": "TCP", "name": "tcp-80"}},
	}})
	e.warned("other", portConflict, "default/web")
	e.waitFor("other", metav1.ConditionFalse, portConflict, "default/web")
	e.reserved("other")
	if now := e.ensured("other"); len(now) > 0 && now[len(now)-1].Count > before[len(before)-1].Count ||
		len(now) > len(before) {
		t.Errorf("the success was recorded again: %+v, before %+v", now, before)
	}
}

// What a Service costs the API server when it is created, besides events: one write for the finalizer,
// one for the condition, and at most two for the addresses, since the framework writes those as well.
func TestANewServiceIsWrittenFourTimesAtMost(t *testing.T) {
	e := openWorld(t)
	before := e.servicePatches()
	e.create("web", objects.TCP(80))
	e.served("web")
	e.waitFor("web", metav1.ConditionTrue, "AddressAttached")
	n := e.servicePatches() - before
	t.Logf("%d writes", n)
	if n > 4 {
		t.Errorf("a new Service was written %d times, want 4 at most", n)
	}
}

// servicePatches returns how often Services were patched in the API server's whole life, also by
// server-side apply.
func (e *environment) servicePatches() int {
	e.Helper()
	return e.patchesOf(`verb="PATCH"`) + e.patchesOf(`verb="APPLY"`)
}

// publications returns how often the statuses of Services were patched, conditions not counted.
func (e *environment) publications() int {
	e.Helper()
	return e.patchesOf(`verb="PATCH"`, `subresource="status"`)
}

func (e *environment) patchesOf(labels ...string) int {
	e.Helper()
	text, err := e.client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(e.Context())
	e.must(err)
	sum := 0.0
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.HasPrefix(name, "apiserver_request_total{") || !strings.Contains(name, `resource="services"`) ||
			slices.ContainsFunc(labels, func(label string) bool { return !strings.Contains(name, label) }) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		e.must(err)
		sum += n
	}
	return int(sum)
}
