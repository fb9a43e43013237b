// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// A program that knows no Kubernetes asks which instance a machine is, and gets the same answer.
func TestAnyToolCanAskWhichInstanceAMachineIs(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	add := func(seed oxidesim.InstanceSeed) string {
		seed.NIC = "v4"
		added, err := rack.AddInstance(oxidesim.DefaultProject, seed)
		if err != nil {
			t.Fatal(err)
		}
		return added.ID
	}
	one := add(oxidesim.InstanceSeed{Name: "one", Hostname: "node-a", IP: "172.30.0.11"})
	two := add(oxidesim.InstanceSeed{Name: "two", Hostname: "one"})
	host, err := oxide.ParseHost(rack.URL)
	if err != nil {
		t.Fatal(err)
	}
	token, err := oxide.StaticToken(oxidesim.DefaultToken)
	if err != nil {
		t.Fatal(err)
	}
	api, err := oxide.New(oxide.Config{
		Host: host, Token: token, Project: oxidesim.DefaultProject,
	}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	inventory := instances.NewInventory(api, noAddresses{})
	service := NewInstanceService(instances.NewFinder(api, inventory), inventory,
		func(time.Duration) {})

	const (
		byID   = backendv1.IdentifiedBy_IDENTIFIED_BY_ID
		byUUID = backendv1.IdentifiedBy_IDENTIFIED_BY_SYSTEM_UUID
		byName = backendv1.IdentifiedBy_IDENTIFIED_BY_NAME
		byHost = backendv1.IdentifiedBy_IDENTIFIED_BY_HOSTNAME
	)
	other := func(id, name string, by backendv1.IdentifiedBy) []*backendv1.OtherInstance {
		return []*backendv1.OtherInstance{{Id: id, Name: name, IdentifiedBy: by}}
	}
	for _, tc := range []struct {
		what    string
		machine *backendv1.Machine
		id      string
		by      backendv1.IdentifiedBy
		others  []*backendv1.OtherInstance
		reason  string
	}{
		{"by id", &backendv1.Machine{Id: one}, one, byID, nil, ""},
		{"by id, against its UUID", &backendv1.Machine{Id: one, SystemUuid: two}, one, byID,
			other(two, "two", byUUID), ""},
		{"by UUID, against its name", &backendv1.Machine{
			SystemUuid: strings.ToUpper(two), Name: "node-a",
		}, two, byUUID, other(one, "one", byHost), ""},
		{"by name", &backendv1.Machine{Name: "one", Addresses: []string{"172.30.0.11"}}, one, byName,
			other(two, "two", byHost), ""},
		{"by hostname", &backendv1.Machine{Name: "NODE-A.example.com"}, one, byHost, nil, ""},
		{"nothing", &backendv1.Machine{Name: "three"}, "", 0, nil, "INSTANCE_NOT_IDENTIFIED"},
		{"another's address", &backendv1.Machine{Name: "one", Addresses: []string{"172.30.0.99"}},
			"", 0, nil, "INSTANCE_IDENTITY_CONFLICT"},
		{"claimed", &backendv1.Machine{
			Name: "one", Claims: []*backendv1.MachineClaim{{Id: one, Claimant: "x"}},
		}, "", 0, nil, "INSTANCE_IDENTITY_CONFLICT"},
		{"replaced", &backendv1.Machine{Id: someID, SystemUuid: two}, "", 0, nil, "INSTANCE_REPLACED"},
		{"gone", &backendv1.Machine{Id: someID, SystemUuid: someID}, "", 0, nil,
			"INSTANCE_NOT_FOUND"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			response, err := service.GetInstance(t.Context(), &backendv1.GetInstanceRequest{
				Instance: &backendv1.GetInstanceRequest_Machine{Machine: tc.machine},
			})
			if tc.reason != "" {
				info, _ := detailsOf(t, err)
				if info.GetReason() != tc.reason {
					t.Errorf("got %v (%s), want %s", err, info.GetReason(), tc.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if response.GetInstance().GetId() != tc.id || response.GetIdentifiedBy() != tc.by {
				t.Errorf("got %s by %s", response.GetInstance().GetName(), response.GetIdentifiedBy())
			}
			diff := cmp.Diff(tc.others, response.GetOtherInstances(), protocmp.Transform())
			if diff != "" {
				t.Errorf("other instances (-want +got):\n%s", diff)
			}
		})
	}
}
