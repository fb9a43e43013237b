// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"encoding/json"
	"fmt"

	"google.golang.org/grpc/codes"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// maxPerInstance is more addresses than Oxide attaches to one instance.
const maxPerInstance = 40

func reasonCases() []Case {
	faults := needs{faults: true, changes: true, features: operations}
	node := faults
	node.instances = 1
	rules := node
	rules.features = append([]feature{
		backendv1.Feature_FEATURE_FIREWALL_RULES, backendv1.Feature_FEATURE_FIREWALL_OPERATIONS,
	}, operations...)
	return []Case{
		{Name: "reasons/pool-exhausted", run: poolExhausted, needs: node, Contract: []string{
			"RESOURCE_EXHAUSTED with RetryInfo: the pool has no address left (HTTP 507).",
		}},
		{Name: "reasons/instance-not-operable", run: notOperable, needs: faults, Contract: []string{
			"FAILED_PRECONDITION: the instance has failed, is being created, or is on its way from one " +
				"state to " +
				"another, and Oxide neither attaches nor detaches until it runs or is stopped.",
		}},
		{Name: "reasons/instance-limit", run: instanceLimit, needs: faults, Contract: []string{
			"INSTANCE_LIMIT_REACHED if the target carries as many addresses as it can",
		}},
		{Name: "reasons/forbidden-change", run: forbiddenChange, needs: faults, Contract: []string{
			forbiddenContract,
		}},
		{Name: "reasons/firewall-not-representable", run: notRepresentable, needs: rules, Contract: []string{
			"FAILED_PRECONDITION: the firewall of a VPC has a rule that this backend cannot write back " +
				"exactly as " +
				"it is, and all rules of a VPC are written at once. Nothing was written; the message names " +
				"the rule.",
		}},
	}
}

func poolExhausted(ctx context.Context, c *checker) {
	c.reserve(ctx, c.reservation("pool-is-there")) // else the case is skipped
	restore := c.spoil(ctx, fault{
		Operation: "floating_ip_create", Status: 507, ErrorCode: "InsufficientCapacity",
	})
	request := c.reservation("exhausted")
	for range repetitions {
		_, err := c.addresses.ReserveAddress(ctx, request)
		if !c.refused("ReserveAddress from a full pool", err, codes.ResourceExhausted,
			backendv1.ErrorReason_ERROR_REASON_POOL_EXHAUSTED) {
			break
		}
	}
	lb := c.balancer("exhausted")
	name := lb.GetKey().GetName()
	s := c.acting(ctx, c.nodes[:1], lb)
	s.await(ctx, "the problem of a load balancer", func(e *events) bool {
		problem := e.states[name].GetProblem()
		return problem.GetReason() == backendv1.ErrorReason_ERROR_REASON_POOL_EXHAUSTED &&
			codes.Code(problem.GetCode()) == codes.ResourceExhausted &&
			problem.GetRetryDelay().AsDuration() > 0
	})
	restore(ctx)
	s.release(ctx)
	c.reserve(ctx, request)
	c.countNamed(ctx, request.GetName(), 1)
}

func notOperable(ctx context.Context, c *checker) {
	address := c.reserve(ctx, c.reservation("busy"))
	node := c.addInstance(ctx, seedInstance{})
	c.play(ctx, "set-run-state", story{Instance: node.GetName(), State: "migrating"})
	request := attachRequest(address, node)
	for range repetitions {
		_, err := c.addresses.AttachAddress(ctx, request)
		if !c.refused("AttachAddress to an instance that migrates", err, codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_OPERABLE) {
			break
		}
	}
	c.attachedTo(ctx, address, "")
	c.play(ctx, "set-run-state", story{Instance: node.GetName(), State: "running"})
	c.repeat(ctx, "AttachAddress once it runs", func() error {
		_, err := c.addresses.AttachAddress(ctx, request)
		return err
	})
	c.detach(ctx, address, node)
}

func instanceLimit(ctx context.Context, c *checker) {
	node := c.addInstance(ctx, seedInstance{})
	for i := range maxPerInstance {
		address := c.reserve(ctx, c.reservation("many"))
		_, err := c.addresses.AttachAddress(ctx, attachRequest(address, node))
		if err != nil {
			c.refused(fmt.Sprintf("the attachment of address %d", i+1), err, codes.ResourceExhausted,
				backendv1.ErrorReason_ERROR_REASON_INSTANCE_LIMIT_REACHED)
			c.attachedTo(ctx, address, "")
			return
		}
	}
	c.fail("40 addresses on one instance", "ResourceExhausted INSTANCE_LIMIT_REACHED", "all are attached")
}

func forbiddenChange(ctx context.Context, c *checker) {
	c.reserve(ctx, c.reservation("pool-is-there")) // else the case is skipped
	restore := c.spoil(ctx, fault{Operation: "floating_ip_create", Status: 403, ErrorCode: "Forbidden"})
	request := c.reservation("forbidden")
	_, err := c.addresses.ReserveAddress(ctx, request)
	c.refused("ReserveAddress by one who may only read", err, codes.PermissionDenied,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_FORBIDDEN)
	restore(ctx)
	c.countNamed(ctx, request.GetName(), 0)
}

// notRepresentable removes a rule while the firewall has another one with a field that nobody knows.
func notRepresentable(ctx context.Context, c *checker) {
	lb := c.balancer("opened")
	lb.OpenFirewall = true
	s := c.acting(ctx, c.nodes[:1], lb, c.balancer("beside"))
	s.ready(ctx, lb.GetKey().GetName())
	s.send(removedItem(lb))
	s.sending.Lock()
	delete(s.desired, lb.GetKey().GetName())
	s.sending.Unlock()
	s.await(ctx, "its rule is an orphan", func(e *events) bool { return len(e.firewallOrphans) == 1 })
	s.mu.Lock()
	name := s.firewallOrphans[0].GetName()
	s.mu.Unlock()
	restore := c.spoil(ctx, fault{
		Operation: "vpc_firewall_rules_view", Body: c.strangeFirewall(ctx, c.nodes[0]),
	})
	_, err := c.removeRules(ctx, name)
	restore(ctx)
	c.refused("RemoveFirewallRules beside a rule of a newer Oxide", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_FIREWALL_NOT_REPRESENTABLE)
	for range repetitions {
		_, err = c.removeRules(ctx, name)
		c.ok("RemoveFirewallRules of an orphan", err)
	}
	left, err := c.firewall.ListFirewallRules(ctx,
		&backendv1.ListFirewallRulesRequest{Scope: c.options.Scope})
	if c.ok("ListFirewallRules", err) {
		equal(c, "the number of rules afterwards", len(left.GetRules()), 0)
	}
	s.release(ctx)
}

// strangeFirewall is the firewall of an instance's VPC, in which each rule has a field that no
// release of Oxide has.
func (c *checker) strangeFirewall(ctx context.Context, node *backendv1.Instance) string {
	var firewall struct {
		Rules []map[string]any `json:"rules"`
	}
	vpc := node.GetNetworkInterfaces()[0].GetVpcId()
	if err := c.readRack(ctx, "/v1/vpc-firewall-rules?vpc="+vpc, &firewall); err != nil {
		c.fatal("the firewall of the rack", "its rules", err.Error())
	}
	for _, rule := range firewall.Rules {
		rule["of_the_sanity_suite"] = true
	}
	text, err := json.Marshal(firewall)
	c.must("the firewall as JSON", err)
	return string(text)
}
