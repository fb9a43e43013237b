// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const planHelp = `plan shows what would be done now, or what would be if nodes were gone (--without) or
cordoned (--cordon): which addresses would move and where to, and which would have no place. It changes
nothing. A node is named as in Kubernetes, or by the name or id of its instance.

` + exitCodes

func newPlanCommand(address string) *cobra.Command {
	var o options
	var without, cordon []string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what would be done, also if nodes were gone or cordoned; it changes nothing",
		Long:  planHelp,
		Example: "  oxide-backend plan\n  oxide-backend plan --cordon worker-1\n" +
			"  oxide-backend plan --without worker-1,worker-2 -o json",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withScope(cmd, &o, func(c *connection, scope string) error {
				h, err := plan(cmd.Context(), c, scope, without, cordon)
				if err != nil {
					return err
				}
				return o.print(cmd.OutOrStdout(), h.planned, h.printTo)
			})
		},
	}
	o.addFlags(cmd.Flags(), address)
	o.addScopeFlag(cmd.Flags())
	cmd.Flags().StringSliceVar(&without, "without", nil,
		"A node to plan without, as if it were gone. Repeatable.")
	cmd.Flags().StringSliceVar(&cordon, "cordon", nil,
		"A node to plan with as if it were being cordoned now, as kubectl drain does. Repeatable.")
	o.naming = []string{"without", "cordon"}
	return cmd
}

// inAnyCase notes what does not follow from the question.
const inAnyCase = "in any case"

// hypothesis is what a plan makes of a question, and what there is to know beside it.
type hypothesis struct {
	names *nodes
	// now is the plan without the question, and planned that with it; the same if none was asked.
	now, planned *backendv1.PlanLoadBalancersResponse
	// without and cordoned are the instances that the question is about.
	without, cordoned map[string]bool
	// stuck are the load balancers with an address that stays where it was to leave, explained, by name.
	stuck map[string]*backendv1.PlannedLoadBalancer
}

// askPlan makes a plan of the session of a scope, with what change adds to the request.
func askPlan(
	ctx context.Context, c *connection, scope string, change func(*backendv1.PlanLoadBalancersRequest),
) (*backendv1.PlanLoadBalancersResponse, error) {
	request := &backendv1.PlanLoadBalancersRequest{
		Input: &backendv1.PlanLoadBalancersRequest_Scope{Scope: scope},
	}
	change(request)
	return call(ctx, backendv1.NewLoadBalancerServiceClient(c).PlanLoadBalancers, request)
}

// plan makes a plan without some nodes, and with others cordoned.
func plan(
	ctx context.Context, c *connection, scope string, without, cordon []string,
) (*hypothesis, error) {
	now, err := askPlan(ctx, c, scope, func(*backendv1.PlanLoadBalancersRequest) {})
	if err != nil {
		return nil, err
	}
	h := &hypothesis{now: now, planned: now}
	if h.names, err = nodesOf(ctx, c, scope, now); err != nil {
		return nil, err
	}
	if h.without, err = h.names.findAll("--without", without); err != nil {
		return nil, err
	}
	if h.cordoned, err = h.names.findAll("--cordon", cordon); err != nil {
		return nil, err
	}
	if len(h.without)+len(h.cordoned) == 0 {
		return h, nil
	}
	question := func(request *backendv1.PlanLoadBalancersRequest) {
		request.WithoutInstanceIds = slices.Sorted(maps.Keys(h.without))
		request.CordonInstanceIds = slices.Sorted(maps.Keys(h.cordoned))
	}
	if h.planned, err = askPlan(ctx, c, scope, question); err != nil {
		return nil, err
	}
	return h, h.explainStuck(ctx, c, scope, question)
}

// maxExplained is how many load balancers a request can have explained.
const maxExplained = 100

// explainStuck has those explained of which an address stays on a node that is to be cordoned: that is
// no failure, and so no condition says why.
func (h *hypothesis) explainStuck(
	ctx context.Context, c *connection, scope string, question func(*backendv1.PlanLoadBalancersRequest),
) error {
	var stay []string
	for _, lb := range h.planned.GetLoadBalancers() {
		if slices.ContainsFunc(lb.GetLoadBalancer().GetAddresses(), h.isStuck) && len(stay) < maxExplained {
			stay = append(stay, lb.GetLoadBalancer().GetKey().GetName())
		}
	}
	if len(stay) == 0 {
		return nil
	}
	explained, err := askPlan(ctx, c, scope, func(request *backendv1.PlanLoadBalancersRequest) {
		question(request)
		request.ExplainNames = stay
	})
	if err != nil {
		return err
	}
	h.stuck = make(map[string]*backendv1.PlannedLoadBalancer, len(stay))
	for _, lb := range explained.GetLoadBalancers() {
		if len(lb.GetVerdicts()) > 0 {
			h.stuck[lb.GetLoadBalancer().GetKey().GetName()] = lb
		}
	}
	return nil
}

// isStuck reports whether an address stays on a node that is to be cordoned.
func (h *hypothesis) isStuck(address *backendv1.LoadBalancerAddress) bool {
	return h.cordoned[address.GetPlannedAttachment().GetInstanceId()]
}

// printTo prints the plan for people.
func (h *hypothesis) printTo(w io.Writer) error {
	moves, left := h.changes(), h.withoutPlace()
	if len(moves)+len(left) == 0 {
		_, err := fmt.Fprintln(w, "Nothing would change.")
		return err
	}
	if len(moves) == 0 {
		fmt.Fprintln(w, "No address would move.")
	} else if err := printChanges(w, moves); err != nil {
		return err
	}
	if len(left) > 0 {
		fmt.Fprintln(w)
		fmt.Fprintln(w, "Without another place:")
		header := []string{"LOAD BALANCER", "ADDRESS", "NODE", "NOTE", "WHY"}
		if err := printTable(w, header, left); err != nil {
			return err
		}
	}
	if loads := h.loads(); len(loads) > 0 {
		fmt.Fprintln(w)
		return printTable(w, []string{"NODE", "ADDRESSES", "THEN", "NOTE"}, loads)
	}
	return nil
}

// changes returns what would be done; a note says what is due whether or not the nodes go.
func (h *hypothesis) changes() []change {
	moves := changesOf(h.planned.GetActions(), h.names)
	if h.now == h.planned {
		return moves
	}
	due := make(map[[4]string]bool)
	for _, m := range changesOf(h.now.GetActions(), h.names) {
		due[m.id()] = true
	}
	for i := range moves {
		if due[moves[i].id()] {
			moves[i].note = inAnyCase
		}
	}
	return moves
}

// withoutPlace returns the addresses that would be served nowhere, or stay on a node that they were to
// leave, as rows.
func (h *hypothesis) withoutPlace() (rows [][]string) {
	notes := make(map[[2]string]string)
	for _, lb := range h.now.GetLoadBalancers() {
		for _, address := range lb.GetLoadBalancer().GetAddresses() {
			if h.now != h.planned && address.GetPlannedAttachment() == nil {
				notes[[2]string{lb.GetLoadBalancer().GetKey().GetName(), addressText(address)}] = inAnyCase
			}
		}
	}
	for _, lb := range h.planned.GetLoadBalancers() {
		name := lb.GetLoadBalancer().GetKey().GetName()
		for _, address := range lb.GetLoadBalancer().GetAddresses() {
			at := address.GetPlannedAttachment().GetInstanceId()
			if at != "" && !h.without[at] && !h.cordoned[at] {
				continue
			}
			rows = append(rows, []string{
				h.names.loadBalancer(lb.GetLoadBalancer().GetKey()), addressText(address),
				cmp.Or(h.names.instance(address.GetAttachment().GetInstanceId()), nowhere),
				notes[[2]string{name, addressText(address)}],
				cmp.Or(whyNoPlace(lb.GetLoadBalancer(), address), whyStuck(h.stuck[name]), "it stays as it is"),
			})
		}
	}
	return rows
}

// loads returns the nodes that would carry another number of addresses, as rows.
func (h *hypothesis) loads() (rows [][]string) {
	for _, candidate := range h.now.GetCandidates() {
		id, then, note := candidate.GetInstanceId(), "", "gone"
		if i := slices.IndexFunc(h.planned.GetCandidates(), func(c *backendv1.PlannedCandidate) bool {
			return c.GetInstanceId() == id
		}); i >= 0 {
			planned := h.planned.GetCandidates()[i]
			then, note = strconv.Itoa(int(planned.GetPlannedAddresses())), planned.GetReason()
			if planned.GetPlannedAddresses() == candidate.GetAddresses() {
				continue
			}
		}
		if h.cordoned[id] {
			note = "cordoned"
		}
		rows = append(rows, []string{
			h.names.instance(id), strconv.Itoa(int(candidate.GetAddresses())), then, note,
		})
	}
	return rows
}
