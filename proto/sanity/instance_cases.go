// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// absentID is the id of nothing.
const absentID = "5a9174de-0000-4000-8000-000000000000"

const invalidContract = "INVALID_ARGUMENT: the request itself is malformed; the message names the field."

const tokenContract = "Tokens are opaque, and at most 512 bytes; any other is answered INVALID_REQUEST."

func instanceCases() []Case {
	return []Case{
		{Name: "instances/get", run: getInstance, needs: needs{instances: 1}, Contract: []string{
			"GetInstance returns one instance.",
			"All but network_interfaces, external_addresses and anti_affinity_groups, which may cost further " +
				"requests.",
			"The network interfaces: the primary one first, the others by name.",
		}},
		{Name: "instances/not-found", run: instanceNotFound, Contract: []string{
			"INSTANCE_NOT_FOUND if it provably does not exist; ABSENCE_NOT_PROVEN if it was not found but the " +
				"proof that the caller asked for failed",
			"NOT_FOUND: the instance does not exist, and this is proven",
		}},
		{Name: "instances/absence-proof", run: absenceProof, needs: needs{instances: 1}, Contract: []string{
			"If set, INSTANCE_NOT_FOUND is answered only when all of this holds, too; else the answer is " +
				"ABSENCE_NOT_PROVEN.",
		}},
		{Name: "instances/get-invalid", run: getInvalid, Contract: []string{invalidContract,
			"Anything else cannot be a name of Oxide and is answered with INVALID_REQUEST."}},
		{Name: "instances/list", run: listInstances, needs: needs{instances: 2}, Contract: []string{
			"ListInstances returns the instances of the project, a page at a time, ordered by id.",
			"The largest number of instances to return, 1 to 1000. 0 means 100; more than 1000 means 1000.",
		}},
		{Name: "instances/list-filters", run: filterInstances, needs: needs{instances: 2}, Contract: []string{
			"An instance is listed if it fits every filter that is set; what no instance fits is not listed, " +
				"and proves nothing.",
		}},
		{Name: "instances/list-invalid", run: listInvalid, Contract: []string{invalidContract, tokenContract}},
		{Name: "instances/batch", run: batch, needs: needs{instances: 1}, Contract: []string{
			"One result for each instance that was asked for, in that order.",
			"What is wrong with one, for example that it does not exist, is said in its place and fails none " +
				"of the others.",
			"Which instances, 1 to 100. The same one may be asked for several times.",
		}},
		{Name: "instances/ambiguous-hostname", run: ambiguous, needs: needs{faults: true}, Contract: []string{
			"FAILED_PRECONDITION: several instances answer to the hostname; the message names them.",
		}},
	}
}

// find returns an instance by its name, as soon as the backend has it.
func (c *checker) find(ctx context.Context, name string) *backendv1.Instance {
	var found *backendv1.Instance
	c.await(ctx, "the instance "+name, "found", c.options.Settle, func() (string, bool) {
		got, err := c.instance(ctx, name)
		found = got
		return describe(err), err == nil
	})
	return found
}

func byID(id string) *backendv1.GetInstanceRequest {
	return &backendv1.GetInstanceRequest{
		Instance:  &backendv1.GetInstanceRequest_Id{Id: id},
		Freshness: backendv1.Freshness_FRESHNESS_DIRECT,
	}
}

func getInstance(ctx context.Context, c *checker) {
	node := c.nodes[0]
	for what, request := range map[string]*backendv1.GetInstanceRequest{
		"by id":   byID(node.GetId()),
		"by name": {Instance: &backendv1.GetInstanceRequest_Name{Name: node.GetName()}},
		"by hostname": {
			Instance: &backendv1.GetInstanceRequest_Hostname{Hostname: strings.ToUpper(node.GetHostname())},
		},
	} {
		for _, view := range []backendv1.InstanceView{
			backendv1.InstanceView_INSTANCE_VIEW_BASIC, backendv1.InstanceView_INSTANCE_VIEW_FULL,
			backendv1.InstanceView_INSTANCE_VIEW_UNSPECIFIED,
		} {
			request.View = view
			got, err := c.instances.GetInstance(ctx, request)
			if !c.ok("GetInstance "+what, err) {
				continue
			}
			c.describesNode(what, got, node, view)
		}
	}
}

