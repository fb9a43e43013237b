// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// ReadyCondition is the type of the condition in status.conditions of a Service that says whether its
// addresses are served, and why not. Events are gone after an hour; it stays.
const ReadyCondition = "oxide.computer/LoadBalancerReady"

// readyReason is its reason while it is True.
const readyReason = "AddressAttached"

// unserved are the conditions during which an address of the Service is not served: it is attached
// nowhere, or where it serves nothing. What the firewall closes is not among them: its rules are the
// user's, and read later than the place of an address is known.
var unserved = map[backendv1.ConditionType]bool{
	backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE:       true,
	backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT:      true,
	backendv1.ConditionType_CONDITION_TYPE_PENDING:            true,
	backendv1.ConditionType_CONDITION_TYPE_DEGRADED:           true,
	backendv1.ConditionType_CONDITION_TYPE_NOT_OWNED:          true,
	backendv1.ConditionType_CONDITION_TYPE_FOREIGN_ATTACHMENT: true,
	backendv1.ConditionType_CONDITION_TYPE_FAILOVER_SUSPENDED: true,
	backendv1.ConditionType_CONDITION_TYPE_ATTACH_TIMEOUT:     true,
}

// worthKnowing are the conditions that the condition of a served Service names as well. They are
// read from what there is. What a session has seen happen, such as a renaming, is none: another leader
// would not know it, and rewrite every such condition.
var worthKnowing = map[backendv1.ConditionType]bool{
	backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED:     true,
	backendv1.ConditionType_CONDITION_TYPE_FIREWALL_WIDENED:    true,
	backendv1.ConditionType_CONDITION_TYPE_FIREWALL_INCOMPLETE: true,
	backendv1.ConditionType_CONDITION_TYPE_PORT_REFUSED:        true,
	backendv1.ConditionType_CONDITION_TYPE_FAMILY_MISSING:      true,
}

// isUnserved reports whether a state says that an address is not served: then the Service has no
// success to report, whatever it publishes.
func isUnserved(state *backendv1.LoadBalancerState) bool {
	return isPlacement(state.GetProblem().GetReason()) ||
		slices.ContainsFunc(state.GetConditions(), func(condition *backendv1.Condition) bool {
			return unserved[condition.GetType()]
		})
}

// isUnread reports whether the problem of a state is one of Oxide as a whole, or of the credentials:
// what the Service has may be served all the same. That something is forbidden concerns the Service
// alone if it has nothing yet.
func isUnread(state *backendv1.LoadBalancerState) bool {
	problem := state.GetProblem()
	switch problem.GetReason() {
	case backendv1.ErrorReason_ERROR_REASON_OXIDE_BAD_RESPONSE,
		backendv1.ErrorReason_ERROR_REASON_INTERNAL,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_CREDENTIALS_REJECTED,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_API_VERSION_UNSUPPORTED,
		backendv1.ErrorReason_ERROR_REASON_PROJECT_NOT_FOUND:
		return true
	case backendv1.ErrorReason_ERROR_REASON_OXIDE_FORBIDDEN:
		return len(state.GetPublish()) > 0
	default:
		return codes.Code(problem.GetCode()) == codes.Unavailable
	}
}

// readyCondition translates a state into the condition of its Service. It is Unknown while Oxide
// cannot be read, and True also where there is something to know, which the reason then names. Not
// known: changes are under way, or nothing was read yet, so what was so before
// is still the latest that there is to say.
func (c *Controller) readyCondition(
	service *v1.Service, state *backendv1.LoadBalancerState,
) (condition metav1.Condition, known bool) {
	condition = metav1.Condition{Type: ReadyCondition, Status: metav1.ConditionFalse}
	var messages []string
	for _, holds := range state.GetConditions() {
		if !unserved[holds.GetType()] {
			continue
		}
		if condition.Reason == "" {
			condition.Reason = conditionReasons[holds.GetType()]
		}
		messages = append(messages, c.messageOf(service, holds))
	}
	switch problem := state.GetProblem(); {
	case problem != nil && condition.Reason == "":
		condition.Reason = camelCase(problem.GetReason().String())
		messages = []string{problemError(service, problem).Error()}
		if isUnread(state) {
			condition.Status = metav1.ConditionUnknown
		}
	case condition.Reason != "":
	case state.GetPhase() != backendv1.Phase_PHASE_READY:
		return condition, false
	default:
		condition.Status, condition.Reason = metav1.ConditionTrue, readyReason
		messages = []string{client.OneLine(state.GetExplanation())}
		for _, holds := range state.GetConditions() {
			if !worthKnowing[holds.GetType()] {
				continue
			}
			messages = append(messages, c.messageOf(service, holds))
			if condition.Reason == readyReason {
				condition.Reason = conditionReasons[holds.GetType()]
			}
		}
	}
	condition.Message = strings.Join(messages, "; ")
	return condition, true
}

// messageOf is what a condition of the backend says, for people.
func (c *Controller) messageOf(service *v1.Service, condition *backendv1.Condition) string {
	message := client.OneLine(condition.GetMessage())
	switch condition.GetType() {
	case backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE:
		message = client.OneLine(message + strangers(c.allNodes()))
	case backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED:
		if off, err := annotations.FirewallOff(service); err == nil && !off && c.firewallUnmanaged.Load() {
			message = client.OneLine(message + manageFirewall)
		}
	}
	return message
}

// manageFirewall is where the flag is set that the backend names.
const manageFirewall = "; in the chart that is firewall.manage=true"

// camelCase makes a reason of the name of an ErrorReason.
func camelCase(name string) string {
	var reason strings.Builder
	for word := range strings.SplitSeq(strings.TrimPrefix(name, "ERROR_REASON_"), "_") {
		reason.WriteString(word[:1] + strings.ToLower(word[1:]))
	}
	return reason.String()
}
