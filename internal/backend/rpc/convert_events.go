// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"net/netip"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

var familyMessages = map[ownership.Family]backendv1.IpFamily{
	ownership.IPv4: backendv1.IpFamily_IP_FAMILY_IPV4,
	ownership.IPv6: backendv1.IpFamily_IP_FAMILY_IPV6,
}

var sourceMessages = map[ownership.Kind]backendv1.AddressSource{
	ownership.FloatingIP:     backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
	ownership.ExternalSubnet: backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET,
}

var phaseMessages = map[session.Phase]backendv1.Phase{
	session.PhasePending:     backendv1.Phase_PHASE_PENDING,
	session.PhaseProgressing: backendv1.Phase_PHASE_PROGRESSING,
	session.PhaseReady:       backendv1.Phase_PHASE_READY,
}

var conditionTypes = map[session.ConditionType]backendv1.ConditionType{
	session.NoCandidate:       backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE,
	session.PortConflict:      backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT,
	session.PortRefused:       backendv1.ConditionType_CONDITION_TYPE_PORT_REFUSED,
	session.FirewallClosed:    backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED,
	session.Pending:           backendv1.ConditionType_CONDITION_TYPE_PENDING,
	session.Degraded:          backendv1.ConditionType_CONDITION_TYPE_DEGRADED,
	session.NotOwned:          backendv1.ConditionType_CONDITION_TYPE_NOT_OWNED,
	session.ForeignAttachment: backendv1.ConditionType_CONDITION_TYPE_FOREIGN_ATTACHMENT,
	session.FailoverSuspended: backendv1.ConditionType_CONDITION_TYPE_FAILOVER_SUSPENDED,
	session.AddressRenamed:    backendv1.ConditionType_CONDITION_TYPE_ADDRESS_RENAMED,
	session.AttachTimeout:     backendv1.ConditionType_CONDITION_TYPE_ATTACH_TIMEOUT,
	session.LeftAttached:      backendv1.ConditionType_CONDITION_TYPE_LEFT_ATTACHED,
	session.FamilyMissing:     backendv1.ConditionType_CONDITION_TYPE_FAMILY_MISSING,

	session.FirewallWidened:    backendv1.ConditionType_CONDITION_TYPE_FIREWALL_WIDENED,
	session.FirewallIncomplete: backendv1.ConditionType_CONDITION_TYPE_FIREWALL_INCOMPLETE,
}

var actionTypes = map[plan.ActionType]backendv1.ActionType{
	plan.ActionCreate: backendv1.ActionType_ACTION_TYPE_CREATE,
	plan.ActionMark:   backendv1.ActionType_ACTION_TYPE_MARK,
	plan.ActionAttach: backendv1.ActionType_ACTION_TYPE_ATTACH,
	plan.ActionDetach: backendv1.ActionType_ACTION_TYPE_DETACH,
	plan.ActionDelete: backendv1.ActionType_ACTION_TYPE_DELETE,
}

func eventMessage(e session.Event) *backendv1.SyncLoadBalancersResponse {
	type (
		state    = backendv1.SyncLoadBalancersResponse_State
		action   = backendv1.SyncLoadBalancersResponse_Action
		released = backendv1.SyncLoadBalancersResponse_Released
		orphans  = backendv1.SyncLoadBalancersResponse_Orphans
		inSync   = backendv1.SyncLoadBalancersResponse_InSync
		unused   = backendv1.SyncLoadBalancersResponse_FirewallOrphans
		remember = backendv1.SyncLoadBalancersResponse_Rebalance
		dropped  = backendv1.SyncLoadBalancersResponse_ActionsDropped
	)
	msg := &backendv1.SyncLoadBalancersResponse{}
	switch {
	case e.State != nil:
		msg.Event = &state{State: stateMessage(e.State)}
	case e.Action != nil:
		msg.Event = &action{Action: actionMessage(*e.Action)}
	case e.Released != nil:
		msg.Event = &released{Released: &backendv1.LoadBalancerReleased{
			Key: keyMessage(e.Released.Key), OwnerUid: e.Released.OwnerUID,
		}}
	case e.Orphans != nil:
		msg.Event = &orphans{Orphans: &backendv1.OrphanedAddresses{
			Orphans: loadBalancerMessages(*e.Orphans),
		}}
	case e.FirewallOrphans != nil:
		msg.Event = &unused{FirewallOrphans: &backendv1.FirewallOrphans{
			Rules: orphanedRuleMessages(*e.FirewallOrphans),
		}}
	case e.InSync:
		msg.Event = &inSync{InSync: &backendv1.InSync{}}
	case e.Rebalance != nil:
		msg.Event = &remember{Rebalance: &backendv1.Rebalance{
			ExpireTime: fromTime(e.Rebalance.Expires),
		}}
	case e.ActionsDropped > 0:
		msg.Event = &dropped{ActionsDropped: &backendv1.ActionsDropped{Count: e.ActionsDropped}}
	}
	return msg
}

func keyMessage(key ownership.Key) *backendv1.LoadBalancerKey {
	if key == (ownership.Key{}) {
		return nil
	}
	return &backendv1.LoadBalancerKey{Scope: key.Scope, Name: key.Name}
}