func (c *checker) describesNode(what string, got *backendv1.GetInstanceResponse,
	node *backendv1.Instance, view backendv1.InstanceView,
) {
	instance := got.GetInstance()
	equal(c, what+": id", instance.GetId(), node.GetId())
	equal(c, what+": name", instance.GetName(), node.GetName())
	equal(c, what+": silo_id", instance.GetSiloId(), c.info.GetSilo().GetId())
	equal(c, what+": project_id", instance.GetProjectId(), c.info.GetProject().GetId())
	equal(c, what+": run_state", instance.GetRunState(), backendv1.RunState_RUN_STATE_RUNNING)
	c.holds(instance.GetRunStateText() != "", what+": run_state_text", "Oxide's own word", "nothing")
	c.holds(instance.GetMemoryBytes() > 0 && instance.GetMemoryBytes()%(1<<30) == 0, what+": memory_bytes",
		"a multiple of 1 GiB", instance.GetMemoryBytes())
	c.holds(got.GetIdentifiedBy() != 0, what+": identified_by", "what it was found by", "UNSPECIFIED")
	interfaces := instance.GetNetworkInterfaces()
	if view == backendv1.InstanceView_INSTANCE_VIEW_BASIC {
		equal(c, what+": interfaces in the basic view", len(interfaces), 0)
		equal(c, what+": anti_affinity_groups_known in the basic view",
			instance.GetAntiAffinityGroupsKnown(), false)
		return
	}
	c.holds(len(interfaces) > 0 && interfaces[0].GetPrimary(), what+": network_interfaces",
		"the primary one first", interfaces)
}

func instanceNotFound(ctx context.Context, c *checker) {
	for what, request := range map[string]*backendv1.GetInstanceRequest{
		"an id":      byID(absentID),
		"a name":     {Instance: &backendv1.GetInstanceRequest_Name{Name: c.name("absent")}},
		"a hostname": {Instance: &backendv1.GetInstanceRequest_Hostname{Hostname: c.name("absent") + ".test"}},
	} {
		_, err := c.instances.GetInstance(ctx, request)
		c.refused(what+" of nothing", err, codes.NotFound,
			backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND)
	}
}

func absenceProof(ctx context.Context, c *checker) {
	proof := func() *backendv1.AbsenceProof {
		return &backendv1.AbsenceProof{
			SiloId: c.info.GetSilo().GetId(), ProjectId: c.info.GetProject().GetId(),
			WitnessInstanceIds: []string{c.nodes[0].GetId()},
		}
	}
	get := func(change func(*backendv1.AbsenceProof)) error {
		request := byID(absentID)
		request.AbsenceProof = proof()
		change(request.GetAbsenceProof())
		_, err := c.instances.GetInstance(ctx, request)
		return err
	}
	c.refused("an absence that is proven", get(func(*backendv1.AbsenceProof) {}), codes.NotFound,
		backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND)
	for what, change := range map[string]func(*backendv1.AbsenceProof){
		"another silo":    func(p *backendv1.AbsenceProof) { p.SiloId = absentID },
		"another project": func(p *backendv1.AbsenceProof) { p.ProjectId = absentID },
		"a witness that is not there": func(p *backendv1.AbsenceProof) {
			p.WitnessInstanceIds = []string{"5a9174de-0000-4000-8000-000000000001"}
		},
	} {
		c.refused("an absence that is to be proven with "+what, get(change), codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_ABSENCE_NOT_PROVEN)
	}
	c.invalid("an absence that is to be proven without a witness",
		get(func(p *backendv1.AbsenceProof) { p.WitnessInstanceIds = nil }))
	request := byID(c.nodes[0].GetId())
	request.AbsenceProof = proof()
	got, err := c.instances.GetInstance(ctx, request)
	if c.ok("a proof for an instance that is there", err) {
		equal(c, "its id", got.GetInstance().GetId(), c.nodes[0].GetId())
	}
}

func getInvalid(ctx context.Context, c *checker) {
	for what, request := range map[string]*backendv1.GetInstanceRequest{
		"no instance":           {},
		"an id that is no UUID": byID("nonsense"),
		"a name with a dot":     {Instance: &backendv1.GetInstanceRequest_Name{Name: "a.b"}},
		"a name of 10,000 bytes": {
			Instance: &backendv1.GetInstanceRequest_Name{Name: strings.Repeat("x", 10000)},
		},
		"a name of line ends": {Instance: &backendv1.GetInstanceRequest_Name{Name: "\n\n\n"}},
		"an empty hostname":   {Instance: &backendv1.GetInstanceRequest_Hostname{}},
		"an empty machine": {Instance: &backendv1.GetInstanceRequest_Machine{
			Machine: &backendv1.Machine{},
		}},
	} {
		_, err := c.instances.GetInstance(ctx, request)
		c.invalid(what, err)
	}
}

func listInstances(ctx context.Context, c *checker) {
	whole, err := c.instances.ListInstances(ctx, &backendv1.ListInstancesRequest{
		PageSize: 5000, View: backendv1.InstanceView_INSTANCE_VIEW_BASIC,
	})
	c.must("ListInstances", err)
	idOf := (*backendv1.Instance).GetId
	all := ids(whole.GetInstances(), idOf)
	if whole.GetNextPageToken() == "" {
		for _, node := range c.nodes {
			c.holds(slices.Contains(all, node.GetId()), "the list", "the instance "+node.GetName(), all)
		}
	}
	pages(c, "ListInstances", all, idOf, func(token string) ([]*backendv1.Instance, string, error) {
		page, err := c.instances.ListInstances(ctx, &backendv1.ListInstancesRequest{
			PageSize: 1, PageToken: token, View: backendv1.InstanceView_INSTANCE_VIEW_BASIC,
		})
		return page.GetInstances(), page.GetNextPageToken(), err
	})
}

