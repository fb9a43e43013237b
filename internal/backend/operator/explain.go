// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const explainHelp = `explain shows one Service: its addresses and where they are, how far it is, what is
wrong, and of each node, in the order of preference, why an address goes there or does not. A Service
is given as NAMESPACE/NAME, or by its name where only one has it.

` + exitCodes

func newExplainCommand(address string) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:     "explain SERVICE",
		Short:   "Show where the addresses of a Service are, and why on no other node",
		Long:    explainHelp,
		Example: "  oxide-backend explain shop/web\n  oxide-backend explain web -o yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] != "" {
				return nil
			}
			return usagef("give one Service, as NAMESPACE/NAME; see %s --help", cmd.CommandPath())
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return withScope(cmd, &o, func(c *connection, scope string) error {
				lb, n, err := explain(cmd.Context(), c, scope, args[0])
				if err != nil {
					return err
				}
				return o.print(cmd.OutOrStdout(), lb, func(w io.Writer) error {
					return printExplained(w, lb, n)
				})
			})
		},
	}
	o.addFlags(cmd.Flags(), address)
	o.addScopeFlag(cmd.Flags())
	return cmd
}

// explain returns what there is to say of the load balancer that somebody calls by a name, with
// verdicts.
func explain(
	ctx context.Context, c *connection, scope, called string,
) (*backendv1.PlannedLoadBalancer, *nodes, error) {
	now, err := askPlan(ctx, c, scope, func(*backendv1.PlanLoadBalancersRequest) {})
	if err != nil {
		return nil, nil, err
	}
	name, err := findLoadBalancer(now, called)
	if err != nil {
		return nil, nil, err
	}
	explained, err := askPlan(ctx, c, scope, func(request *backendv1.PlanLoadBalancersRequest) {
		request.ExplainNames = []string{name}
	})
	if err != nil {
		return nil, nil, err
	}
	for _, lb := range explained.GetLoadBalancers() {
		if lb.GetLoadBalancer().GetKey().GetName() == name {
			n, err := nodesOf(ctx, c, scope, explained)
			return lb, n, err
		}
	}
	return nil, nil, fmt.Errorf("the load balancer %s has just ended", name)
}

// findLoadBalancer returns the name of the load balancer that somebody calls by it, or by its last
// part.
func findLoadBalancer(planned *backendv1.PlanLoadBalancersResponse, called string) (string, error) {
	var all, short, fitting []string
	for _, lb := range planned.GetLoadBalancers() {
		name := lb.GetLoadBalancer().GetKey().GetName()
		_, last, _ := strings.Cut(name, "/")
		all, short = append(all, name), append(short, last)
		switch called {
		case name:
			return name, nil
		case last:
			fitting = append(fitting, name)
		}
	}
	const which = "those of type LoadBalancer, and of a class that is served here"
	switch {
	case len(fitting) == 1:
		return fitting[0], nil
	case len(fitting) > 1:
		return "", usagef("there are %d Services %.100q: give one of %s", len(fitting), called,
			strings.Join(fitting[:min(len(fitting), maxOffered)], ", "))
	case len(all) == 0:
		return "", usagef("there is no Service %.100q, nor any other: there are only %s", called, which)
	case !strings.Contains(called, "/"):
		for _, near := range nearest(called, short) {
			for i, last := range short { // several namespaces may have one
				if last == near && len(fitting) < maxOffered {
					fitting = append(fitting, all[i])
				}
			}
		}
	default:
		fitting = nearest(called, all)
	}
	if len(fitting) == 0 {
		return "", usagef("there is no Service %.100q: there are only %s: %s", called, which, shortList(all))
	}
	return "", usagef("there is no Service %.100q: do you mean %s?", called, strings.Join(fitting, " or "))
}

// printExplained prints what there is to say of a load balancer.
func printExplained(w io.Writer, lb *backendv1.PlannedLoadBalancer, n *nodes) error {
	is, state := lb.GetLoadBalancer(), lb.GetState()
	list := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(title, text string) { fmt.Fprintf(list, "%s\t%s\n", title, text) }
	line("Service", n.loadBalancer(is.GetKey()))
	conditions, problem := is.GetConditions(), is.GetProblem()
	if state != nil {
		line("Phase", word(state.GetPhase(), "PHASE_"))
		conditions, problem = state.GetConditions(), cmp.Or(state.GetProblem(), problem)
	}
	title := "Addresses"
	for _, address := range is.GetAddresses() {
		line(title, describeAddress(address, n))
		title = ""
	}
	if title != "" {
		line(title, "none")
	}
	if publish := state.GetPublish(); len(publish) > 0 {
		line("Published", strings.Join(publish, ", "))
	}
	if problem != nil {
		line("Problem", word(problem.GetReason(), "ERROR_REASON_")+": "+problem.GetMessage())
	}
	title = "Conditions"
	for _, condition := range conditions {
		if condition.GetMessage() == problem.GetMessage() {
			continue
		}
		line(title, word(condition.GetType(), "CONDITION_TYPE_")+": "+condition.GetMessage())
		title = ""
	}
	if err := list.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if len(lb.GetVerdicts()) == 0 {
		_, err := fmt.Fprintln(w, "No node is considered: "+whyNotConsidered(is, problem))
		return err
	}
	return printVerdicts(w, lb.GetVerdicts())
}

// whyNotConsidered says why there are no verdicts.
func whyNotConsidered(lb *backendv1.LoadBalancer, problem *backendv1.Problem) string {
	switch {
	case problem != nil:
		return "the problem comes first."
	case len(lb.GetAddresses()) == 0:
		return "it has no address, and is to have none."
	}
	return "there is none that has an instance."
}

func printVerdicts(w io.Writer, verdicts []*backendv1.Verdict) error {
	rows := make([][]string, len(verdicts))
	for i, verdict := range verdicts {
		chosen, why := "no", verdict.GetReason()
		if verdict.GetChosen() {
			chosen, why = "yes", cmp.Or(why, "an address goes there")
		}
		rows[i] = []string{
			verdict.GetDisplayName(), chosen, strconv.Itoa(int(verdict.GetAddresses())), why,
		}
	}
	return printTable(w, []string{"NODE", "CHOSEN", "ADDRESSES", "WHY"}, rows)
}

// describeAddress says what an address is, where it is, and where it is going.
func describeAddress(address *backendv1.LoadBalancerAddress, n *nodes) string {
	text := fmt.Sprintf("%s (%s %s", cmp.Or(address.GetAddress(), "yet to be allocated"),
		kind(address.GetSource()), address.GetResourceName())
	if !address.GetManaged() {
		text += ", the user's own"
	}
	text += "), "
	switch at, to := n.at(address.GetAttachment()), n.at(address.GetPlannedAttachment()); {
	case at == "" && to == "":
		return text + "attached nowhere"
	case at == "":
		return text + "to be attached to " + to
	case to == "":
		return text + "on " + at + ", which it is to leave"
	case at != to:
		return text + "on " + at + ", moves to " + to
	default:
		return text + "on " + at
	}
}
