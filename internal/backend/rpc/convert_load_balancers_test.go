// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestToCluster(t *testing.T) {
	const tcp, udp = backendv1.Protocol_PROTOCOL_TCP, backendv1.Protocol_PROTOCOL_UDP
	got := toCluster(&backendv1.Cluster{
		Scope: "c1", AdoptedScopes: []string{"c0"}, LegacyName: "kubernetes",
		Candidates: []*backendv1.Candidate{
			{
				InstanceId: someID, Health: backendv1.CandidateHealth_CANDIDATE_HEALTH_SUSPECT, Avoid: true,
				UsedPorts: []*backendv1.UsedPort{
					{Protocol: udp, Port: 53, Holder: "pod a/b", Serves: []string{"a/dns"}},
				},
			},
			{InstanceId: "b", Health: backendv1.CandidateHealth_CANDIDATE_HEALTH_UNHEALTHY},
		},
		ReservedPorts: []*backendv1.ReservedPorts{
			{Protocol: tcp, FirstPort: 22, Purpose: "ssh", Serves: []string{"a/ssh"}},
			{FirstPort: 1, LastPort: 9},
		},
	})
	want := loadbalancers.Cluster{
		Scope: "c1", Adopted: []string{"c0"}, LegacyName: "kubernetes",
		Candidates: []loadbalancers.Candidate{
			{
				InstanceID: someID, Health: loadbalancers.Suspect, Avoid: true,
				Used: []loadbalancers.UsedPort{{
					Port:   loadbalancers.Port{Protocol: loadbalancers.UDP, Number: 53},
					Holder: "pod a/b", Serves: []string{"a/dns"},
				}},
			},
			{InstanceID: "b", Health: loadbalancers.Unhealthy},
		},
		Reserved: []loadbalancers.ReservedPorts{
			{
				Protocol: loadbalancers.TCP, First: 22, Last: 22, Purpose: "ssh",
				Serves: []string{"a/ssh"},
			},
			{First: 1, Last: 9, Purpose: "the cluster itself"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestToDesired(t *testing.T) {
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	msg := goodEnsure().LoadBalancer
	msg.CreateTime = timestamppb.New(created)
	msg.RetainAddresses, msg.HoldAddresses = true, true
	msg.PublishedAddresses = []string{"::ffff:192.0.2.1", "2001:db8:0:0::1"}
	msg.EligibleInstances = &backendv1.InstanceSet{InstanceIds: []string{someID}}
	existing(msg, strings.ToUpper(strings.ReplaceAll(someID, "-", "")))
	want := loadbalancers.Desired{
		Key: loadbalancers.Key{Scope: "c1", Name: "default/web"}, OwnerUID: "u1", Created: created,
		Wanted: []loadbalancers.Wanted{{
			Family: loadbalancers.IPv4, Source: loadbalancers.Source{Existing: someID},
		}},
		Ports:     []loadbalancers.Port{{Protocol: loadbalancers.TCP, Number: 80}},
		Eligible:  map[string]bool{someID: true},
		Retain:    true,
		Hold:      true,
		Published: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
	}
	if diff := cmp.Diff(want, toDesired(msg), sameAddr); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	msg.EligibleInstances = &backendv1.InstanceSet{}
	if got := toDesired(msg).Eligible; got == nil || len(got) != 0 {
		t.Errorf("no eligible instance became %v", got)
	}
	msg.EligibleInstances, msg.CreateTime = nil, nil
	if got := toDesired(msg); got.Eligible != nil || !got.Created.IsZero() {
		t.Errorf("nothing said became %+v", got)
	}
}

// Each kind of condition and of action has its counterpart.
func TestConditionsAndActionsAreAllKnown(t *testing.T) {
	for c := loadbalancers.NoCandidate; c <= loadbalancers.ForeignAttachment; c++ {
		if fromCondition[c] == 0 {
			t.Errorf("condition %d has no counterpart", c)
		}
	}
	for a := loadbalancers.Create; a <= loadbalancers.Delete; a++ {
		if fromActionType[a] == 0 {
			t.Errorf("action %s has no counterpart", a)
		}
	}
}

// Whatever text a caller put in, what is told has one line.
func TestWhatIsToldHasOneLine(t *testing.T) {
	msgs, actions := fromResults([]loadbalancers.Result{{
		LoadBalancer: loadbalancers.LoadBalancer{
			Key: loadbalancers.Key{Scope: "c1", Name: "a/b"},
			Conditions: []loadbalancers.Condition{
				{Type: loadbalancers.PortRefused, Message: "used by pod\n\ta/b"},
			},
		},
		Actions: []loadbalancers.Action{{Type: loadbalancers.Detach, ID: "x", Why: "held by\r\nc/d"}},
		Err:     &loadbalancers.Error{Reason: loadbalancers.ReasonBusy, Message: "wait\nfor it"},
	}})
	want := []*backendv1.LoadBalancerResult{{
		LoadBalancer: &backendv1.LoadBalancer{
			Key: &backendv1.LoadBalancerKey{Scope: "c1", Name: "a/b"},
			Conditions: []*backendv1.Condition{{
				Type:    backendv1.ConditionType_CONDITION_TYPE_PORT_REFUSED,
				Message: "used by pod a/b",
			}},
		},
		Problem: &backendv1.Problem{
			Reason: backendv1.ErrorReason_ERROR_REASON_BUSY, Message: "wait for it",
			RetryDelay: durationpb.New(retryBusy),
		},
	}}
	if diff := cmp.Diff(want, msgs, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(actions) != 1 || actions[0].GetWhy() != "held by c/d" || actions[0].GetKey() != nil {
		t.Errorf("an address of no load balancer: %v", actions)
	}
}
