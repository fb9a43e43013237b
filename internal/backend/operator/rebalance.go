// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const rebalanceHelp = `rebalance spreads the addresses of the cluster evenly over its healthy nodes, with
as few moves as possible. It shows the moves first. Each interrupts the connections of one Service for
a moment, so nothing but this command ever makes them. They are made within ten minutes, each place
published first.

` + exitCodes

func newRebalanceCommand(address string) *cobra.Command {
	var o options
	var dryRun, yes bool
	cmd := &cobra.Command{
		Use:     "rebalance",
		Short:   "Spread the addresses evenly over the nodes, after showing the moves",
		Long:    rebalanceHelp,
		Example: "  oxide-backend rebalance --dry-run\n  oxide-backend rebalance --yes",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withScope(cmd, &o, func(c *connection, scope string) error {
				return rebalance(cmd, c, scope, dryRun, yes)
			})
		},
	}
	o.addFlags(cmd.Flags(), address)
	o.addScopeFlag(cmd.Flags())
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "Only show the moves.")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Make them without asking at the terminal.")
	return cmd
}

// howToFollow is printed where moves have begun.
const howToFollow = `The moves are made within ten minutes, one at a time from each node. To follow them:

  oxide-backend watch (or kubectl oxide watch)
  kubectl get events --all-namespaces --field-selector reason=AddressMoved --watch
`

// rebalance shows the moves, asks, and has them made.
func rebalance(cmd *cobra.Command, c *connection, scope string, dryRun, yes bool) error {
	ctx := cmd.Context()
	planned, err := askPlan(ctx, c, scope, func(request *backendv1.PlanLoadBalancersRequest) {
		request.Rebalance = true
	})
	if err != nil {
		return err
	}
	n, err := nodesOf(ctx, c, scope, planned)
	if err != nil {
		return err
	}
	moves := slices.DeleteFunc(changesOf(planned.GetActions(), n), func(c change) bool { return !c.moves })
	answer := &backendv1.RebalanceLoadBalancersResponse{
		LoadBalancers: planned.GetLoadBalancers(), Actions: planned.GetActions(),
	}
	result := "Nothing would change: the addresses are spread as evenly as they can be.\n"
	if len(moves) > 0 {
		preview := c.preview(cmd)
		if dryRun {
			preview = cmd.OutOrStdout()
		}
		if !dryRun || c.output == formTable {
			if err := printChanges(preview, moves); err != nil {
				return err
			}
		}
		result = "\nThis is a dry run: nothing was changed.\n"
	}
	if len(moves) > 0 && !dryRun {
		question := fmt.Sprintf("Move %s? Each move interrupts connections of its Service.",
			counted(len(moves), "address", "addresses"))
		if err := confirm(cmd, yes, question); err != nil {
			return err
		}
		answer, err = call(ctx, backendv1.NewLoadBalancerServiceClient(c).RebalanceLoadBalancers,
			&backendv1.RebalanceLoadBalancersRequest{Scope: scope})
		if err != nil {
			return err
		}
		result = "\n" + howToFollow
	}
	return c.print(cmd.OutOrStdout(), answer, func(w io.Writer) error {
		_, err := io.WriteString(w, result)
		return err
	})
}
