// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const instancesHelp = `instances shows the instances of the project, or those with the given names or
ids: what each does and for how long, its private addresses, external addresses of its own, and what is
attached to it, load balancers' addresses for example. Any replica answers; the one that leads knows the
names of nodes too, where these are other than those of their instances.

` + exitCodes

func newInstancesCommand(address string) *cobra.Command {
	var o options
	var groups []string
	cmd := &cobra.Command{
		Use:     "instances [NAME]...",
		Short:   "Show the instances of the project: their states and addresses",
		Long:    instancesHelp,
		Example: "  oxide-backend instances\n  oxide-backend instances worker-1 --output yaml",
		RunE: func(cmd *cobra.Command, called []string) error {
			return withConnection(&o, func(c *connection) error { return showInstances(cmd, c, called, groups) })
		},
	}
	o.addFlags(cmd.Flags(), address)
	cmd.Flags().StringSliceVar(&groups, "group", nil,
		"Only instances in one of the anti-affinity groups with these names.")
	o.naming = []string{"group"}
	return cmd
}

func showInstances(cmd *cobra.Command, c *connection, called, groups []string) error {
	ctx := cmd.Context()
	info, err := call(ctx, backendv1.NewBackendServiceClient(c).GetInfo, new(backendv1.GetInfoRequest))
	if err != nil {
		return err
	}
	n, err := readNames(ctx, c, "", info.GetActingScopes())
	if err != nil {
		return err
	}
	found, err := findInstances(ctx, c, n, called, groups)
	if err != nil {
		return err
	}
	slices.SortFunc(found, func(a, b *backendv1.Instance) int {
		return strings.Compare(a.GetName(), b.GetName())
	})
	attached := true
	addresses, err := listAddresses(ctx, c, &backendv1.ListAddressesRequest{Attached: &attached})
	if err != nil {
		return err
	}
	message := &backendv1.ListInstancesResponse{Instances: found}
	return c.print(cmd.OutOrStdout(), message, func(w io.Writer) error {
		return printInstances(w, found, n, carriedBy(addresses), time.Now())
	})
}

// findInstances returns the instances that are called by names or ids, or all, that are in a group.
func findInstances(
	ctx context.Context, c *connection, n *names, called, groups []string,
) ([]*backendv1.Instance, error) {
	if len(called) == 0 {
		return listInstances(ctx, c, &backendv1.ListInstancesRequest{AntiAffinityGroups: groups})
	}
	ids := make([]string, len(called))
	for i, name := range called {
		var err error
		if ids[i], err = n.find(name); err != nil {
			return nil, err
		}
	}
	slices.Sort(ids)
	var all []*backendv1.Instance
	for some := range slices.Chunk(slices.Compact(ids), pageSize) {
		found, err := listInstances(ctx, c, &backendv1.ListInstancesRequest{
			Ids: some, AntiAffinityGroups: groups,
		})
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// carriedBy returns the addresses on each instance, by its id, in order.
func carriedBy(addresses []*backendv1.Address) map[string][]string {
	sorted := slices.SortedFunc(slices.Values(addresses), compareAddresses)
	carried := make(map[string][]string)
	for _, a := range sorted {
		if id := a.GetInstanceId(); id != "" {
			carried[id] = append(carried[id], withPrefix(a))
		}
	}
	return carried
}

var instanceHeader = []string{"INSTANCE", "NODE", "STATE", "SINCE", "PRIVATE", "EXTERNAL", "ATTACHED"}

func printInstances(
	w io.Writer, found []*backendv1.Instance, n *names, carried map[string][]string, now time.Time,
) error {
	if len(found) == 0 {
		_, err := fmt.Fprintln(w, "There is no such instance.")
		return err
	}
	rows := make([][]string, len(found))
	for i, instance := range found {
		external := externalAddresses(instance)
		attached := slices.DeleteFunc(slices.Clone(carried[instance.GetId()]), func(address string) bool {
			return slices.Contains(external, address)
		})
		node := n.instance(instance.GetId())
		if node == instance.GetName() {
			node = ""
		}
		rows[i] = []string{
			instance.GetName(), node, runState(instance), since(instance.GetRunStateUpdateTime(), now),
			shortList(privateAddresses(instance)), shortList(external), shortList(attached),
		}
	}
	return printTable(w, instanceHeader, rows)
}
