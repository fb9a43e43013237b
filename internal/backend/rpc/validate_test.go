// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const someID = "9b9c6c1e-6d0e-4f61-a1a7-3c1de84e0c59"

// absentID is that of another instance.
const absentID = "0d5b5f0e-7a54-4b3e-8a2c-52c1f6c9b7aa"

func TestValidateGetInstance(t *testing.T) {
	byID := func(id string) *backendv1.GetInstanceRequest {
		return &backendv1.GetInstanceRequest{Instance: &backendv1.GetInstanceRequest_Id{Id: id}}
	}
	byName := func(name string) *backendv1.GetInstanceRequest {
		return &backendv1.GetInstanceRequest{
			Instance: &backendv1.GetInstanceRequest_Name{Name: name},
		}
	}
	byHostname := func(name string) *backendv1.GetInstanceRequest {
		return &backendv1.GetInstanceRequest{
			Instance: &backendv1.GetInstanceRequest_Hostname{Hostname: name},
		}
	}
	byMachine := func(m *backendv1.Machine) *backendv1.GetInstanceRequest {
		return &backendv1.GetInstanceRequest{
			Instance: &backendv1.GetInstanceRequest_Machine{Machine: m},
		}
	}
	proof := func(
		req *backendv1.GetInstanceRequest, proof *backendv1.AbsenceProof,
	) *backendv1.GetInstanceRequest {
		req.AbsenceProof = proof
		return req
	}
	for _, tc := range []struct {
		name  string
		req   *backendv1.GetInstanceRequest
		field string
	}{
		{"an id", byID(someID), ""},
		{"a name", byName("node-1"), ""},
		{"a hostname", byHostname("Node-1.example.com"), ""},
		{"a proof", proof(byID(someID), &backendv1.AbsenceProof{
			SiloId: someID, ProjectId: someID, WitnessInstanceIds: []string{absentID},
		}), ""},
		{"a proof without a witness", proof(byID(someID), &backendv1.AbsenceProof{
			SiloId: someID, ProjectId: someID,
		}), "absence_proof.witness_instance_ids"},
		// It only proves nothing, should the instance be absent.
		{"a proof by itself", proof(byID(someID), &backendv1.AbsenceProof{
			SiloId: someID, ProjectId: someID, WitnessInstanceIds: []string{someID},
		}), ""},
		{"nothing", &backendv1.GetInstanceRequest{}, "instance"},
		{"an empty id", byID(""), "id"},
		{"an id that leaves the path", byID("../projects"), "id"},
		{"a dotted name", byName("node-1.example.com"), "name"},
		{"a name that is a UUID", byName(someID), "name"},
		{"a hostname with a slash", byHostname("a/b"), "hostname"},
		{"a hostname that is too long", byHostname(strings.Repeat("a.", 127) + "a"), "hostname"},
		{"a proof for a name", proof(byName("node-1"), &backendv1.AbsenceProof{
			SiloId: someID, ProjectId: someID,
		}), "absence_proof"},
		{"a proof without a silo", proof(byID(someID), &backendv1.AbsenceProof{
			ProjectId: someID,
		}), "absence_proof.silo_id"},
		{"a proof without a project", proof(byID(someID), &backendv1.AbsenceProof{
			SiloId: someID,
		}), "absence_proof.project_id"},
		{"a witness that is no UUID", proof(byID(someID), &backendv1.AbsenceProof{
			SiloId: someID, ProjectId: someID, WitnessInstanceIds: []string{someID, "x"},
		}), "absence_proof.witness_instance_ids[1]"},
		{"a machine", byMachine(&backendv1.Machine{
			Id: someID, SystemUuid: "To be filled", Name: "ü", Addresses: []string{"::1"},
			Claims: []*backendv1.MachineClaim{{Id: "x", Claimant: "y"}},
		}), ""},
		{"a proof for a machine", proof(byMachine(&backendv1.Machine{Id: someID}),
			&backendv1.AbsenceProof{
				SiloId: someID, ProjectId: someID, WitnessInstanceIds: []string{absentID},
			}), ""},
		{"a proof for a machine without a witness", proof(byMachine(&backendv1.Machine{Id: someID}),
			&backendv1.AbsenceProof{SiloId: someID, ProjectId: someID}), "absence_proof.witness_instance_ids"},
		{"a proof for a machine without an id", proof(byMachine(&backendv1.Machine{Name: "n"}),
			&backendv1.AbsenceProof{SiloId: someID, ProjectId: someID}), "absence_proof"},
		{"a machine that reports nothing", byMachine(nil), "machine"},
		{"a machine's id that is none", byMachine(&backendv1.Machine{Id: "x"}), "machine.id"},
		{"a machine's name that is too long",
			byMachine(&backendv1.Machine{Name: strings.Repeat("x", 254)}), "machine.name"},
		{"a machine's address that is none",
			byMachine(&backendv1.Machine{Name: "n", Addresses: []string{"10.0.0.1", "10.0.0.1/8"}}),
			"machine.addresses[1]"},
		{"a machine with too many addresses",
			byMachine(&backendv1.Machine{Name: "n", Addresses: make([]string, 65)}),
			"machine.addresses"},
		{"a machine with too many claims",
			byMachine(&backendv1.Machine{Name: "n", Claims: make([]*backendv1.MachineClaim, 20_001)}),
			"machine.claims"},
		{"a claimant that is too long", byMachine(&backendv1.Machine{
			Name: "n", Claims: []*backendv1.MachineClaim{{Claimant: strings.Repeat("x", 254)}},
		}), "machine.claims[0].claimant"},
		{"an unknown freshness", &backendv1.GetInstanceRequest{
			Instance: &backendv1.GetInstanceRequest_Id{Id: someID}, Freshness: 99,
		}, "freshness"},
	} {
		t.Run(tc.name, func(t *testing.T) { checkField(t, validateGetInstance(tc.req), tc.field) })
	}
}

