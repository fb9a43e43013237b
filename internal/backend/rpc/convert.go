// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
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

var toHealth = map[backendv1.CandidateHealth]loadbalancers.Health{
	backendv1.CandidateHealth_CANDIDATE_HEALTH_HEALTHY:   loadbalancers.Healthy,
	backendv1.CandidateHealth_CANDIDATE_HEALTH_SUSPECT:   loadbalancers.Suspect,
	backendv1.CandidateHealth_CANDIDATE_HEALTH_UNHEALTHY: loadbalancers.Unhealthy,
}

var toFamily = map[backendv1.IpFamily]loadbalancers.Family{
	backendv1.IpFamily_IP_FAMILY_IPV4: loadbalancers.IPv4,
	backendv1.IpFamily_IP_FAMILY_IPV6: loadbalancers.IPv6,
}

var fromFamily = map[loadbalancers.Family]backendv1.IpFamily{
	loadbalancers.IPv4: backendv1.IpFamily_IP_FAMILY_IPV4,
	loadbalancers.IPv6: backendv1.IpFamily_IP_FAMILY_IPV6,
}

var fromCondition = map[loadbalancers.ConditionType]backendv1.ConditionType{
	loadbalancers.NoCandidate: backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE,
	loadbalancers.Degraded:    backendv1.ConditionType_CONDITION_TYPE_DEGRADED,
}

var fromActionType = map[loadbalancers.ActionType]backendv1.ActionType{
	loadbalancers.Create: backendv1.ActionType_ACTION_TYPE_CREATE,
	loadbalancers.Mark:   backendv1.ActionType_ACTION_TYPE_MARK,
	loadbalancers.Attach: backendv1.ActionType_ACTION_TYPE_ATTACH,
	loadbalancers.Detach: backendv1.ActionType_ACTION_TYPE_DETACH,
	loadbalancers.Delete: backendv1.ActionType_ACTION_TYPE_DELETE,
}

func toKey(key *backendv1.LoadBalancerKey) loadbalancers.Key {
	return loadbalancers.Key{Scope: key.GetScope(), Name: key.GetName()}
}

func fromKey(key loadbalancers.Key) *backendv1.LoadBalancerKey {
	return &backendv1.LoadBalancerKey{Scope: key.Scope, Name: key.Name}
}

// toCluster and toDesired convert messages that were validated.
func toCluster(cluster *backendv1.Cluster) loadbalancers.Cluster {
	out := loadbalancers.Cluster{Scope: cluster.GetScope()}
	for _, c := range cluster.GetCandidates() {
		out.Candidates = append(out.Candidates, loadbalancers.Candidate{
			InstanceID: c.GetInstanceId(), Health: toHealth[c.GetHealth()], Avoid: c.GetAvoid(),
		})
	}
	return out
}

func toDesired(want *backendv1.DesiredLoadBalancer) loadbalancers.Desired {
	out := loadbalancers.Desired{Key: toKey(want.GetKey()), OwnerUID: want.GetOwnerUid()}
	for _, address := range want.GetAddresses() {
		wanted := loadbalancers.Wanted{
			Family: toFamily[address.GetFamily()],
			Source: loadbalancers.Source{Pool: address.GetFloatingIp().GetPool()},
		}
		if text := address.GetFloatingIp().GetAddress(); text != "" {
			wanted.Source.Addr = netip.MustParseAddr(text).Unmap()
		}
		out.Wanted = append(out.Wanted, wanted)
	}
	if want.GetEligibleInstances() != nil {
		out.Eligible = make(map[string]bool)
		for _, id := range want.GetEligibleInstances().GetInstanceIds() {
			out.Eligible[id] = true
		}
	}
	return out
}

func fromLoadBalancer(lb loadbalancers.LoadBalancer) *backendv1.LoadBalancer {
	msg := &backendv1.LoadBalancer{Key: fromKey(lb.Key), OwnerUid: lb.OwnerUID}
	for _, a := range lb.Addresses {
		msg.Addresses = append(msg.Addresses, &backendv1.LoadBalancerAddress{
			Family:            fromFamily[a.Family],
			Source:            backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
			Address:           fromAddr(a.Addr),
			ResourceId:        a.ID,
			ResourceName:      a.Name,
			Managed:           true,
			Attachment:        fromAttachment(a.Attached),
			PlannedAttachment: fromAttachment(a.Planned),
		})
	}
	for _, c := range lb.Conditions {
		msg.Conditions = append(msg.Conditions, &backendv1.Condition{
			Type: fromCondition[c.Type], Message: c.Message,
		})
	}
	return msg
}

func fromAttachment(a loadbalancers.Attachment) *backendv1.Attachment {
	if a.InstanceID == "" {
		return nil
	}
	return &backendv1.Attachment{
		InstanceId: a.InstanceID, PrivateAddress: fromAddr(a.PrivateAddr),
	}
}

func fromAddr(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

func fromActions(actions []loadbalancers.Action) []*backendv1.Action {
	msgs := make([]*backendv1.Action, 0, len(actions))
	for _, a := range actions {
		msgs = append(msgs, &backendv1.Action{
			Type:         fromActionType[a.Type],
			Key:          fromKey(a.Key),
			Source:       backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
			ResourceId:   a.ID,
			ResourceName: a.Name,
			Address:      fromAddr(a.Addr),
			InstanceId:   a.InstanceID,
			Why:          a.Why,
		})
	}
	return msgs
}
