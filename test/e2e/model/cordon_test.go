// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// Cordons: a Node that becomes unschedulable while the shim runs is left by the addresses that have
// another place. One that was unschedulable before the shim started keeps them.

func cordonKinds() []kind {
	return []kind{
		{5, ofNode(func(n *node) bool { return !n.cordoned }, "cordon the Node", cordons(true))},
		{9, ofNode(func(n *node) bool { return n.cordoned }, "uncordon the Node", cordons(false))},
	}
}

func cordons(cordoned bool) func(context.Context, *world, *node) error {
	return func(ctx context.Context, w *world, n *node) error {
		n.cordoned, n.drains = cordoned, cordoned
		_, err := w.cluster.Client.CoreV1().Nodes().Patch(ctx, n.name, types.MergePatchType,
			fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, cordoned), metav1.PatchOptions{})
		return err
	}
}

// forgetCordons notes that a shim has started, which knows of no cordon when it began.
func (e *expectation) forgetCordons() {
	for _, n := range e.nodes {
		n.drains = false
	}
}

// isDrained reports whether an address has to leave its node if it can be elsewhere.
func (e *expectation) isDrained(instance string) bool {
	n := e.nodes[instance]
	return n != nil && n.drains && !e.rivals
}

// stays returns those of some nodes that are not cordoned: where an address may go from one that is.
func (e *expectation) stays(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return e.nodes[name].cordoned })
}

// checkDrained finds an address that is on a cordoned node and could be on one that is not.
func (e *expectation) checkDrained(found *problems, s snapshot, v *service, ip rack.Carried, stuck int) {
	free := e.stays(e.choices(s, v, ip))
	if e.isDrained(ip.Instance) && ip.AttachState == rack.Attached && len(free) > stuck {
		found.add(converges, "%s of %s is on %s, which is cordoned, and could be on %v", ip.Addr, v.name,
			ip.Instance, free)
	}
}
