// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const firewallHelp = `With --manage-firewall a backend keeps rules in VPC firewalls, each marked in
its description. These commands ask a running backend for them, and have it remove them: by its
socket, so where it runs. Rules without such a mark are never shown, changed or removed. Only the
backend that has the session of the cluster can answer: the one of the replica that leads.

` + exitCodes

// newFirewallCommand returns the command firewall, which asks the backend at the given address unless
// the user says otherwise.
func newFirewallCommand(address string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "firewall",
		Short: "Show or remove the rules that a running backend keeps in VPC firewalls",
		Long:  firewallHelp,
		Args:  cobra.ArbitraryArgs,
		RunE:  wantsSubcommand("list or remove-rules"),
	}
	cmd.AddCommand(newListRulesCommand(address), newRemoveRulesCommand(address))
	return cmd
}

const orphanedHelp = "Only rules that no load balancer of the session wants."

func newListRulesCommand(address string) *cobra.Command {
	var o options
	var orphaned bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the firewall rules of the cluster, read from Oxide now",
		Long: "list shows the firewall rules that are marked as the cluster's, read from Oxide now, and " +
			"says of each VPC\nhow many rules its firewall has.\n\n" + exitCodes,
		Example: "  oxide-backend firewall list\n  oxide-backend firewall list --orphaned -o json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withScope(cmd, &o, func(c *connection, scope string) error {
				found, err := listRules(cmd.Context(), c, scope, orphaned)
				if err != nil {
					return err
				}
				return o.print(cmd.OutOrStdout(), found, func(w io.Writer) error { return printFound(w, found) })
			})
		},
	}
	o.addFlags(cmd.Flags(), address)
	o.addScopeFlag(cmd.Flags())
	cmd.Flags().BoolVar(&orphaned, "orphaned", false, orphanedHelp)
	return cmd
}

func newRemoveRulesCommand(address string) *cobra.Command {
	var o options
	var orphaned, yes bool
	cmd := &cobra.Command{
		Use:   "remove-rules [NAME]...",
		Short: "Remove firewall rules of the cluster, after showing them",
		Long: "remove-rules has the backend remove firewall rules that are marked as the cluster's: all of " +
			"them, those with\nthe given names, or those that no load balancer wants. It shows them first, and " +
			"removes what it has\nshown and nothing else. A rule that a load balancer wants is not removed: " +
			"start the backend without\n--manage-firewall first.\n\n" + exitCodes,
		Example: "  oxide-backend firewall remove-rules\n" +
			"  oxide-backend firewall remove-rules --orphaned --yes",
		RunE: func(cmd *cobra.Command, names []string) error {
			if orphaned && len(names) > 0 {
				return usagef("--orphaned: rules are named as well: leave one of them out")
			}
			if err := checkRuleNames(names); err != nil {
				return err
			}
			return withScope(cmd, &o, func(c *connection, scope string) error {
				return removeRules(cmd, c, scope, selectionOf(orphaned, names), yes)
			})
		},
	}
	o.addFlags(cmd.Flags(), address)
	o.addScopeFlag(cmd.Flags())
	cmd.Flags().BoolVar(&orphaned, "orphaned", false, orphanedHelp)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Remove them without asking at the terminal.")
	return cmd
}

// ruleName is what Oxide takes as the name of a rule, and maxNamed how many the API takes: a VPC has no
// more rules.
var ruleName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

const maxNamed = 1024

func checkRuleNames(names []string) error {
	if len(names) > maxNamed {
		return usagef("%d rules are named, and at most %d can be: leave the names out to remove all, or name "+
			"fewer", len(names), maxNamed)
	}
	for _, name := range names {
		if !ruleName.MatchString(name) {
			return usagef("%.100q is no name of a rule: give names that oxide-backend firewall list shows", name)
		}
	}
	return nil
}

// listRules returns all rules of a scope, in one message.
func listRules(
	ctx context.Context, c *connection, scope string, orphaned bool,
) (*backendv1.ListFirewallRulesResponse, error) {
	firewalls := backendv1.NewFirewallServiceClient(c)
	all := new(backendv1.ListFirewallRulesResponse)
	var err error
	all.Rules, err = pages(func(token string) ([]*backendv1.FirewallRule, string, error) {
		page, err := call(ctx, firewalls.ListFirewallRules, &backendv1.ListFirewallRulesRequest{
			Scope: scope, OrphanedOnly: orphaned, PageSize: pageSize, PageToken: token,
		})
		all.Firewalls = page.GetFirewalls()
		return page.GetRules(), page.GetNextPageToken(), err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// selection says which rules a request removes.
type selection func(*backendv1.RemoveFirewallRulesRequest)

func selectionOf(orphaned bool, names []string) selection {
	return func(request *backendv1.RemoveFirewallRulesRequest) {
		switch {
		case orphaned:
			request.Selection = &backendv1.RemoveFirewallRulesRequest_Orphaned{
				Orphaned: new(backendv1.OrphanedFirewallRules),
			}
		case len(names) > 0:
			request.Selection = &backendv1.RemoveFirewallRulesRequest_Named{
				Named: &backendv1.FirewallRuleNames{Names: names},
			}
		default:
			request.Selection = &backendv1.RemoveFirewallRulesRequest_All{All: new(backendv1.AllFirewallRules)}
		}
	}
}

// removeRules shows what would be removed, asks, and removes that.
func removeRules(cmd *cobra.Command, c *connection, scope string, which selection, yes bool) error {
	firewalls := backendv1.NewFirewallServiceClient(c)
	remove := func(which selection, dryRun bool) ([]*backendv1.FirewallRule, error) {
		request := &backendv1.RemoveFirewallRulesRequest{Scope: scope, DryRun: dryRun}
		which(request)
		response, err := call(cmd.Context(), firewalls.RemoveFirewallRules, request)
		return response.GetRules(), err
	}
	due, err := remove(which, true)
	if err != nil {
		return err
	}
	removed := new(backendv1.RemoveFirewallRulesResponse)
	if len(due) > 0 {
		if err := printRules(c.preview(cmd), due); err != nil {
			return err
		}
		question := fmt.Sprintf("Remove %s from Oxide?", counted(len(due), "rule", "rules"))
		if err := confirm(cmd, yes, question); err != nil {
			return err
		}
		for names := range slices.Chunk(namesOf(due), pageSize) {
			gone, err := remove(selectionOf(false, names), false)
			if err != nil {
				return partlyRemoved(cmd.Context(), err, len(removed.GetRules()))
			}
			removed.Rules = append(removed.Rules, gone...)
		}
	}
	return c.print(cmd.OutOrStdout(), removed, func(w io.Writer) error {
		result := "There is no such rule: nothing was changed."
		if len(due) > 0 {
			result = "Removed " + counted(len(removed.GetRules()), "rule", "rules") + "."
		}
		_, err := fmt.Fprintln(w, result)
		return err
	})
}

// partlyRemoved says of a removal that failed what it has done nevertheless.
func partlyRemoved(ctx context.Context, err error, removed int) error {
	what := counted(removed, "rule was", "rules were") + " removed"
	switch {
	case ctx.Err() != nil: // the backend goes on
		return fmt.Errorf("%w: %s, and others may be as well: see oxide-backend firewall list", err, what)
	case removed > 0:
		return fmt.Errorf("%w: %s before", err, what)
	}
	return err
}

// namesOf returns the names of rules, each once: two VPCs may have one of the same name.
func namesOf(rules []*backendv1.FirewallRule) []string {
	names := make([]string, len(rules))
	for i, rule := range rules {
		names[i] = rule.GetName()
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// printFound prints rules, and what there is to say of the firewalls that they are in.
func printFound(w io.Writer, found *backendv1.ListFirewallRulesResponse) error {
	if len(found.GetRules()) == 0 {
		fmt.Fprintln(w, "There is no such rule.")
	} else if err := printRules(w, found.GetRules()); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, firewall := range found.GetFirewalls() {
		problem := ""
		if firewall.GetProblem() != "" {
			problem = ": " + firewall.GetProblem()
		}
		_, err := fmt.Fprintf(w, "The firewall of the VPC %s has %s of at most 1024%s\n",
			firewall.GetVpcName(), counted(int(firewall.GetRuleCount()), "rule", "rules"), problem)
		if err != nil {
			return err
		}
	}
	return nil
}

var ruleHeader = []string{"RULE", "VPC", "LOAD BALANCER", "OPENS", "FROM", "TO", "PRIORITY", "NOTE"}

func printRules(w io.Writer, rules []*backendv1.FirewallRule) error {
	rows := make([][]string, len(rules))
	for i, rule := range rules {
		note := ""
		if rule.GetOrphaned() {
			note = "orphaned"
		}
		rows[i] = []string{
			rule.GetName(), rule.GetVpcName(), rule.GetKey().GetName(), opens(rule), sources(rule), targets(rule),
			strconv.Itoa(int(rule.GetPriority())), note,
		}
	}
	return printTable(w, ruleHeader, rows)
}

// opens is which ports of which protocols a rule opens.
func opens(rule *backendv1.FirewallRule) string {
	var protocols, ports []string
	for _, protocol := range rule.GetProtocols() {
		protocols = append(protocols, strings.TrimPrefix(protocol.String(), "PROTOCOL_"))
	}
	for _, r := range rule.GetPorts() {
		text := strconv.Itoa(int(r.GetFirstPort()))
		if r.GetLastPort() > r.GetFirstPort() {
			text += "-" + strconv.Itoa(int(r.GetLastPort()))
		}
		ports = append(ports, text)
	}
	return strings.Join(protocols, ",") + " " + shortList(ports)
}

// sources is from where a rule lets traffic in. Without source ranges that is any address of its family.
func sources(rule *backendv1.FirewallRule) string {
	if ranges := rule.GetSourceRanges(); len(ranges) > 0 {
		return shortList(ranges)
	}
	return "any " + map[backendv1.IpFamily]string{
		backendv1.IpFamily_IP_FAMILY_IPV4: "IPv4", backendv1.IpFamily_IP_FAMILY_IPV6: "IPv6",
	}[rule.GetFamily()]
}

// targets is where to a rule lets traffic in.
func targets(rule *backendv1.FirewallRule) string {
	var all []string
	if instances := rule.GetInstanceNames(); len(instances) > 0 {
		all = append(all, counted(len(instances), "instance", "instances"))
	}
	if subnets := rule.GetSubnetNames(); len(subnets) > 0 {
		all = append(all, "all in "+shortList(subnets))
	}
	if len(all) == 0 {
		return "all in the VPC"
	}
	return strings.Join(all, ", ")
}
