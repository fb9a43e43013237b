// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"errors"
	"fmt"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// sweepScope deletes all addresses that are marked with a scope, and the firewall rules, which it
// names. It opens a session of the scope, of which all is an orphan.
func (w *world) sweepScope(ctx context.Context, scope string) (rules []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.options.Settle)
	defer cancel()
	stream, err := w.balancers.SyncLoadBalancers(ctx)
	if err != nil {
		return nil, errors.New(describe(err))
	}
	items := []*backendv1.SyncLoadBalancersRequest{openItem(&backendv1.OpenSession{Scope: scope})}
	for _, node := range w.nodes {
		items = append(items, candidateItem(readyCandidate(node.GetId())))
	}
	for _, item := range append(items, inSyncItem()) {
		if err := stream.Send(item); err != nil {
			break // Recv returns why
		}
	}
	for synced := false; !synced; {
		event, err := stream.Recv()
		if err != nil {
			return nil, fmt.Errorf("a session of the scope %s: %s", scope, describe(err))
		}
		synced = event.GetInSync() != nil
	}
	answer, err := w.addresses.ListOrphanedAddresses(ctx,
		&backendv1.ListOrphanedAddressesRequest{Scope: scope})
	if err != nil {
		return nil, fmt.Errorf("the orphans of the scope %s: %s", scope, describe(err))
	}
	for _, orphan := range answer.GetOrphans() {
		for _, address := range orphan.GetAddresses() {
			_, err := w.addresses.DeleteOrphanedAddress(ctx, &backendv1.DeleteOrphanedAddressRequest{
				Scope: scope, ResourceId: address.GetResourceId(),
			})
			if err != nil {
				return nil, fmt.Errorf("the orphan %s: %s", address.GetResourceName(), describe(err))
			}
		}
	}
	if w.offers(backendv1.Feature_FEATURE_FIREWALL_OPERATIONS) {
		removed, err := w.firewall.RemoveFirewallRules(ctx, &backendv1.RemoveFirewallRulesRequest{
			Scope: scope, Selection: &backendv1.RemoveFirewallRulesRequest_Orphaned{
				Orphaned: &backendv1.OrphanedFirewallRules{},
			},
		})
		if err != nil {
			return nil, fmt.Errorf("the firewall rules of the scope %s: %s", scope, describe(err))
		}
		for _, rule := range removed.GetRules() {
			rules = append(rules, "firewall rule "+rule.GetName())
		}
	}
	_ = stream.CloseSend()
	for err == nil {
		_, err = stream.Recv()
	}
	return rules, nil
}
