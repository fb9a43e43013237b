// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// older is a backend of revision 7 of the API: a plan names no candidates, and explains without a state.
type older struct {
	backendv1.UnimplementedBackendServiceServer
	backendv1.UnimplementedLoadBalancerServiceServer
	backendv1.UnimplementedInstanceServiceServer
	without []string
}

func (*older) GetInfo(context.Context, *backendv1.GetInfoRequest) (*backendv1.GetInfoResponse, error) {
	return &backendv1.GetInfoResponse{ApiRevision: 7, ActingScopes: []string{"c1"}}, nil
}

func (*older) ListInstances(
	context.Context, *backendv1.ListInstancesRequest,
) (*backendv1.ListInstancesResponse, error) {
	return &backendv1.ListInstancesResponse{Instances: []*backendv1.Instance{
		{Id: "id-1", Name: "worker-1"}, {Id: "id-2", Name: "worker-2"},
	}}, nil
}

func (o *older) PlanLoadBalancers(
	_ context.Context, request *backendv1.PlanLoadBalancersRequest,
) (*backendv1.PlanLoadBalancersResponse, error) {
	o.without = request.GetWithoutInstanceIds()
	at := &backendv1.Attachment{InstanceId: "id-1"}
	planned := &backendv1.PlannedLoadBalancer{LoadBalancer: &backendv1.LoadBalancer{
		Key: &backendv1.LoadBalancerKey{Scope: "c1", Name: "shop/web"},
		Addresses: []*backendv1.LoadBalancerAddress{{
			Address: "198.51.100.7", ResourceName: "lb", Managed: true, Attachment: at, PlannedAttachment: at,
		}},
		Conditions: []*backendv1.Condition{{
			Type: backendv1.ConditionType_CONDITION_TYPE_DEGRADED, Message: "it is not well",
		}},
	}}
	if len(request.GetExplainNames()) > 0 {
		planned.Verdicts = []*backendv1.Verdict{
			{InstanceId: "id-1", DisplayName: "kube-1", Chosen: true, Addresses: 1},
			{InstanceId: "id-2", DisplayName: "kube-2", Reason: "is not Ready"},
		}
	}
	response := &backendv1.PlanLoadBalancersResponse{LoadBalancers: []*backendv1.PlannedLoadBalancer{planned}}
	if slices.Contains(o.without, "id-1") {
		planned.LoadBalancer.Addresses[0].PlannedAttachment = &backendv1.Attachment{InstanceId: "id-2"}
		response.Actions = []*backendv1.Action{{
			Type: backendv1.ActionType_ACTION_TYPE_DETACH, Key: planned.GetLoadBalancer().GetKey(),
			ResourceName: "lb", Address: "198.51.100.7", InstanceId: "id-1", Why: "it is gone",
		}, {
			Type: backendv1.ActionType_ACTION_TYPE_ATTACH, Key: planned.GetLoadBalancer().GetKey(),
			ResourceName: "lb", Address: "198.51.100.7", InstanceId: "id-2", PreviousInstanceId: "id-1",
			Why: "it is gone",
		}}
	}
	return response, nil
}

// runCommand runs a subcommand.
func runCommand(t *testing.T, cmd *cobra.Command, args ...string) ended {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	err := cmd.ExecuteContext(t.Context())
	return ended{stdout.String(), stderr.String(), err}
}

// fieldsOf are the lines of a text, with any space between columns as one.
func fieldsOf(text string) (lines []string) {
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return lines
}

// As when the socket of another installation is given by --socket, in the middle of an upgrade.
func TestAnOlderBackendIsAskedByTheNamesOfInstances(t *testing.T) {
	dir, err := os.MkdirTemp("", "backend")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "b.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server, peer := grpc.NewServer(), new(older)
	backendv1.RegisterBackendServiceServer(server, peer)
	backendv1.RegisterLoadBalancerServiceServer(server, peer)
	backendv1.RegisterInstanceServiceServer(server, peer)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	address := "unix://" + socket

	got := runCommand(t, newExplainCommand(address), "web")
	want := []string{
		"Service shop/web",
		"Addresses 198.51.100.7 ( lb), on worker-1",
		"Conditions degraded: it is not well",
		"",
		"NODE CHOSEN ADDRESSES WHY",
		"kube-1 yes 1 an address goes there",
		"kube-2 no 0 is not Ready",
	}
	if diff := cmp.Diff(want, fieldsOf(got.stdout)); diff != "" || got.err != nil {
		t.Errorf("%v, (-want +got):\n%s", got.err, diff)
	}
	got = runCommand(t, newPlanCommand(address), "--without", "worker-1")
	want = []string{
		"LOAD BALANCER ADDRESS FROM TO WHY", "shop/web 198.51.100.7 worker-1 worker-2 it is gone",
	}
	if diff := cmp.Diff(want, fieldsOf(got.stdout)); diff != "" || got.err != nil {
		t.Errorf("%v, (-want +got):\n%s", got.err, diff)
	}
	if !slices.Equal(peer.without, []string{"id-1"}) {
		t.Errorf("it plans without %q", peer.without)
	}
	runCommand(t, newPlanCommand(address), "--without", "worker-7").failed(t, 2,
		`--without: there is no node "worker-7": do you mean worker-1 or worker-2?`)
	if got := runCommand(t, newRebalanceCommand(address)); got.err != nil ||
		!strings.HasPrefix(got.stdout, "Nothing would change") {
		t.Errorf("%v: %s", got.err, got.stdout)
	}
}

