// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"

	"google.golang.org/grpc/codes"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func orphanCases() []Case {
	return []Case{
		{Name: "orphans/session-required", run: sessionRequired, needs: needs{features: operations},
			Contract: []string{
				"FAILED_PRECONDITION: what is asked for takes an acting session of the scope, in sync with this " +
					"very backend, and there is none.",
			}},
		{Name: "orphans/delete-ten-times", run: deleteOrphans,
			needs: needs{changes: true, instances: 1, features: operations},
			Contract: []string{
				"A load balancer that the client no longer knows. It is only forgotten: to release what it has, " +
					"send it with `ending`.",
				"What is missing from a snapshot is reported as an orphan, never deleted.",
				"DeleteOrphanedAddress detaches and deletes one orphaned address. It succeeds if there is none " +
					"with this id.",
				"ADDRESS_NOT_OWNED if the address is not an orphan of the scope.",
			}},
	}
}

func sessionRequired(ctx context.Context, c *checker) {
	scope := c.options.Scope + ".none"
	calls := map[string]func() error{
		"ListOrphanedAddresses": func() error {
			_, err := c.addresses.ListOrphanedAddresses(ctx,
				&backendv1.ListOrphanedAddressesRequest{Scope: scope})
			return err
		},
		"DeleteOrphanedAddress": func() error {
			_, err := c.addresses.DeleteOrphanedAddress(ctx, &backendv1.DeleteOrphanedAddressRequest{
				Scope: scope, ResourceId: absentID, DryRun: true,
			})
			return err
		},
		"RebalanceLoadBalancers": func() error {
			_, err := c.balancers.RebalanceLoadBalancers(ctx,
				&backendv1.RebalanceLoadBalancersRequest{Scope: scope, DryRun: true})
			return err
		},
		"PlanLoadBalancers": func() error {
			_, err := c.balancers.PlanLoadBalancers(ctx, &backendv1.PlanLoadBalancersRequest{
				Input: &backendv1.PlanLoadBalancersRequest_Scope{Scope: scope},
			})
			return err
		},
	}
	if c.offers(backendv1.Feature_FEATURE_FIREWALL_OPERATIONS) {
		calls["ListFirewallRules"] = func() error {
			_, err := c.firewall.ListFirewallRules(ctx, &backendv1.ListFirewallRulesRequest{Scope: scope})
			return err
		}
		calls["RemoveFirewallRules"] = func() error {
			_, err := c.firewall.RemoveFirewallRules(ctx, &backendv1.RemoveFirewallRulesRequest{
				Scope: scope, DryRun: true,
				Selection: &backendv1.RemoveFirewallRulesRequest_All{All: &backendv1.AllFirewallRules{}},
			})
			return err
		}
	}
	for what, call := range calls {
		c.refused(what+" without a session", call(), codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_SESSION_REQUIRED)
	}
	_, err := c.addresses.DeleteOrphanedAddress(ctx, &backendv1.DeleteOrphanedAddressRequest{
		Scope: scope, ResourceId: "nonsense",
	})
	c.invalid("DeleteOrphanedAddress with an id that is no UUID", err)
	_, err = c.addresses.ListOrphanedAddresses(ctx, &backendv1.ListOrphanedAddressesRequest{})
	c.invalid("ListOrphanedAddresses without a scope", err)
}

func deleteOrphans(ctx context.Context, c *checker) {
	lb := c.balancer("orphan")
	s := c.acting(ctx, c.nodes[:1], lb)
	state := s.ready(ctx, lb.GetKey().GetName())
	id := state.GetAddresses()[0].GetResourceId()
	s.sending.Lock()
	delete(s.desired, lb.GetKey().GetName())
	s.sending.Unlock()
	for range repetitions {
		s.send(removedItem(lb))
	}
	s.await(ctx, "an orphan", func(e *events) bool {
		return len(e.orphans) == 1 && len(e.orphans[0].GetAddresses()) == 1 &&
			e.orphans[0].GetAddresses()[0].GetResourceId() == id
	})
	kept := c.addressOf(ctx, lb.GetKey())
	equal(c, "the instance of an orphan", kept.GetAttachment().GetInstanceId(), c.nodes[0].GetId())
	listed, err := c.addresses.ListOrphanedAddresses(ctx,
		&backendv1.ListOrphanedAddressesRequest{Scope: c.options.Scope})
	if c.ok("ListOrphanedAddresses", err) {
		equal(c, "the number of orphans", len(listed.GetOrphans()), 1)
	}
	request := &backendv1.DeleteOrphanedAddressRequest{
		Scope: c.options.Scope, ResourceId: id, DryRun: true,
	}
	dry, err := c.addresses.DeleteOrphanedAddress(ctx, request)
	if c.ok("DeleteOrphanedAddress as a dry run", err) {
		c.plannedOnly("DeleteOrphanedAddress as a dry run", dry.GetActions())
	}
	equal(c, "the orphan after a dry run", c.addressOf(ctx, lb.GetKey()).GetResourceId(), id)
	other := c.reserve(ctx, c.reservation("no-orphan"))
	_, err = c.addresses.DeleteOrphanedAddress(ctx, &backendv1.DeleteOrphanedAddressRequest{
		Scope: c.options.Scope, ResourceId: other.GetResourceId(),
	})
	c.refused("DeleteOrphanedAddress of what is none", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_OWNED)
	request.DryRun = false
	for range repetitions {
		if _, err := c.addresses.DeleteOrphanedAddress(ctx, request); !c.ok("DeleteOrphanedAddress", err) {
			break
		}
	}
	c.gone(ctx, lb.GetKey())
	s.await(ctx, "no orphan", func(e *events) bool { return len(e.orphans) == 0 })
	s.close(ctx)
}