func filterInstances(ctx context.Context, c *checker) {
	first, second := c.nodes[0], c.nodes[1]
	for what, tc := range map[string]struct {
		request *backendv1.ListInstancesRequest
		want    []string
	}{
		"an id, and that of nothing": {
			&backendv1.ListInstancesRequest{Ids: []string{first.GetId(), absentID}}, []string{first.GetId()},
		},
		"a name": {
			&backendv1.ListInstancesRequest{Names: []string{second.GetName()}}, []string{second.GetId()},
		},
		"an id and the name of another": {
			&backendv1.ListInstancesRequest{
				Ids: []string{first.GetId()}, Names: []string{second.GetName()},
			}, nil,
		},
		"a group that there is not": {
			&backendv1.ListInstancesRequest{AntiAffinityGroups: []string{c.name("group")}}, nil,
		},
	} {
		tc.request.MaxAge = durationpb.New(0)
		got, err := c.instances.ListInstances(ctx, tc.request)
		if c.ok("a list of "+what, err) {
			listed := ids(got.GetInstances(), (*backendv1.Instance).GetId)
			c.holds(slices.Equal(listed, tc.want), "a list of "+what, fmt.Sprint(tc.want), listed)
		}
	}
}

func listInvalid(ctx context.Context, c *checker) {
	for what, request := range map[string]*backendv1.ListInstancesRequest{
		"a negative page size":    {PageSize: -1},
		"a made-up page token":    {PageToken: "nonsense"},
		"a token of 600 bytes":    {PageToken: strings.Repeat("x", 600)},
		"an id that is no UUID":   {Ids: []string{"nonsense"}},
		"a name that cannot be":   {Names: []string{"A.b"}},
		"an age above 10 minutes": {MaxAge: durationpb.New(11 * time.Minute)},
		"a negative age":          {MaxAge: durationpb.New(-time.Second)},
		"1,001 names":             {Names: slices.Repeat([]string{"a"}, 1001)},
	} {
		_, err := c.instances.ListInstances(ctx, request)
		c.invalid(what, err)
	}
}

func batch(ctx context.Context, c *checker) {
	node := c.nodes[0]
	id := func(id string) *backendv1.InstanceSelector {
		return &backendv1.InstanceSelector{Selector: &backendv1.InstanceSelector_Id{Id: id}}
	}
	name := &backendv1.InstanceSelector{Selector: &backendv1.InstanceSelector_Name{Name: node.GetName()}}
	got, err := c.instances.BatchGetInstances(ctx, &backendv1.BatchGetInstancesRequest{
		Instances: []*backendv1.InstanceSelector{id(node.GetId()), id(absentID), name, id(node.GetId())},
	})
	c.must("BatchGetInstances", err)
	if equal(c, "the number of results", len(got.GetResults()), 4) {
		for _, i := range []int{0, 2, 3} {
			equal(c, fmt.Sprintf("results[%d]", i), got.GetResults()[i].GetInstance().GetId(), node.GetId())
		}
		problem := got.GetResults()[1].GetProblem()
		equal(c, "the problem of an absent one", problem.GetReason(),
			backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND)
		equal(c, "its code", codes.Code(problem.GetCode()), codes.NotFound)
	}
	for what, selectors := range map[string][]*backendv1.InstanceSelector{
		"no instances": nil, "101 instances": slices.Repeat([]*backendv1.InstanceSelector{name}, 101),
		"an empty selector": {{}},
	} {
		_, err := c.instances.BatchGetInstances(ctx,
			&backendv1.BatchGetInstancesRequest{Instances: selectors})
		if what != "an empty selector" {
			c.invalid(what, err)
		}
	}
}

func ambiguous(ctx context.Context, c *checker) {
	hostname := c.name("twin")
	first := c.addInstance(ctx, seedInstance{Hostname: hostname})
	c.addInstance(ctx, seedInstance{Hostname: hostname})
	c.await(ctx, "a hostname of two instances", "FailedPrecondition INSTANCE_AMBIGUOUS", c.options.Settle,
		func() (string, bool) {
			_, err := c.instances.GetInstance(ctx, &backendv1.GetInstanceRequest{
				Instance:  &backendv1.GetInstanceRequest_Hostname{Hostname: hostname},
				Freshness: backendv1.Freshness_FRESHNESS_DIRECT,
			})
			return describe(err), reasonOf(err) == backendv1.ErrorReason_ERROR_REASON_INSTANCE_AMBIGUOUS
		})
	_, err := c.instances.GetInstance(ctx, byID(first.GetId()))
	c.ok("one of them by its id", err)
}
