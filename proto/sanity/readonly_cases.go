// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"

	"google.golang.org/grpc/codes"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func readOnlyCases() []Case {
	return []Case{
		{Name: "read-only/changes", run: readOnlyChanges, needs: needs{readOnly: true}, Contract: []string{
			"FAILED_PRECONDITION: the backend was started to change nothing, and something was to be changed. " +
				"Dry runs are answered.",
			"READ_ONLY for an acting session of a backend that changes nothing",
		}},
		{Name: "read-only/observes", run: readOnlyObserves,
			needs: needs{readOnly: true, instances: 1, features: sessions}, Contract: []string{
				"Only observe: nothing is changed, every place counts as published, and actions are sent as " +
					"planned.",
			}},
	}
}

func readOnlyChanges(ctx context.Context, c *checker) {
	readOnly := func(what string, err error) {
		c.refused(what, err, codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_READ_ONLY)
	}
	for range repetitions {
		_, err := c.addresses.ReserveAddress(ctx, c.reservation("read-only"))
		readOnly("ReserveAddress", err)
	}
	s := c.open(ctx, c.conn, &backendv1.OpenSession{Scope: c.options.Scope})
	readOnly("an acting session", s.awaitEnd(ctx, "the end of an acting session"))
}

func readOnlyObserves(ctx context.Context, c *checker) {
	lb := c.balancer("read-only")
	planned, err := c.plan(ctx, c.setOf(lb))
	if c.ok("PlanLoadBalancers", err) {
		c.plannedOnly("a plan", planned.GetActions())
	}
	s := c.open(ctx, c.conn, &backendv1.OpenSession{Scope: c.options.Scope, ObserveOnly: true})
	s.candidates(c.nodes[0])
	s.want(lb)
	s.send(inSyncItem())
	s.await(ctx, "an action that is planned", func(e *events) bool { return len(e.actions) > 0 })
	s.mu.Lock()
	for _, action := range s.actions {
		equal(c, "planned", action.GetPlanned(), true)
	}
	s.mu.Unlock()
	c.gone(ctx, lb.GetKey())
	s.abandon(ctx)
}