func stateMessage(s *session.State) *backendv1.LoadBalancerState {
	return &backendv1.LoadBalancerState{
		Key: keyMessage(s.Key), OwnerUid: s.OwnerUID, Generation: s.Generation,
		Publish: addrTexts(s.Publish), Addresses: addressMessages(s.Addresses),
		Phase: phaseMessages[s.Phase], Conditions: conditionMessages(s.Conditions),
		Problem: toProblem(s.Problem), Explanation: oneLine(s.Explanation),
		TraceParent: s.TraceParent,
	}
}

func loadBalancerMessages(lbs []session.LoadBalancer) []*backendv1.LoadBalancer {
	msgs := make([]*backendv1.LoadBalancer, 0, len(lbs))
	for _, lb := range lbs {
		msgs = append(msgs, loadBalancerMessage(lb))
	}
	return msgs
}

func loadBalancerMessage(lb session.LoadBalancer) *backendv1.LoadBalancer {
	return &backendv1.LoadBalancer{
		Key: keyMessage(lb.Key), OwnerUid: lb.OwnerUID, Addresses: addressMessages(lb.Addresses),
		Conditions: conditionMessages(lb.Conditions), Problem: toProblem(lb.Problem),
		Explanation: oneLine(lb.Explanation), Phase: phaseMessages[lb.Phase],
	}
}

func conditionMessages(conditions []session.Condition) []*backendv1.Condition {
	msgs := make([]*backendv1.Condition, 0, len(conditions))
	for _, c := range conditions {
		msgs = append(msgs, &backendv1.Condition{
			Type: conditionTypes[c.Type], Message: bounded(c.Message, maxCondition),
		})
	}
	return msgs
}

func addressMessages(addresses []session.Address) []*backendv1.LoadBalancerAddress {
	msgs := make([]*backendv1.LoadBalancerAddress, 0, len(addresses))
	for _, a := range addresses {
		msgs = append(msgs, addressMessage(a))
	}
	return msgs
}

func addressMessage(a session.Address) *backendv1.LoadBalancerAddress {
	return &backendv1.LoadBalancerAddress{
		Family: familyMessages[a.Family], Source: sourceMessages[a.Kind],
		Address: addrText(a.Addr), ResourceId: a.ID, ResourceName: a.Name,
		Managed: a.Managed, Retained: a.Retained,
		Attachment:        attachmentMessage(a.Attached),
		PlannedAttachment: attachmentMessage(a.Planned),
	}
}

func attachmentMessage(a session.Attachment) *backendv1.Attachment {
	if a.InstanceID == "" {
		return nil
	}
	return &backendv1.Attachment{
		InstanceId: a.InstanceID, PrivateAddress: addrText(a.PrivateAddr),
	}
}

func actionMessages(actions []session.Action) []*backendv1.Action {
	msgs := make([]*backendv1.Action, 0, len(actions))
	for _, a := range actions {
		msgs = append(msgs, actionMessage(a))
	}
	return msgs
}

func actionMessage(a session.Action) *backendv1.Action {
	return &backendv1.Action{
		Type: actionTypes[a.Type], Key: keyMessage(a.Key),
		Source:     sourceMessages[a.Kind],
		ResourceId: a.ID, ResourceName: a.Name, Address: addrText(a.Addr),
		InstanceId: a.Instance, PreviousInstanceId: a.From,
		Why: oneLine(a.Why), Summary: oneLine(a.Summary),
		EndTime: fromTime(a.EndTime), CauseTime: fromTime(a.CauseTime),
		Planned: a.Planned, Replaces: a.Replaces,
	}
}

func addrText(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

func addrTexts(addrs []netip.Addr) []string {
	texts := make([]string, 0, len(addrs))
	for _, addr := range addrs {
		texts = append(texts, addr.String())
	}
	return texts
}

func planMessage(p session.PlanResponse) *backendv1.PlanLoadBalancersResponse {
	msg := &backendv1.PlanLoadBalancersResponse{
		Actions: actionMessages(p.Actions), Orphans: loadBalancerMessages(p.Orphans),
	}
	for _, planned := range p.LoadBalancers {
		out := &backendv1.PlannedLoadBalancer{LoadBalancer: loadBalancerMessage(planned.LoadBalancer)}
		for _, v := range planned.Verdicts {
			out.Verdicts = append(out.Verdicts, &backendv1.Verdict{
				InstanceId: v.InstanceID, DisplayName: v.Name, Chosen: v.Chosen,
				Addresses: int32(v.Load), Reason: oneLine(v.Reason),
			})
		}
		if planned.State != nil {
			out.State = stateMessage(planned.State)
		}
		msg.LoadBalancers = append(msg.LoadBalancers, out)
	}
	for _, c := range p.Candidates {
		msg.Candidates = append(msg.Candidates, &backendv1.PlannedCandidate{
			InstanceId: c.InstanceID, DisplayName: c.Name, InstanceName: c.InstanceName,
			Addresses: int32(c.Addresses), PlannedAddresses: int32(c.Planned),
			Reason: oneLine(c.Why), LastChoice: c.LastChoice,
		})
	}
	return msg
}
