// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const addressesHelp = `addresses shows all floating IPs and external subnets of the project, whoever they
belong to, and on which instances they are:

  load balancer NAME  it has the marker of a load balancer, of another cluster where a scope follows
  orphan of NAME      it has such a marker, and no load balancer of the session wants it
  retained for NAME   it is kept for a load balancer that is gone
  reserved            a program has reserved it by AddressService.ReserveAddress
  foreign             none of these: a person made it, or another program

Any replica answers. Only the one that leads knows orphans, and which foreign addresses load balancers
use.

` + exitCodes

func newAddressesCommand(address string) *cobra.Command {
	var o options
	var instance string
	var attached bool
	cmd := &cobra.Command{
		Use:     "addresses",
		Short:   "Show all addresses of the project: where they are, and whose",
		Long:    addressesHelp,
		Example: "  oxide-backend addresses\n  oxide-backend addresses --attached=false -o json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withConnection(&o, func(c *connection) error {
				request := &backendv1.ListAddressesRequest{Scope: o.scope}
				if cmd.Flags().Changed("attached") {
					request.Attached = &attached
				}
				return showAddresses(cmd, c, request, instance)
			})
		},
	}
	o.addFlags(cmd.Flags(), address)
	cmd.Flags().StringVar(&o.scope, "scope", "",
		"Only addresses of load balancers of this scope (the cluster's id). If empty, all.")
	cmd.Flags().StringVar(&instance, "instance", "", "Only addresses that are attached to this instance.")
	o.naming = []string{"instance"}
	cmd.Flags().BoolVar(&attached, "attached", false,
		"Only addresses that are attached; with =false, only those that are not. Without it, both.")
	return cmd
}

// addressList is what addresses shows.
type addressList struct {
	all    []*backendv1.Address
	names  *names
	owners *owners
	pools  map[string]string
	// acting is whether any session says what is an orphan.
	acting bool
}

func showAddresses(
	cmd *cobra.Command, c *connection, request *backendv1.ListAddressesRequest, instance string,
) error {
	list, err := readAddresses(cmd.Context(), c, request, instance)
	if err != nil {
		return err
	}
	return c.print(cmd.OutOrStdout(), list.inJSON(), list.table)
}

func readAddresses(
	ctx context.Context, c *connection, request *backendv1.ListAddressesRequest, instance string,
) (*addressList, error) {
	info, err := call(ctx, backendv1.NewBackendServiceClient(c).GetInfo, new(backendv1.GetInfoRequest))
	if err != nil {
		return nil, err
	}
	list := &addressList{acting: len(info.GetActingScopes()) > 0}
	if list.names, err = readNames(ctx, c, onlyScope(c.scope, info), info.GetActingScopes()); err != nil {
		return nil, err
	}
	if instance != "" {
		if request.InstanceId, err = list.names.find(instance); err != nil {
			return nil, err
		}
	}
	if list.all, err = listAddresses(ctx, c, request); err != nil {
		return nil, err
	}
	if list.owners, err = readOwners(ctx, c, info.GetActingScopes()); err != nil {
		return nil, err
	}
	list.pools = poolNames(ctx, c)
	slices.SortFunc(list.all, compareAddresses)
	return list, nil
}

// onlyScope returns the scope whose load balancers go by their names alone: the one that is asked
// about, or else the only one that has a session.
func onlyScope(asked string, info *backendv1.GetInfoResponse) string {
	if acting := info.GetActingScopes(); asked == "" && len(acting) == 1 {
		return acting[0]
	}
	return asked
}

// compareAddresses orders addresses by number, IPv4 first.
func compareAddresses(a, b *backendv1.Address) int {
	x, _ := netip.ParseAddr(a.GetAddress())
	y, _ := netip.ParseAddr(b.GetAddress())
	return cmp.Or(x.Compare(y), cmp.Compare(a.GetResourceId(), b.GetResourceId()))
}

// withPrefix is an address, with the length of its prefix where it is several.
func withPrefix(address *backendv1.Address) string {
	if ip, err := netip.ParseAddr(address.GetAddress()); err == nil &&
		int(address.GetPrefixLength()) < ip.BitLen() {
		return fmt.Sprintf("%s/%d", ip, address.GetPrefixLength())
	}
	return address.GetAddress()
}

var addressHeader = []string{"ADDRESS", "KIND", "NAME", "POOL", "ATTACHED TO", "WHOSE"}

func (l *addressList) table(w io.Writer) error {
	if len(l.all) == 0 {
		_, err := fmt.Fprintln(w, "There is no such address.")
		return err
	}
	rows := make([][]string, len(l.all))
	marked := false
	for i, a := range l.all {
		pool := cmp.Or(l.pools[a.GetPoolId()], a.GetPoolId())
		rows[i] = []string{
			withPrefix(a), kind(a.GetSource()), a.GetName(), pool, l.names.instance(a.GetInstanceId()),
			l.owners.whose(a, l.names),
		}
		marked = marked || a.GetMarker() != nil
	}
	if err := printTable(w, addressHeader, rows); err != nil || l.acting || !marked {
		return err
	}
	_, err := fmt.Fprintln(w,
		"\nNo session runs here: which of them are orphans, the replica that leads knows.")
	return err
}

// addressInJSON is an address with what this command adds to it.
type addressInJSON struct {
	*backendv1.Address
	InstanceName string
	PoolName     string
	Orphaned     bool
	UsedBy       string
}

// MarshalJSON implements json.Marshaler.
func (a addressInJSON) MarshalJSON() ([]byte, error) {
	text, err := jsonOf(a.Address).MarshalJSON()
	if err != nil {
		return nil, err
	}
	fields := make(map[string]any)
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	fields["instanceName"], fields["poolName"] = a.InstanceName, a.PoolName
	fields["orphaned"], fields["usedBy"] = a.Orphaned, a.UsedBy
	return json.Marshal(fields)
}

func (l *addressList) inJSON() any {
	all := make([]addressInJSON, len(l.all))
	for i, a := range l.all {
		all[i] = addressInJSON{
			Address: a, InstanceName: l.names.instances[a.GetInstanceId()], PoolName: l.pools[a.GetPoolId()],
			Orphaned: l.owners.orphans[a.GetResourceId()],
		}
		if key := l.owners.users[a.GetResourceId()]; key != nil {
			all[i].UsedBy = l.names.loadBalancer(key)
		}
	}
	return struct {
		Addresses []addressInJSON `json:"addresses"`
	}{all}
}
