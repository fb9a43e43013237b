// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

var runStates = map[string]backendv1.RunState{
	oxide.RunStateCreating:  backendv1.RunState_RUN_STATE_CREATING,
	oxide.RunStateStarting:  backendv1.RunState_RUN_STATE_STARTING,
	oxide.RunStateRunning:   backendv1.RunState_RUN_STATE_RUNNING,
	oxide.RunStateStopping:  backendv1.RunState_RUN_STATE_STOPPING,
	oxide.RunStateStopped:   backendv1.RunState_RUN_STATE_STOPPED,
	oxide.RunStateRebooting: backendv1.RunState_RUN_STATE_REBOOTING,
	oxide.RunStateMigrating: backendv1.RunState_RUN_STATE_MIGRATING,
	oxide.RunStateRepairing: backendv1.RunState_RUN_STATE_REPAIRING,
	oxide.RunStateFailed:    backendv1.RunState_RUN_STATE_FAILED,
	oxide.RunStateDestroyed: backendv1.RunState_RUN_STATE_DESTROYED,
}

var externalKinds = map[oxide.ExternalIPKind]backendv1.ExternalAddressKind{
	oxide.ExternalIPEphemeral: backendv1.ExternalAddressKind_EXTERNAL_ADDRESS_KIND_EPHEMERAL,
	oxide.ExternalIPFloating:  backendv1.ExternalAddressKind_EXTERNAL_ADDRESS_KIND_FLOATING,
}

var identifiedBy = map[instances.Evidence]backendv1.IdentifiedBy{
	instances.ByID:         backendv1.IdentifiedBy_IDENTIFIED_BY_ID,
	instances.BySystemUUID: backendv1.IdentifiedBy_IDENTIFIED_BY_SYSTEM_UUID,
	instances.ByName:       backendv1.IdentifiedBy_IDENTIFIED_BY_NAME,
	instances.ByHostname:   backendv1.IdentifiedBy_IDENTIFIED_BY_HOSTNAME,
}

// toMachine translates a machine that was validated.
func toMachine(m *backendv1.Machine) instances.Machine {
	machine := instances.Machine{ID: m.GetId(), SystemUUID: m.GetSystemUuid(), Name: m.GetName()}
	for _, text := range m.GetAddresses() {
		if addr, err := netip.ParseAddr(text); err == nil {
			machine.Addresses = append(machine.Addresses, addr)
		}
	}
	for _, claim := range m.GetClaims() {
		machine.Claims = append(machine.Claims,
			instances.Claim{ID: claim.GetId(), Claimant: claim.GetClaimant()})
	}
	return machine
}

func fromIdentified(found instances.Identified) *backendv1.GetInstanceResponse {
	response := &backendv1.GetInstanceResponse{
		Instance: fromInstance(found.Instance), IdentifiedBy: identifiedBy[found.By],
	}
	for _, other := range found.Others {
		response.OtherInstances = append(response.OtherInstances, &backendv1.OtherInstance{
			Id: other.ID, Name: other.Name, IdentifiedBy: identifiedBy[other.By],
		})
	}
	return response
}

func fromInstance(i instances.Instance) *backendv1.Instance {
	msg := &backendv1.Instance{
		Id:                 i.ID,
		Name:               i.Name,
		Hostname:           i.Hostname,
		SiloId:             i.SiloID,
		ProjectId:          i.ProjectID,
		ProjectName:        i.ProjectName,
		RunState:           runStates[i.RunState],
		RunStateText:       i.RunState,
		RunStateUpdateTime: fromTime(i.TimeRunStateUpdated),
		ShutDown:           i.ShutDown(),
		CpuCount:           int32(i.CPUs),
		MemoryBytes:        i.MemoryBytes,
		CpuPlatform:        i.CPUPlatform,
		CreateTime:         fromTime(i.TimeCreated),

		AntiAffinityGroups:      i.AntiAffinityGroups,
		AntiAffinityGroupsKnown: i.AntiAffinityGroupsKnown,
		RackId:                  i.RackID,

		ExternalAddressesProvisional: i.ExternalIPsProvisional,
		EphemeralAddressesKnown:      i.EphemeralKnown,
	}
	for _, nic := range i.Interfaces {
		out := &backendv1.NetworkInterface{
			Id: nic.ID, Name: nic.Name, Primary: nic.Primary, VpcId: nic.VPCID,
			SubnetId: nic.SubnetID,
		}
		for _, addr := range nic.Addrs {
			out.Addresses = append(out.Addresses, addr.String())
		}
		msg.NetworkInterfaces = append(msg.NetworkInterfaces, out)
	}
	for _, ip := range i.ExternalIPs {
		msg.ExternalAddresses = append(msg.ExternalAddresses, &backendv1.ExternalAddress{
			Address: ip.Addr.String(), Kind: externalKinds[ip.Kind],
		})
	}
	return msg
}

// viewOf returns a view that was validated.
func viewOf(view backendv1.InstanceView) instances.View {
	if view == backendv1.InstanceView_INSTANCE_VIEW_BASIC {
		return instances.Basic
	}
	return instances.Full
}

func resultMessage(selected instances.Selected) *backendv1.InstanceResult {
	if selected.Err != nil {
		return &backendv1.InstanceResult{
			Result: &backendv1.InstanceResult_Problem{Problem: toProblem(selected.Err)},
		}
	}
	return &backendv1.InstanceResult{
		Result: &backendv1.InstanceResult_Instance{Instance: fromInstance(selected.Instance)},
	}
}

func fromEvent(e instances.Event) *backendv1.WatchInstancesResponse {
	switch {
	case e.Instance != nil:
		return &backendv1.WatchInstancesResponse{
			Event: &backendv1.WatchInstancesResponse_Instance{Instance: fromInstance(*e.Instance)},
		}
	case e.NoLongerListed != "":
		return &backendv1.WatchInstancesResponse{
			Event: &backendv1.WatchInstancesResponse_NoLongerListedId{
				NoLongerListedId: e.NoLongerListed,
			},
		}
	}
	return &backendv1.WatchInstancesResponse{
		Event: &backendv1.WatchInstancesResponse_SnapshotComplete{
			SnapshotComplete: &backendv1.SnapshotComplete{ReadTime: fromTime(e.Complete)},
		},
	}
}

func fromTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
