// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// nowhere is where an address is that no instance carries.
const nowhere = "-"

// change is what would be done with one address.
type change struct {
	loadBalancer, address, from, to, why, note string
	// moves: it is taken from one instance to another.
	moves bool
}

func (c *change) id() [4]string { return [4]string{c.loadBalancer, c.address, c.from, c.to} }

// changesOf returns what planned actions do with each address, in the order in which it begins.
func changesOf(actions []*backendv1.Action, n *nodes) []change {
	var all []change
	at := make(map[string]int)
	for _, action := range actions {
		resource := action.GetKey().GetName() + " " + cmp.Or(action.GetResourceId(), action.GetResourceName())
		i, known := at[resource]
		if !known {
			i = len(all)
			at[resource] = i
			all = append(all, change{
				loadBalancer: n.loadBalancer(action.GetKey()), from: nowhere, to: nowhere, why: action.GetWhy(),
				address: cmp.Or(action.GetAddress(), action.GetResourceName()),
			})
		}
		all[i].add(action, n)
	}
	return all
}

// add adds one more action with the same address.
func (c *change) add(action *backendv1.Action, n *nodes) {
	switch action.GetType() {
	case backendv1.ActionType_ACTION_TYPE_CREATE:
		c.from = "(new)"
	case backendv1.ActionType_ACTION_TYPE_DETACH:
		c.from = n.instance(action.GetInstanceId())
	case backendv1.ActionType_ACTION_TYPE_ATTACH:
		c.to, c.moves = n.instance(action.GetInstanceId()), action.GetPreviousInstanceId() != ""
		if c.from != "(new)" {
			c.why = action.GetWhy()
		}
	case backendv1.ActionType_ACTION_TYPE_DELETE:
		c.to = "(deleted)"
	case backendv1.ActionType_ACTION_TYPE_MARK, backendv1.ActionType_ACTION_TYPE_UNSPECIFIED:
	}
}

func printChanges(w io.Writer, all []change) error {
	rows := make([][]string, len(all))
	for i, c := range all {
		rows[i] = []string{c.loadBalancer, c.address, c.from, c.to, c.note, c.why}
	}
	return printTable(w, []string{"LOAD BALANCER", "ADDRESS", "FROM", "TO", "NOTE", "WHY"}, rows)
}

// placeConditions say why an address has no place, or stays where it is to leave.
var placeConditions = []backendv1.ConditionType{
	backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE,
	backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT,
	backendv1.ConditionType_CONDITION_TYPE_DEGRADED,
	backendv1.ConditionType_CONDITION_TYPE_FAMILY_MISSING,
	backendv1.ConditionType_CONDITION_TYPE_FOREIGN_ATTACHMENT,
}

// whyNoPlace returns what a condition says of an address that has no place; empty: none says why.
func whyNoPlace(lb *backendv1.LoadBalancer, address *backendv1.LoadBalancerAddress) string {
	for _, condition := range lb.GetConditions() {
		if slices.Contains(placeConditions, condition.GetType()) &&
			(address.GetAddress() == "" || isAbout(condition.GetMessage(), address.GetAddress())) {
			return condition.GetMessage()
		}
	}
	return lb.GetProblem().GetMessage()
}

// isAbout reports whether a message has an address, and not only as the beginning or end of another.
func isAbout(message, address string) bool {
	words := strings.FieldsFunc(message, func(r rune) bool {
		return r != '.' && r != ':' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	return slices.ContainsFunc(words, func(word string) bool {
		return word == address || word == address+":" || word == address+"."
	})
}

// whyStuck says of the candidates of an explained load balancer why none of them takes its address;
// empty: it was not explained.
func whyStuck(lb *backendv1.PlannedLoadBalancer) string {
	var parts []string
	for _, verdict := range lb.GetVerdicts() {
		if !verdict.GetChosen() {
			parts = append(parts, verdict.GetDisplayName()+": "+verdict.GetReason())
		}
	}
	switch more := len(parts) - maxListed; {
	case lb == nil:
		return ""
	case len(parts) == 0:
		return "it stays: there is no other node"
	case more > 0:
		parts = append(parts[:maxListed], fmt.Sprintf("and %d more", more))
	}
	return "it stays: " + strings.Join(parts, "; ")
}