func TestPageTokens(t *testing.T) {
	any := func(string) bool { return true }
	type list = backendv1.ListLoadBalancersRequest
	tokenOf := func(scope string, key ...string) string { return encodePageToken(&list{Scope: scope}, key...) }
	for _, key := range [][]string{{"a", "b/c"}, {"", ""}, {"x y", "\n"}} {
		got, err := decodePageToken(&list{Scope: "c1", PageToken: tokenOf("c1", key...)}, any, any)
		if err != nil || got[0] != key[0] || got[1] != key[1] {
			t.Errorf("%q became %q, %v", key, got, err)
		}
	}
	for _, token := range []string{
		"!", "YWFh\n", "YWFh", tokenOf("", "one"), tokenOf("", "a", "b", "c"),
		tokenOf("", "a", strings.Repeat("b", maxPageToken)),
	} {
		_, err := decodePageToken(&list{PageToken: token}, any, any)
		checkField(t, err, "page_token")
	}
	longest := tokenOf("", strings.Repeat("s", 63), strings.Repeat("n", 253))
	for _, tc := range []struct {
		name, scope, token, field string
	}{
		{"the first page", "c1", "", ""},
		{"a further page", "c1", tokenOf("c1", "c1", "default/web"), ""},
		{"the longest key", "", longest, ""},
		{"of another scope", "c2", tokenOf("c1", "c1", "default/web"), "page_token"},
		{"of all scopes", "c1", tokenOf("", "c1", "default/web"), "page_token"},
		{"of a list of instances", "", encodePageToken(&backendv1.ListInstancesRequest{}, someID), "page_token"},
		{"no key", "", tokenOf("", "c 1", "default/web"), "page_token"},
		{"no name", "", tokenOf("", "c1", ""), "page_token"},
		{"no scope", "c 1", "", "scope"},
	} {
		_, err := validateList(&list{Scope: tc.scope, PageToken: tc.token})
		t.Run(tc.name, func(t *testing.T) { checkField(t, err, tc.field) })
	}
	_, err := pageSize(-1)
	checkField(t, err, "page_size")
	for requested, want := range map[int32]int{0: 100, 1: 1, 1000: 1000, 1001: 1000} {
		if got, err := pageSize(requested); got != want || err != nil {
			t.Errorf("page_size %d gives %d, %v", requested, got, err)
		}
	}
}

// All lists that are ordered by id have tokens that look alike.
func TestAPageTokenIsGoodForItsListAndItsFiltersAlone(t *testing.T) {
	ofInstances := &backendv1.ListInstancesRequest{Names: []string{"a", "b"}, PageSize: 1}
	token := encodePageToken(ofInstances, someID)
	for name, tc := range map[string]struct {
		req  listRequest
		good bool
	}{
		"the next page": {&backendv1.ListInstancesRequest{
			Names: []string{"a", "b"}, PageSize: 7, PageToken: token, MaxAge: durationpb.New(time.Second),
			View: backendv1.InstanceView_INSTANCE_VIEW_BASIC,
		}, true},
		"of other names": {&backendv1.ListInstancesRequest{Names: []string{"a"}, PageToken: token}, false},
		"of ids": {&backendv1.ListInstancesRequest{
			Names: []string{"a", "b"}, Ids: []string{someID}, PageToken: token,
		}, false},
		"of addresses": {&backendv1.ListAddressesRequest{Names: []string{"a", "b"}, PageToken: token}, false},
		"of pools":     {&backendv1.ListPoolsRequest{PageToken: token}, false},
	} {
		_, err := decodePageToken(tc.req, isID)
		t.Run(name, func(t *testing.T) { checkField(t, err, map[bool]string{false: "page_token"}[tc.good]) })
	}
}

func checkField(t *testing.T, err error, field string) {
	t.Helper()
	if field == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	var invalid *invalidError
	if !errors.As(err, &invalid) || invalid.field != field {
		t.Errorf("got %v, want an error about %s", err, field)
	}
	if err != nil && strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("more than one line: %q", err)
	}
}

// Whatever arrives is refused or converted, and nothing panics.
