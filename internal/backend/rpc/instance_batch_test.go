// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// post sends a request for a change to the rack, past the backend.
func (r *rig) post(path, body string) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, r.rack.URL+path, strings.NewReader(body))
	r.must(err)
	req.Header.Set("Authorization", "Bearer "+oxidesim.DefaultToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	r.must(err)
	r.must(resp.Body.Close())
	if resp.StatusCode >= http.StatusMultipleChoices {
		r.Fatalf("POST %s: %s", path, resp.Status)
	}
}

// group makes an anti-affinity group of stopped instances.
func (r *rig) group(name string, members ...string) {
	r.Helper()
	r.post("/v1/anti-affinity-groups?project=demo", fmt.Sprintf(
		`{"name":%q,"description":"","policy":"allow","failure_domain":"sled"}`, name))
	for _, member := range members {
		r.post("/v1/anti-affinity-groups/"+name+"/members/instance/"+member+"?project=demo", "")
	}
}

func TestInstancesAreListedByIDNameAndGroup(t *testing.T) {
	r := newRig(t)
	ids := map[string]string{"node-1": r.node}
	for _, name := range []string{"a", "b", "c"} {
		ids[name] = r.instance(oxidesim.InstanceSeed{Name: name, State: "stopped"})
	}
	r.group("db", "a", "b")
	r.group("web", "b", "c")
	type request = backendv1.ListInstancesRequest
	for _, tc := range []struct {
		name string
		req  *request
		want []string
	}{
		{"all", &request{}, []string{"a", "b", "c", "node-1"}},
		{"by id", &request{Ids: []string{ids["a"], ids["c"], uuid.NewString()}}, []string{"a", "c"}},
		{"by name", &request{Names: []string{"c", "nobody", "a"}}, []string{"a", "c"}},
		{"by id and name", &request{Ids: []string{ids["a"], ids["c"]}, Names: []string{"c", "b"}}, []string{"c"}},
		{"of a group", &request{AntiAffinityGroups: []string{"db"}}, []string{"a", "b"}},
		{"of one of two groups", &request{AntiAffinityGroups: []string{"db", "web"}, PageSize: 1},
			[]string{"a", "b", "c"}},
		{"of a group that there is not", &request{AntiAffinityGroups: []string{"none"}}, nil},
		{"of a group, by name", &request{AntiAffinityGroups: []string{"db"}, Names: []string{"b", "c"}},
			[]string{"b"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for {
				resp, err := r.instances.ListInstances(t.Context(), tc.req)
				r.must(err)
				for _, instance := range resp.GetInstances() {
					got = append(got, instance.GetName())
				}
				if tc.req.PageToken = resp.GetNextPageToken(); tc.req.GetPageToken() == "" {
					break
				}
			}
			if slices.Sort(got); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}

	// Who is in a group shows after a while, or at once.
	r.post("/v1/anti-affinity-groups/db/members/instance/c?project=demo", "")
	members := func(maxAge *durationpb.Duration) int {
		resp, err := r.instances.ListInstances(t.Context(), &request{
			AntiAffinityGroups: []string{"db"}, MaxAge: maxAge, View: backendv1.InstanceView_INSTANCE_VIEW_BASIC,
		})
		r.must(err)
		return len(resp.GetInstances())
	}
	if before, now := members(nil), members(durationpb.New(0)); before != 2 || now != 3 {
		t.Errorf("%d members, %d when they are read now", before, now)
	}
	// Nobody is in no group because groups cannot be read.
	_, err := r.rack.AddFault(oxidesim.Fault{Operation: "anti_affinity_group_list", Status: 500})
	r.must(err)
	_, err = r.instances.ListInstances(t.Context(),
		&request{AntiAffinityGroups: []string{"db"}, MaxAge: durationpb.New(0)})
	wantEnd(t, err, codes.Internal, "OXIDE_BAD_RESPONSE", "anti-affinity")
}

func TestAListOfInstancesIsAsFullAndFreshAsTheCallerAsks(t *testing.T) {
	r := newRig(t)
	list := func(req *backendv1.ListInstancesRequest) []*backendv1.Instance {
		t.Helper()
		resp, err := r.instances.ListInstances(t.Context(), req)
		r.must(err)
		return resp.GetInstances()
	}
	basic := list(&backendv1.ListInstancesRequest{View: backendv1.InstanceView_INSTANCE_VIEW_BASIC})
	if len(basic) != 1 || basic[0].GetNetworkInterfaces() != nil || basic[0].GetEphemeralAddressesKnown() ||
		basic[0].GetRunState() != backendv1.RunState_RUN_STATE_RUNNING {
		t.Errorf("basic: %v", basic)
	}
	if n := r.rack.Count("vpc_list") + r.rack.Count("instance_external_ip_list"); n != 0 {
		t.Errorf("%d further requests", n)
	}
	if full := list(&backendv1.ListInstancesRequest{}); len(full[0].GetNetworkInterfaces()) != 1 {
		t.Errorf("full: %v", full)
	}
	r.must(r.rack.SetRunState(r.node, "stopped"))
	if usual := list(&backendv1.ListInstancesRequest{}); usual[0].GetShutDown() {
		t.Error("a list of a moment ago was not used")
	}
	if now := list(&backendv1.ListInstancesRequest{MaxAge: durationpb.New(0)}); !now[0].GetShutDown() {
		t.Errorf("read now: %v", now)
	}
}

// Each instance has its own answer, in the order in which it was asked for.
func TestManyInstancesAreReturnedAtOnce(t *testing.T) {
	r := newRig(t)
	r.must(r.rack.Apply(oxidesim.Seed{Silos: []oxidesim.SiloSeed{{
		Name: oxidesim.DefaultSilo, Projects: []oxidesim.ProjectSeed{{
			Name: "elsewhere", Instances: []oxidesim.InstanceSeed{{Name: "foreign"}},
		}},
	}}}))
	foreign := ""
	for _, instance := range r.rack.Instances() {
		if instance.Name == "foreign" {
			foreign = instance.ID
		}
	}
	byID := func(id string) *backendv1.InstanceSelector {
		return &backendv1.InstanceSelector{Selector: &backendv1.InstanceSelector_Id{Id: id}}
	}
	byName := func(name string) *backendv1.InstanceSelector {
		return &backendv1.InstanceSelector{Selector: &backendv1.InstanceSelector_Name{Name: name}}
	}
	_, err := r.instances.ListInstances(t.Context(), &backendv1.ListInstancesRequest{})
	r.must(err)
	late := r.instance(oxidesim.InstanceSeed{Name: "late"}) // no list of before shows it
	req := &backendv1.BatchGetInstancesRequest{Instances: []*backendv1.InstanceSelector{
		byName("node-1"), byID(uuid.NewString()), byID(r.node), byName("nobody"), byID(foreign), byID(late),
		byName("late"), byID(r.node),
	}}
	want := []string{
		"node-1", "INSTANCE_NOT_FOUND", "node-1", "INSTANCE_NOT_FOUND", "RESOURCE_NOT_FOUND", "late", "late",
		"node-1",
	}
	for _, view := range []backendv1.InstanceView{0, backendv1.InstanceView_INSTANCE_VIEW_BASIC} {
		req.View = view
		resp, err := r.instances.BatchGetInstances(t.Context(), req)
		r.must(err)
		var got []string
		for _, result := range resp.GetResults() {
			reason := strings.TrimPrefix(result.GetProblem().GetReason().String(), "ERROR_REASON_")
			if instance := result.GetInstance(); instance != nil {
				reason = instance.GetName()
				if full := len(instance.GetNetworkInterfaces()) > 0; full != (view == 0) {
					t.Errorf("view %s: %v", view, instance)
				}
			}
			got = append(got, reason)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if problem := resp.GetResults()[1].GetProblem(); problem.GetCode() != int32(codes.NotFound) ||
			!strings.Contains(problem.GetMessage(), "does not exist") {
			t.Errorf("problem: %v", problem)
		}
	}
	if n := r.rack.Count("instance_list"); n > 6 { // two pages each: to the end, after each doubt
		t.Errorf("%d requests for a list and two calls", n)
	}

	r.must(r.rack.SetSiloRole("demo", "none"))
	req.MaxAge = durationpb.New(0)
	_, err = r.instances.BatchGetInstances(t.Context(), req)
	wantEnd(t, err, codes.FailedPrecondition, "PROJECT_NOT_FOUND", "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := r.instances.BatchGetInstances(ctx, req); err == nil {
		t.Error("a call that has ended was answered")
	}
}

func TestRubbishInACallAboutManyInstancesIsRefused(t *testing.T) {
	r := newRig(t)
	type (
		list  = backendv1.ListInstancesRequest
		batch = backendv1.BatchGetInstancesRequest
	)
	good := &backendv1.InstanceSelector{Selector: &backendv1.InstanceSelector_Id{Id: someID}}
	for field, requests := range map[string][]proto.Message{
		"ids":                     {&list{Ids: slices.Repeat([]string{someID}, 1001)}},
		"ids[1]":                  {&list{Ids: []string{someID, "x"}}},
		"names[0]":                {&list{Names: []string{"\x00"}}},
		"anti_affinity_groups":    {&list{AntiAffinityGroups: slices.Repeat([]string{"g"}, 101)}},
		"anti_affinity_groups[0]": {&list{AntiAffinityGroups: []string{""}}},
		"view": {
			&list{View: 9}, &batch{View: 9, Instances: []*backendv1.InstanceSelector{good}},
		},
		"max_age": {
			&list{MaxAge: durationpb.New(-time.Second)},
			&batch{MaxAge: durationpb.New(time.Hour), Instances: []*backendv1.InstanceSelector{good}},
		},
		"page_token": {&list{PageToken: "?"}},
		"instances": {
			&batch{}, &batch{Instances: slices.Repeat([]*backendv1.InstanceSelector{good}, 101)},
		},
		"instances[1]":      {&batch{Instances: []*backendv1.InstanceSelector{good, {}}}},
		"instances[0].id":   {&batch{Instances: []*backendv1.InstanceSelector{{Selector: &backendv1.InstanceSelector_Id{}}}}},
		"instances[0].name": {&batch{Instances: []*backendv1.InstanceSelector{{Selector: &backendv1.InstanceSelector_Name{Name: "A b"}}}}},
	} {
		for _, message := range requests {
			var err error
			switch req := message.(type) {
			case *list:
				_, err = r.instances.ListInstances(t.Context(), req)
			case *batch:
				_, err = r.instances.BatchGetInstances(t.Context(), req)
			}
			wantEnd(t, err, codes.InvalidArgument, "INVALID_REQUEST", field+" ")
		}
	}
	if n := len(r.rack.Counters()); n != 0 {
		t.Errorf("Oxide was asked: %v", r.rack.Counters())
	}
}
