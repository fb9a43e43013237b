// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	api "github.com/oxidecomputer/oxide.go/oxide"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
)

const firewallPath = "/v1/vpc-firewall-rules"

// FirewallRules reads the firewall of a VPC. What a rule matches by means that are not known yet
// matches nothing; of a rule that cannot be understood at all there is the name alone, which is taken,
// and it is not in force.
func (c *Client) FirewallRules(ctx context.Context, vpcID string) ([]firewall.Rule, error) {
	stored, err := c.Firewall(ctx, vpcID)
	if err != nil {
		return nil, err
	}
	rules := make([]firewall.Rule, 0, len(stored))
	for i := range stored {
		rules = append(rules, stored[i].Rule)
	}
	return rules, nil
}

// Firewall reads the firewall of a VPC, so that it can be written back.
func (c *Client) Firewall(ctx context.Context, vpcID string) ([]firewall.Stored, error) {
	op := objectCall("vpc_firewall_rules_view", "read the firewall of VPC "+vpcID)
	return read(ctx, c, op, func(ctx context.Context) ([]firewall.Stored, error) {
		var body struct {
			Rules []json.RawMessage `json:"rules"`
		}
		err := c.rawGet(ctx, firewallPath, nil, map[string]string{"vpc": vpcID}, &body)
		if err != nil {
			return nil, err
		}
		if body.Rules == nil {
			return nil, errNoList
		}
		stored := make([]firewall.Stored, 0, len(body.Rules))
		for _, text := range body.Rules {
			rule, err := firewall.ParseStored(text)
			if err != nil {
				return nil, err
			}
			stored = append(stored, rule)
		}
		return stored, nil
	})
}

// ReplaceFirewall makes these all the rules of a VPC, in the form in which Oxide takes them. Rules that
// are not among them are gone, so a list that is nil is refused, and one that is empty removes all. It
// takes the role collaborator on the project. After KindInternal the rules may be stored all the same,
// and not be in force everywhere: then they have to be written again.
func (c *Client) ReplaceFirewall(ctx context.Context, vpcID string, rules []json.RawMessage) error {
	op := objectCall("vpc_firewall_rules_update", "write the firewall of VPC "+vpcID)
	op.collaborator = true
	if rules == nil {
		return &Error{Operation: op.doing, Kind: KindMalformed, Detail: "no list of rules is given"}
	}
	body, err := json.Marshal(map[string]any{"rules": rules})
	if err != nil {
		return &Error{Operation: op.doing, Kind: KindMalformed, Detail: oneLine(err.Error())}
	}
	_, err = mutate(ctx, c, op, func(ctx context.Context) (struct{}, error) {
		var answer struct{}
		return answer, c.rawCall(ctx, api.Request{
			Method: http.MethodPut, Path: firewallPath, Query: map[string]string{"vpc": vpcID},
			Body: bytes.NewReader(body),
		}, &answer)
	})
	return err
}
