// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import "testing"

// From a pod's own network the nodes need not be reached as their traffic reaches them. The right to
// read leases is there for the probes alone.
func TestNodesAreProbedInTheHostsNetworkUnlessSwitchedOff(t *testing.T) {
	for values, want := range map[string]bool{
		"":                                 true,
		"readOnly: true":                   true,
		"shim: {probeNodes: false}":        false,
		"deployment: {hostNetwork: false}": false,
		"deployment: {hostNetwork: false}\nshim: {probeNodes: true}": false,
	} {
		all := render(t, values)
		shim := container(t, all.deployment.Spec.Template.Spec, shimName)
		if got := flag(t, shim, "probe-nodes") == "true"; got != want {
			t.Errorf("%q: nodes are probed: %t, want %t", values, got, want)
		}
		if got := all.leaseRole != nil; got != want {
			t.Errorf("%q: there is a role in kube-node-lease: %t, want %t", values, got, want)
		}
	}
}

// The last one of a flag wins, and without the right to read leases probes would lead to nothing.
func TestExtraArgumentsDoNotSwitchProbesOn(t *testing.T) {
	all := render(t, "deployment: {hostNetwork: false}\nshim: {extraArgs: [--probe-nodes]}")
	shim := container(t, all.deployment.Spec.Template.Spec, shimName)
	if got := flag(t, shim, "probe-nodes"); got != "false" {
		t.Errorf("--probe-nodes=%s", got)
	}
}
