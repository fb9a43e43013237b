// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/oxidecomputer/oxide.go/oxide"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// sdk is Oxide's own Go client of a rack: a reader of our answers that is not ours.
func sdk(t *testing.T, r *rack) *oxide.Client {
	t.Helper()
	c, err := oxide.NewClient(
		oxide.WithHost(r.URL), oxide.WithToken(r.token), oxide.WithHTTPClient(r.client),
	)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Every kind of answer that the SDK has a union or an enum for decodes, and reads the same.
func TestSDKReadsEverything(t *testing.T) {
	r := withSubnetPools(t)
	c, ctx := sdk(t, r), t.Context()
	demo := oxide.NameOrId("demo")
	for _, nic := range []string{"v4", "v6", "dual"} {
		_, err := r.AddInstance("demo", oxidesim.InstanceSeed{
			Name: "node-" + nic, NIC: nic, Ephemeral: nic != "v6",
		})
		must(t, err)
	}
	me, err := c.CurrentUserView(ctx)
	must(t, err)
	if me.SiloName != "demo" {
		t.Errorf("me: %+v", me)
	}
	all, err := c.InstanceListAllPages(ctx, oxide.InstanceListParams{Project: demo})
	must(t, err)
	if len(all) != 3 {
		t.Fatalf("instances: %+v", all)
	}
	for _, i := range all {
		nics, err := c.InstanceNetworkInterfaceListAllPages(ctx,
			oxide.InstanceNetworkInterfaceListParams{Instance: oxide.NameOrId(i.Id)})
		must(t, err)
		if got := string(nics[0].IpStack.Type()); got != map[string]string{
			"node-v4": "v4", "node-v6": "v6", "node-dual": "dual_stack",
		}[string(i.Name)] {
			t.Errorf("%s: stack %s", i.Name, got)
		}
	}
	pools, err := c.IpPoolListAllPages(ctx, oxide.IpPoolListParams{})
	must(t, err)
	if len(pools) != 2 || pools[0].PoolType != oxide.IpPoolTypeUnicast {
		t.Errorf("pools: %+v", pools)
	}
	subnetPools, err := c.SubnetPoolListAllPages(ctx, oxide.SubnetPoolListParams{})
	must(t, err)
	if len(subnetPools) != 4 {
		t.Errorf("subnet pools: %+v", subnetPools)
	}
	routes, err := c.VpcRouterRouteListAllPages(ctx, oxide.VpcRouterRouteListParams{
		Project: demo, Vpc: "default", Router: "system",
	})
	must(t, err)
	if len(routes) != 3 {
		t.Errorf("routes: %+v", routes)
	}
	query := "get virtual_machine:check | last 1"
	result, err := c.ExperimentalTimeseriesQuery(ctx, oxide.TimeseriesQueryParams{
		Project: demo, Body: &oxide.TimeseriesQuery{Query: query},
	})
	must(t, err)
	if len(result.Tables) != 1 || len(result.Tables[0].Timeseries) != 3 {
		t.Errorf("metrics: %+v", result)
	}
}

// OXIDE_API.md §17: what the SDK reads of the firewall it can write back.
func TestSDKFirewallRoundTrip(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	c, ctx := sdk(t, r), t.Context()
	before, err := c.VpcFirewallRulesView(ctx, oxide.VpcFirewallRulesViewParams{
		Project: "demo", Vpc: "default",
	})
	must(t, err)
	var body oxide.VpcFirewallRuleUpdateParams
	for _, rule := range before.Rules {
		body.Rules = append(body.Rules, oxide.VpcFirewallRuleUpdate{
			Action: rule.Action, Description: rule.Description, Direction: rule.Direction,
			Filters: rule.Filters, Name: rule.Name, Priority: rule.Priority,
			Status: rule.Status, Targets: rule.Targets,
		})
	}
	after, err := c.VpcFirewallRulesUpdate(ctx, oxide.VpcFirewallRulesUpdateParams{
		Project: "demo", Vpc: "default", Body: &body,
	})
	must(t, err)
	for n := range before.Rules {
		if diff := cmp.Diff(before.Rules[n].Filters, after.Rules[n].Filters); diff != "" {
			t.Errorf("%s changed: %s", before.Rules[n].Name, diff)
		}
	}
}

// OXIDE_API.md §2, §17: the SDK's errors match, so status and error_code are where it looks for them.
func TestSDKErrors(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	c, ctx := sdk(t, r), t.Context()
	create := func(name oxide.Name) error {
		_, err := c.FloatingIpCreate(ctx, oxide.FloatingIpCreateParams{
			Project: "demo", Body: &oxide.FloatingIpCreate{Name: name, Description: "d"},
		})
		return err
	}
	r.instance("node-1")
	must(t, create("web"))
	if err := create("web"); !errors.Is(err, oxide.ErrObjectAlreadyExists) {
		t.Errorf("name taken: %v", err)
	}
	must(t, r.FillPool("default"))
	if err := create("more"); !errors.Is(err, oxide.ErrInsufficientCapacity) {
		t.Errorf("pool full: %v", err)
	}
	_, err := c.FloatingIpView(ctx, oxide.FloatingIpViewParams{Project: "demo", FloatingIp: "x"})
	if !errors.Is(err, oxide.ErrObjectNotFound) {
		t.Errorf("not there: %v", err)
	}
	must(t, r.SetRunState("node-1", "starting"))
	_, err = c.FloatingIpAttach(ctx, oxide.FloatingIpAttachParams{
		Project: "demo", FloatingIp: "web", Body: &oxide.FloatingIpAttach{
			Kind: oxide.FloatingIpParentKindInstance, Parent: "node-1",
		},
	})
	if !errors.Is(err, oxide.ErrServiceUnavailable) {
		t.Errorf("instance starting: %v", err)
	}
	var he *oxide.HTTPError
	if !errors.As(err, &he) || he.HTTPResponse.StatusCode != http.StatusServiceUnavailable ||
		he.ErrorResponse.RequestId == "" {
		t.Errorf("no request id in %+v", he)
	}
	old := startRack(t, oxidesim.Config{APIVersion: "2026032500.0.0"})
	if _, err := sdk(t, old).Ping(ctx); err == nil {
		t.Error("a rack older than the client answered")
	}
}