func TestEachKindOfChangeIsARow(t *testing.T) {
	const (
		create = backendv1.ActionType_ACTION_TYPE_CREATE
		attach = backendv1.ActionType_ACTION_TYPE_ATTACH
		detach = backendv1.ActionType_ACTION_TYPE_DETACH
		erase  = backendv1.ActionType_ACTION_TYPE_DELETE
		mark   = backendv1.ActionType_ACTION_TYPE_MARK
	)
	action := func(
		what backendv1.ActionType, name, address, instance string, why string,
	) *backendv1.Action {
		return &backendv1.Action{
			Type: what, Key: &backendv1.LoadBalancerKey{Scope: "c1", Name: "shop/web"}, ResourceName: name,
			Address: address, InstanceId: instance, Why: why,
		}
	}
	moved := action(attach, "m", "198.51.100.2", "id-2", "node-1 failed")
	moved.PreviousInstanceId = "id-1"
	n := &nodes{names: &names{scope: "c1", instances: map[string]string{"id-1": "node-1", "id-2": "node-2"}}}
	changes := changesOf([]*backendv1.Action{
		action(create, "new", "", "", "it has none"), action(attach, "new", "", "id-1", "it is attached nowhere"),
		action(attach, "r", "198.51.100.1", "id-1", "it is attached nowhere"),
		action(detach, "m", "198.51.100.2", "id-1", "node-1 failed"), moved,
		action(detach, "d", "198.51.100.3", "id-2", "it ends"), action(erase, "d", "198.51.100.3", "", "it ends"),
		action(detach, "k", "198.51.100.4", "id-2", "it is kept"), action(mark, "k", "198.51.100.4", "", "kept"),
		action(mark, "x", "198.51.100.5", "", "its marker is old"),
	}, n)
	var out bytes.Buffer
	if err := printChanges(&out, changes); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"LOAD BALANCER ADDRESS FROM TO WHY",
		"shop/web new (new) node-1 it has none",
		"shop/web 198.51.100.1 - node-1 it is attached nowhere",
		"shop/web 198.51.100.2 node-1 node-2 node-1 failed",
		"shop/web 198.51.100.3 node-2 (deleted) it ends",
		"shop/web 198.51.100.4 node-2 - it is kept",
		"shop/web 198.51.100.5 - - its marker is old",
	}
	if diff := cmp.Diff(want, fieldsOf(out.String())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	moves := slices.DeleteFunc(changes, func(c change) bool { return !c.moves })
	if len(moves) != 1 || moves[0].address != "198.51.100.2" {
		t.Errorf("the moves are %+v", moves)
	}
}

func TestAnAddressIsDescribedWhereverItIs(t *testing.T) {
	at := func(id string) *backendv1.Attachment {
		if id == "" {
			return nil
		}
		return &backendv1.Attachment{InstanceId: id}
	}
	n := &nodes{names: &names{instances: map[string]string{"id-1": "node-1", "id-2": "node-2"}}}
	for _, tc := range []struct{ now, then, want string }{
		{"", "", "attached nowhere"},
		{"", "id-1", "to be attached to node-1"},
		{"id-1", "", "on node-1, which it is to leave"},
		{"id-1", "id-1", "on node-1"},
		{"id-1", "id-2", "on node-1, moves to node-2"},
	} {
		got := describeAddress(&backendv1.LoadBalancerAddress{
			Source:       backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET,
			ResourceName: "mine", Attachment: at(tc.now), PlannedAttachment: at(tc.then),
		}, n)
		if want := "yet to be allocated (external subnet mine, the user's own), " + tc.want; got != want {
			t.Errorf("it is %q, want %q", got, want)
		}
	}
}
