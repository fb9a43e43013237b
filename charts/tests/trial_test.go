// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOnTrialBothContainersChangeNothing(t *testing.T) {
	for values, want := range map[string]bool{
		"": false, "readOnly: false": false, "readOnly: true": true,
	} {
		for _, each := range containers(render(t, values).deployment.Spec.Template.Spec) {
			if got := slices.Contains(each.Args, "--read-only"); got != want {
				t.Errorf("%q gives %s the flag: %t, want %t", values, each.Name, got, want)
			}
		}
	}
}

// What it could not do by mistake need not be trusted.
func TestOnTrialThePodHasNoRightToChangeAnything(t *testing.T) {
	all := render(t, "readOnly: true")
	for _, rule := range all.rules() {
		// To ask who reads the metrics is to create a question, and changes nothing.
		if slices.Contains(rule.Resources, "tokenreviews") ||
			slices.Contains(rule.Resources, "subjectaccessreviews") {
			continue
		}
		for _, verb := range rule.Verbs {
			if !slices.Contains([]string{"get", "list", "watch"}, verb) {
				t.Errorf("it may %s %v", verb, rule.Resources)
			}
		}
	}
}

// It runs on the nodes of the one that is in charge, in the same network.
func TestOnTrialThePortsAreOthers(t *testing.T) {
	const open = "backend: {metrics: {enabled: true}}\nshim: {bindAddress: 0.0.0.0}\n"
	ports := func(values string) map[string]int32 {
		found := map[string]int32{}
		all := render(t, values, withMonitors...)
		pod := all.deployment.Spec.Template.Spec
		for _, each := range containers(pod) {
			for _, port := range each.Ports {
				found[port.Name] = port.ContainerPort
			}
		}
		found["service"] = all.metricsService.Spec.Ports[0].Port
		return found
	}
	want := map[string]int32{"health": 10368, "metrics": 10369, "https": 10358, "service": 10358}
	if diff := cmp.Diff(want, ports(open+"readOnly: true")); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	for name, port := range ports(open) {
		if want[name]-100 != port {
			t.Errorf("in charge the port %s is %d, want %d", name, port, want[name]-100)
		}
	}
	pod := render(t, open+"readOnly: true").deployment.Spec.Template.Spec
	got := []string{
		flag(t, container(t, pod, backendName), "health-listen"),
		flag(t, container(t, pod, backendName), "metrics-listen"),
		flag(t, container(t, pod, shimName), "secure-port"),
	}
	if diff := cmp.Diff([]string{"127.0.0.1:10368", "0.0.0.0:10369", "10358"}, got); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
}
