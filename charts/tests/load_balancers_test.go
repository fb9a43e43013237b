// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/cloud-provider/names"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/services"
)

// Off means that none of the controllers of Services is started, and that all others are.
func TestLoadBalancersAreTurnedOffByTheirControllers(t *testing.T) {
	const classedOnly = "--classed-load-balancers-only"
	off := []string{"*", "-" + names.ServiceLBController, "-" + services.Name, "-" + services.ClassName}
	for _, tt := range []struct {
		values      string
		controllers []string
		classedOnly bool
	}{
		{"", nil, false},
		{"loadBalancers: {enabled: true}", nil, false},
		{"loadBalancers: {classedOnly: true}", nil, true},
		{noLoadBalancers, off, false},
		// A flag that contradicts the controllers would end the program.
		{"loadBalancers: {enabled: false, classedOnly: true}", off, false},
	} {
		args := container(t, render(t, tt.values).deployment.Spec.Template.Spec, shimName).Args
		if got := slices.Contains(args, classedOnly); got != tt.classedOnly {
			t.Errorf("%q gives %s: %t, want %t", tt.values, classedOnly, got, tt.classedOnly)
		}
		var controllers []string
		for _, arg := range args {
			if list, ok := strings.CutPrefix(arg, "--controllers="); ok {
				controllers = append(controllers, strings.Split(list, ",")...)
			}
		}
		if !slices.Equal(controllers, tt.controllers) {
			t.Errorf("%q gives the controllers %q, want %q", tt.values, controllers, tt.controllers)
		}
	}
}

// Nodes are probed for the sake of their addresses alone.
func TestWithoutLoadBalancersNothingIsProbed(t *testing.T) {
	pod := render(t, noLoadBalancers).deployment.Spec.Template.Spec
	if got := flag(t, container(t, pod, shimName), "probe-nodes"); got != "false" {
		t.Errorf("--probe-nodes is %s", got)
	}
}

// The check of `helm test` has to see whether the role is enough for it.
func TestTheFirewallIsManagedOnRequestByTheBackendAlone(t *testing.T) {
	for values, want := range map[string][]string{
		"": nil, "firewall: {priority: 7}": nil, "firewall: {manage: false}": nil,
		"firewall: {manage: true}":                                 {"--manage-firewall", "--firewall-priority=1000"},
		"firewall: {manage: true, priority: 0}":                    {"--manage-firewall", "--firewall-priority=0"},
		"firewall: {manage: true, priority: 65535}":                {"--manage-firewall", "--firewall-priority=65535"},
		"firewall: {manage: true}\nreadOnly: true":                 {"--manage-firewall", "--firewall-priority=1000"},
		"firewall: {manage: true}\nbackend: {extraArgs: [--x=1]}":  {"--manage-firewall", "--firewall-priority=1000"},
		"firewall: {manage: true}\nloadBalancers: {enabled: true}": {"--manage-firewall", "--firewall-priority=1000"},
	} {
		all := render(t, values)
		pod := all.deployment.Spec.Template.Spec
		for name, args := range map[string][]string{
			backendName: container(t, pod, backendName).Args, shimName: container(t, pod, shimName).Args,
			"check": all.check.Spec.Containers[0].Args,
		} {
			var got []string
			for _, arg := range args {
				if strings.Contains(arg, "firewall") {
					got = append(got, arg)
				}
			}
			if want := map[string][]string{backendName: want, "check": want}[name]; !slices.Equal(got, want) {
				t.Errorf("%q gives %s %q, want %q", values, name, got, want)
			}
		}
	}
}
