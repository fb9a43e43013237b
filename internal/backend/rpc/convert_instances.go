// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
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
