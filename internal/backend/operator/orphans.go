// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"fmt"
	"io"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const orphansHelp = `orphans shows the addresses that are marked as a load balancer's of the cluster
while no load balancer of the session wants them: it was deleted while no controller ran, for example, or
its address was to be retained. Nothing deletes them but orphans delete. Only the backend that has the
session of the cluster can answer: the one of the replica that leads.

` + exitCodes

func newOrphansCommand(address string) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:     "orphans",
		Short:   "Show or delete addresses that were left over by load balancers of the cluster",
		Long:    orphansHelp,
		Example: "  oxide-backend orphans\n  oxide-backend orphans delete 203.0.113.7",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return wantsSubcommand("delete, or nothing")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withScope(cmd, &o, func(c *connection, scope string) error {
				found, err := listOrphans(cmd.Context(), c, scope)
				if err != nil {
					return err
				}
				n, err := readNames(cmd.Context(), c, scope, []string{scope})
				if err != nil {
					return err
				}
				message := &backendv1.ListOrphanedAddressesResponse{Orphans: found}
				return c.print(cmd.OutOrStdout(), message, func(w io.Writer) error {
					return printOrphans(w, orphansOf(found), n)
				})
			})
		},
	}
	o.addFlags(cmd.Flags(), address)
	o.addScopeFlag(cmd.Flags())
	cmd.AddCommand(newDeleteOrphansCommand(address))
	return cmd
}

func newDeleteOrphansCommand(address string) *cobra.Command {
	var o options
	var all, yes bool
	cmd := &cobra.Command{
		Use:   "delete ID...",
		Short: "Delete orphaned addresses, after showing them",
		Long: "delete has the backend detach and delete orphaned addresses: those with the given ids,\n" +
			"names or addresses, or all that are not retained on purpose. It shows them first, and deletes\n" +
			"what it has shown and nothing else. An address that a load balancer wants by now is not\n" +
			"deleted.\n\n" +
			exitCodes,
		Example: "  oxide-backend orphans delete 203.0.113.7\n  oxide-backend orphans delete --all --yes",
		RunE: func(cmd *cobra.Command, called []string) error {
			switch {
			case all && len(called) > 0:
				return usagef("--all: addresses are named as well: leave one of them out")
			case !all && len(called) == 0:
				return usagef("it takes the orphans to delete, by id, name or address, or --all; see %s --help",
					cmd.CommandPath())
			}
			return withScope(cmd, &o, func(c *connection, scope string) error {
				return deleteOrphans(cmd, c, scope, called, yes)
			})
		},
	}
	o.addFlags(cmd.Flags(), address)
	o.addScopeFlag(cmd.Flags())
	cmd.Flags().BoolVar(&all, "all", false,
		"All orphans but those that are retained: these are to be named.")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Delete them without asking at the terminal.")
	return cmd
}

// orphanedAddress is one orphaned address.
type orphanedAddress struct {
	key     *backendv1.LoadBalancerKey
	address *backendv1.LoadBalancerAddress
}

func (o orphanedAddress) isCalled(called string) bool {
	return called != "" && (called == o.address.GetResourceId() || called == o.address.GetResourceName() ||
		called == o.address.GetAddress())
}

// orphansOf returns the single addresses.
func orphansOf(found []*backendv1.LoadBalancer) (all []orphanedAddress) {
	for _, lb := range found {
		for _, address := range lb.GetAddresses() {
			all = append(all, orphanedAddress{lb.GetKey(), address})
		}
	}
	return all
}

var orphanHeader = []string{"ADDRESS", "KIND", "NAME", "ATTACHED TO", "LOAD BALANCER", "ID", "NOTE"}

func printOrphans(w io.Writer, orphans []orphanedAddress, n *names) error {
	if len(orphans) == 0 {
		_, err := fmt.Fprintln(w, "There is no orphaned address.")
		return err
	}
	rows := make([][]string, len(orphans))
	for i, o := range orphans {
		note := ""
		if o.address.GetRetained() {
			note = "retained for when it returns"
		}
		rows[i] = []string{
			o.address.GetAddress(), kind(o.address.GetSource()), o.address.GetResourceName(),
			n.at(o.address.GetAttachment()), n.loadBalancer(o.key), o.address.GetResourceId(), note,
		}
	}
	return printTable(w, orphanHeader, rows)
}

// deleteOrphans shows orphans, asks, and deletes them. Without a name it deletes all.
func deleteOrphans(cmd *cobra.Command, c *connection, scope string, called []string, yes bool) error {
	ctx := cmd.Context()
	found, err := listOrphans(ctx, c, scope)
	if err != nil {
		return err
	}
	due := orphansOf(found)
	if len(called) > 0 {
		if due, err = pickOrphans(cmd, c, scope, due, called); err != nil {
			return err
		}
	} else {
		due = slices.DeleteFunc(due, func(o orphanedAddress) bool { return o.address.GetRetained() })
	}
	deleted := new(backendv1.DeleteOrphanedAddressResponse)
	if len(due) > 0 {
		n, err := readNames(ctx, c, scope, []string{scope})
		if err != nil {
			return err
		}
		if err := printOrphans(c.preview(cmd), due, n); err != nil {
			return err
		}
		question := fmt.Sprintf("Delete %s from Oxide?", counted(len(due), "address", "addresses"))
		if err := confirm(cmd, yes, question); err != nil {
			return err
		}
	}
	for i, o := range due {
		gone, err := deleteOrphan(cmd, c, scope, o.address.GetResourceId(), false)
		if err != nil {
			return fmt.Errorf("%w (%d of %d were deleted before)", err, i, len(due))
		}
		deleted.Actions = append(deleted.Actions, gone.GetActions()...)
	}
	return c.print(cmd.OutOrStdout(), deleted, func(w io.Writer) error {
		result := "There is no such orphan: nothing was changed."
		if len(due) > 0 {
			result = "Deleted " + counted(len(due), "address", "addresses") + "."
		}
		_, err := fmt.Fprintln(w, result)
		return err
	})
}

func deleteOrphan(
	cmd *cobra.Command, c *connection, scope, id string, dryRun bool,
) (*backendv1.DeleteOrphanedAddressResponse, error) {
	return call(cmd.Context(), backendv1.NewAddressServiceClient(c).DeleteOrphanedAddress,
		&backendv1.DeleteOrphanedAddressRequest{Scope: scope, ResourceId: id, DryRun: dryRun})
}

// idPattern is what Oxide has as an id.
var idPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// pickOrphans returns the orphans that are called by an id, a name or an address. An id that none of
// them has is an error, unless nothing has it: it was deleted already.
func pickOrphans(
	cmd *cobra.Command, c *connection, scope string, orphans []orphanedAddress, called []string,
) ([]orphanedAddress, error) {
	var due []orphanedAddress
	for _, name := range called {
		at := slices.IndexFunc(orphans, func(o orphanedAddress) bool { return o.isCalled(name) })
		switch {
		case at >= 0:
			if !slices.Contains(due, orphans[at]) {
				due = append(due, orphans[at])
			}
		case idPattern.MatchString(name):
			// The backend refuses what is there and no orphan.
			if _, err := deleteOrphan(cmd, c, scope, name, true); err != nil {
				return nil, err
			}
		default:
			var all []string
			for _, o := range orphans {
				all = append(all, o.address.GetResourceName(), o.address.GetAddress())
			}
			return nil, unknown("orphaned address", name, all)
		}
	}
	return due, nil
}
