// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// word makes a value of an enum of the API a word for people: RUN_STATE_RUNNING is "running".
func word(value fmt.Stringer, prefix string) string {
	text, _ := strings.CutPrefix(value.String(), prefix)
	if text == "UNSPECIFIED" {
		return ""
	}
	return strings.ReplaceAll(strings.ToLower(text), "_", " ")
}

// runState is what an instance does.
func runState(instance *backendv1.Instance) string {
	state := cmp.Or(word(instance.GetRunState(), "RUN_STATE_"), instance.GetRunStateText())
	if instance.GetShutDown() && instance.GetRunState() == backendv1.RunState_RUN_STATE_FAILED {
		state += ", and stays so"
	}
	return state
}

// kind is which kind of Oxide resource an address is.
func kind(source backendv1.AddressSource) string {
	return map[backendv1.AddressSource]string{
		backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP:     "floating IP",
		backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET: "external subnet",
	}[source]
}

// since is how long something has been so, in two units at most.
func since(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return ""
	}
	d := max(now.Sub(t.AsTime()), 0).Truncate(time.Second)
	const day = 24 * time.Hour
	switch {
	case d >= 10*day:
		return fmt.Sprintf("%dd", d/day)
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= 10*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}

// privateAddresses are those of all interfaces of an instance.
func privateAddresses(instance *backendv1.Instance) (all []string) {
	for _, nic := range instance.GetNetworkInterfaces() {
		all = append(all, nic.GetAddresses()...)
	}
	return all
}

// externalAddresses are those that belong to an instance itself.
func externalAddresses(instance *backendv1.Instance) (all []string) {
	for _, address := range instance.GetExternalAddresses() {
		all = append(all, address.GetAddress())
	}
	return all
}

// place is where an address is attached, and where it is going.
func (n *names) place(address *backendv1.LoadBalancerAddress) string {
	at, to := n.at(address.GetAttachment()), n.at(address.GetPlannedAttachment())
	switch {
	case at == to:
		return cmp.Or(at, "nowhere")
	case at == "":
		return "to " + to
	case to == "":
		return at + ", leaving"
	}
	return at + ", to " + to
}

// addressText is an address, or what it is called while it has none yet.
func addressText(address *backendv1.LoadBalancerAddress) string {
	return cmp.Or(address.GetAddress(), address.GetResourceName())
}

// note is what there is to say about a load balancer: what is wrong, then its conditions, each once.
func note(lb *backendv1.LoadBalancer) string {
	var said []string
	say := func(text string) {
		if text != "" && !slices.Contains(said, text) {
			said = append(said, text)
		}
	}
	say(lb.GetProblem().GetMessage())
	for _, condition := range lb.GetConditions() {
		say(condition.GetMessage())
	}
	return strings.Join(said, "; ")
}

// trouble orders load balancers: those with a problem come first, then those with a condition, then
// those that are not ready.
func trouble(lb *backendv1.LoadBalancer) int {
	switch phase := lb.GetPhase(); {
	case lb.GetProblem() != nil:
		return 0
	case len(lb.GetConditions()) > 0:
		return 1
	case phase == backendv1.Phase_PHASE_PENDING || phase == backendv1.Phase_PHASE_PROGRESSING:
		return 2
	}
	return 3
}

// hasTrouble reports whether something is wrong with a load balancer.
func hasTrouble(lb *backendv1.LoadBalancer) bool { return trouble(lb) < 2 }

// compareKeys orders load balancers by the names of their scopes and their own.
func compareKeys(a, b *backendv1.LoadBalancerKey) int {
	return cmp.Or(strings.Compare(a.GetScope(), b.GetScope()), strings.Compare(a.GetName(), b.GetName()))
}
