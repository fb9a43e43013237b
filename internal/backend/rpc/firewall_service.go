// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// maxRuleNames bounds the names in one request: a VPC has no more rules.
const maxRuleNames = 1024

// FirewallOperator shows and removes firewall rules by hand.
type FirewallOperator interface {
	FirewallRules(ctx context.Context, scope string) (session.KeptRules, error)
	RemoveFirewallRules(
		ctx context.Context, scope string, selection session.RuleSelection, dryRun bool,
	) ([]session.KeptRule, error)
}

// FirewallService implements backendv1.FirewallServiceServer.
type FirewallService struct {
	backendv1.UnsafeFirewallServiceServer
	operator FirewallOperator
}

// NewFirewallService returns the service.
func NewFirewallService(operator FirewallOperator) *FirewallService {
	return &FirewallService{operator: operator}
}

// RegisterService registers the service with a server.
func (s *FirewallService) RegisterService(r grpc.ServiceRegistrar) {
	backendv1.RegisterFirewallServiceServer(r, s)
}

// ListFirewallRules implements backendv1.FirewallServiceServer.
func (s *FirewallService) ListFirewallRules(
	ctx context.Context, req *backendv1.ListFirewallRulesRequest,
) (*backendv1.ListFirewallRulesResponse, error) {
	if err := validateToken("scope", req.GetScope()); err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	isName := func(text string) bool { return validateNameOrID("", text) == nil }
	after, err := decodePageToken(req, isName, isID, isName)
	if err != nil {
		return nil, err
	}
	found, err := s.operator.FirewallRules(ctx, req.GetScope())
	if err != nil {
		return nil, err
	}
	kept := slices.DeleteFunc(found.Rules, func(rule session.KeptRule) bool {
		return req.GetOrphanedOnly() && !rule.Orphaned || slices.Compare(placeOf(&rule), after) <= 0
	})
	out := &backendv1.ListFirewallRulesResponse{Firewalls: firewallMessages(found.Firewalls)}
	if len(kept) > size {
		kept = kept[:size]
		out.NextPageToken = encodePageToken(req, placeOf(&kept[size-1])...)
	}
	out.Rules = ruleMessages(kept)
	return out, nil
}

// placeOf returns what rules are ordered by.
func placeOf(rule *session.KeptRule) []string {
	return []string{rule.VPCName, rule.VPCID, rule.Name}
}

// RemoveFirewallRules implements backendv1.FirewallServiceServer.
func (s *FirewallService) RemoveFirewallRules(
	ctx context.Context, req *backendv1.RemoveFirewallRulesRequest,
) (*backendv1.RemoveFirewallRulesResponse, error) {
	if err := validateToken("scope", req.GetScope()); err != nil {
		return nil, err
	}
	selection, err := selectionOf(req)
	if err != nil {
		return nil, err
	}
	removed, err := s.operator.RemoveFirewallRules(ctx, req.GetScope(), selection, req.GetDryRun())
	if err != nil {
		return nil, err
	}
	return &backendv1.RemoveFirewallRulesResponse{Rules: ruleMessages(removed)}, nil
}

func selectionOf(req *backendv1.RemoveFirewallRulesRequest) (session.RuleSelection, error) {
	switch selected := req.GetSelection().(type) {
	case *backendv1.RemoveFirewallRulesRequest_Named:
		names := selected.Named.GetNames()
		if len(names) == 0 {
			return session.RuleSelection{}, invalidf("named.names", "needs at least one name")
		}
		if err := atMost("named.names", len(names), maxRuleNames); err != nil {
			return session.RuleSelection{}, err
		}
		for i, name := range names {
			if err := validateNameOrID(fmt.Sprintf("named.names[%d]", i), name); err != nil {
				return session.RuleSelection{}, err
			}
		}
		return session.RuleSelection{Names: names}, nil
	case *backendv1.RemoveFirewallRulesRequest_Orphaned:
		return session.RuleSelection{Orphaned: true}, nil
	case *backendv1.RemoveFirewallRulesRequest_All:
		return session.RuleSelection{All: true}, nil
	}
	return session.RuleSelection{}, invalidf("selection", "is required: named, orphaned or all")
}

func firewallMessages(firewalls []session.VPCFirewall) []*backendv1.VpcFirewall {
	msgs := make([]*backendv1.VpcFirewall, 0, len(firewalls))
	for _, f := range firewalls {
		msg := &backendv1.VpcFirewall{VpcId: f.VPCID, VpcName: f.VPCName, RuleCount: int32(f.Rules)}
		if f.Problem != nil {
			msg.Problem = oneLine(f.Problem.Error())
		}
		msgs = append(msgs, msg)
	}
	return msgs
}

func ruleMessages(kept []session.KeptRule) []*backendv1.FirewallRule {
	msgs := orphanedRuleMessages(kept)
	for i := range kept {
		rule, msg := &kept[i], msgs[i]
		for _, name := range rule.Protocols {
			for message, protocol := range protocols {
				if strings.EqualFold(name, string(protocol)) {
					msg.Protocols = append(msg.Protocols, message)
				}
			}
		}
		for _, r := range rule.Ports {
			msg.Ports = append(msg.Ports, &backendv1.PortRange{
				FirstPort: int32(r.First), LastPort: int32(r.Last),
			})
		}
		msg.SourceRanges = valuesOf(rule.Hosts, "ip", "ip_net")
		msg.InstanceNames = valuesOf(rule.Targets, "instance")
		msg.SubnetNames = valuesOf(rule.Targets, "subnet")
	}
	return msgs
}

func valuesOf(matches []firewall.Match, types ...string) []string {
	var values []string
	for _, match := range matches {
		if slices.Contains(types, match.Type) {
			values = append(values, match.Value)
		}
	}
	return values
}

// orphanedRuleMessages are rules without what they let in.
func orphanedRuleMessages(kept []session.KeptRule) []*backendv1.FirewallRule {
	msgs := make([]*backendv1.FirewallRule, 0, len(kept))
	for i := range kept {
		rule := &kept[i]
		msgs = append(msgs, &backendv1.FirewallRule{
			VpcId: rule.VPCID, VpcName: rule.VPCName, Name: rule.Name, Key: keyMessage(rule.Key),
			OwnerUid: rule.OwnerUID, Family: familyMessages[rule.Family], Priority: int32(rule.Priority),
			Orphaned: rule.Orphaned,
		})
	}
	return msgs
}
