// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// anyObject is what all objects have.
type anyObject struct {
	Kind     string            `json:"kind"`
	Metadata metav1.ObjectMeta `json:"metadata"`
}

// allObjects returns all objects of a rendering, whatever their kinds.
func allObjects(t *testing.T, values string, args ...string) []anyObject {
	t.Helper()
	out, stderr, err := template(t, values, args...)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, stderr)
	}
	var all []anyObject
	reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(out)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		var object anyObject
		if err := yaml.Unmarshal(document, &object); err != nil {
			t.Fatal(err)
		}
		if object.Kind != "" {
			all = append(all, object)
		}
	}
}

func TestCommonLabelsAndAnnotationsAreOnAllObjects(t *testing.T) {
	all := allObjects(t, everything, withMonitors...)
	if len(all) < 15 {
		t.Errorf("only %d objects", len(all))
	}
	for _, object := range all {
		if object.Kind == "NetworkPolicy" { // the user's own
			continue
		}
		if object.Metadata.Labels["team"] != "platform" ||
			object.Metadata.Annotations["example.com/owner"] != "platform" {
			t.Errorf("%s %s has the labels %v and the annotations %v", object.Kind, object.Metadata.Name,
				object.Metadata.Labels, object.Metadata.Annotations)
		}
	}
	rendered := render(t, everything, withMonitors...).deployment
	if rendered.Spec.Template.Labels["team"] != "platform" {
		t.Error("the pods lack the common label")
	}
	if _, ok := rendered.Spec.Selector.MatchLabels["team"]; ok {
		t.Error("the selector, which cannot change, has the common label")
	}
	if _, ok := rendered.Spec.Template.Annotations["example.com/owner"]; ok {
		t.Error("the pods have the common annotation, and would restart with it")
	}
}

func TestTheServiceAccountHasItsAnnotations(t *testing.T) {
	want := map[string]string{"example.com/owner": "platform", "example.com/role": "ccm"}
	got := render(t, everything, withMonitors...).serviceAccount.Annotations
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
}

func TestTheWholeNameCanBeReplaced(t *testing.T) {
	for _, object := range allObjects(t, "fullnameOverride: edge\n"+openMetrics, withMonitors...) {
		name := strings.TrimPrefix(object.Metadata.Name, "system:")
		if name, _, _ = strings.Cut(name, ":"); name != "edge" && !strings.HasPrefix(name, "edge-") {
			t.Errorf("%s is named %s", object.Kind, object.Metadata.Name)
		}
	}
	selector := render(t, "fullnameOverride: edge").deployment.Spec.Selector.MatchLabels
	if selector["app.kubernetes.io/name"] != releaseName {
		t.Errorf("the selector has become %v", selector)
	}
}

// On each node that admits it there is one, and none could take its place within a budget.
func TestADaemonSetRunsOnControlPlaneNodesUnlessToldWhere(t *testing.T) {
	all := render(t, daemonSet)
	if all.daemonSet == nil || all.budget != nil ||
		all.daemonSet.Spec.Template.Spec.TopologySpreadConstraints != nil {
		t.Fatalf("a DaemonSet: %t, a budget: %t", all.daemonSet != nil, all.budget != nil)
	}
	update := all.daemonSet.Spec.UpdateStrategy
	if update.Type != appsv1.RollingUpdateDaemonSetStrategyType ||
		update.RollingUpdate.MaxSurge.IntValue() != 0 || update.RollingUpdate.MaxUnavailable.IntValue() != 1 {
		t.Errorf("update strategy %v", update)
	}
	required := func(values string) []string {
		var keys []string
		affinity := render(t, values).daemonSet.Spec.Template.Spec.Affinity
		if affinity.NodeAffinity == nil {
			return nil
		}
		selector := affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		if selector == nil {
			return nil
		}
		for _, term := range selector.NodeSelectorTerms {
			for _, expression := range term.MatchExpressions {
				keys = append(keys, expression.Key)
			}
		}
		return keys
	}
	for values, want := range map[string][]string{
		daemonSet: {"node-role.kubernetes.io/control-plane"},
		"deployment: {kind: DaemonSet, nodeSelector: {disk: ssd}}":          nil,
		"deployment: {kind: DaemonSet, affinity: {nodeAffinity: {}}}":       nil,
		"deployment: {kind: DaemonSet, replicas: 5, openshift: true}":       {"node-role.kubernetes.io/control-plane"},
		"readOnly: true\ndeployment: {kind: DaemonSet, hostNetwork: false}": {"node-role.kubernetes.io/control-plane"},
	} {
		if diff := cmp.Diff(want, required(values)); diff != "" {
			t.Errorf("%q requires of nodes (-want +got):\n%s", values, diff)
		}
	}
}

func TestTheBudgetCanBeLeftOut(t *testing.T) {
	if all := render(t, "podDisruptionBudget: {enabled: false}"); all.budget != nil {
		t.Error("there is a budget")
	}
}

func TestHowPodsAreReplacedCanBeSaid(t *testing.T) {
	spec := render(t, everything, withMonitors...).deployment.Spec
	if spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType || spec.Strategy.RollingUpdate != nil {
		t.Errorf("strategy %v", spec.Strategy)
	}
	if *spec.RevisionHistoryLimit != 5 || *spec.Template.Spec.TerminationGracePeriodSeconds != 40 {
		t.Errorf("%d revisions, %d s to end", *spec.RevisionHistoryLimit,
			*spec.Template.Spec.TerminationGracePeriodSeconds)
	}
	// The backend needs 28 s for what it has sent to Oxide.
	if got := *render(t, "").deployment.Spec.Template.Spec.TerminationGracePeriodSeconds; got != 30 {
		t.Errorf("%d s to end by default", got)
	}
}

func TestSpreadConstraintsAreAboutTheChartsPods(t *testing.T) {
	const values = `deployment: {replicas: 1, topologySpreadConstraints: [
		{topologyKey: zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule},
		{topologyKey: rack, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {a: b}}}]}`
	all := render(t, values).deployment
	got := all.Spec.Template.Spec.TopologySpreadConstraints
	if len(got) != 2 {
		t.Fatalf("constraints %v", got)
	}
	if diff := cmp.Diff(all.Spec.Selector, got[0].LabelSelector); diff != "" {
		t.Errorf("the first is about other pods (-selector +constraint):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"a": "b"}, got[1].LabelSelector.MatchLabels); diff != "" {
		t.Errorf("the second's own selector (-want +got):\n%s", diff)
	}
}

func TestSecurityContextsAreValues(t *testing.T) {
	all := render(t, everything, withMonitors...)
	for name, pod := range map[string]corev1.PodSpec{
		"pod": all.deployment.Spec.Template.Spec, "check": all.check.Spec,
	} {
		if got := pod.SecurityContext; *got.RunAsUser != 1001 || *got.FSGroup != 1001 ||
			!slices.Equal(got.SupplementalGroups, []int64{1002}) {
			t.Errorf("%s: %v", name, got)
		}
		for _, each := range containers(pod) {
			if got := each.SecurityContext.ProcMount; got == nil || *got != corev1.DefaultProcMount {
				t.Errorf("%s of %s: %v", each.Name, name, each.SecurityContext)
			}
		}
	}
}

// OpenShift gives each namespace users of its own, and refuses a pod that names another.
func TestOnOpenShiftNoUserAndGroupIsNamed(t *testing.T) {
	for values, constraint := range map[string]bool{
		"deployment: {openshift: true}":                     true,
		"deployment: {openshift: true, hostNetwork: false}": false,
	} {
		all := render(t, values)
		for name, pod := range map[string]corev1.PodSpec{
			"pod": all.deployment.Spec.Template.Spec, "check": all.check.Spec,
		} {
			got := pod.SecurityContext
			if got.RunAsUser != nil || got.RunAsGroup != nil || got.FSGroup != nil || !*got.RunAsNonRoot {
				t.Errorf("%q: the %s has %v", values, name, got)
			}
			if pod.ServiceAccountName != all.serviceAccount.Name {
				t.Errorf("%q: the %s runs as %q", values, name, pod.ServiceAccountName)
			}
		}
		if got := all.constraintRole != nil; got != constraint {
			t.Fatalf("%q: it may use a constraint: %t, want %t", values, got, constraint)
		}
		if constraint {
			want := []rbacv1.PolicyRule{{
				Verbs: []string{"use"}, APIGroups: []string{"security.openshift.io"},
				Resources: []string{"securitycontextconstraints"}, ResourceNames: []string{"hostnetwork-v2"},
			}}
			if diff := cmp.Diff(want, all.constraintRole.Rules); diff != "" {
				t.Errorf("%q: rules (-want +got):\n%s", values, diff)
			}
		}
	}
	if all := render(t, ""); all.check.Spec.ServiceAccountName != "" {
		t.Errorf("elsewhere the check runs as %s", all.check.Spec.ServiceAccountName)
	}
}

func TestNamesCanBeResolvedInOtherWays(t *testing.T) {
	all := render(t, everything, withMonitors...)
	for name, pod := range map[string]corev1.PodSpec{
		"pod": all.deployment.Spec.Template.Spec, "check": all.check.Spec,
	} {
		one := "1"
		if diff := cmp.Diff(&corev1.PodDNSConfig{
			Nameservers: []string{"192.0.2.53"}, Searches: []string{"example.com"},
			Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &one}},
		}, pod.DNSConfig); diff != "" {
			t.Errorf("dnsConfig of the %s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff([]corev1.HostAlias{
			{IP: "192.0.2.2", Hostnames: []string{"silo.sys.example.com"}},
		}, pod.HostAliases); diff != "" {
			t.Errorf("hostAliases of the %s (-want +got):\n%s", name, diff)
		}
	}
}

func TestTimingOfTheProbesIsAValue(t *testing.T) {
	type timing struct{ Delay, Period, Timeout, Success, Failure int32 }
	timings := func(values string, args ...string) map[string][]timing {
		got := map[string][]timing{}
		for _, each := range containers(render(t, values, args...).deployment.Spec.Template.Spec) {
			for _, probe := range []*corev1.Probe{
				each.StartupProbe, each.LivenessProbe, each.ReadinessProbe,
			} {
				got[each.Name] = append(got[each.Name], timing{
					probe.InitialDelaySeconds, probe.PeriodSeconds, probe.TimeoutSeconds,
					probe.SuccessThreshold, probe.FailureThreshold,
				})
			}
		}
		return got
	}
	if diff := cmp.Diff(map[string][]timing{
		backendName: {{0, 1, 0, 0, 60}, {0, 10, 5, 0, 3}, {0, 5, 5, 0, 3}},
		shimName:    {{0, 2, 0, 0, 60}, {0, 10, 5, 0, 3}, {0, 5, 5, 0, 3}},
	}, timings("")); diff != "" {
		t.Errorf("by default (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][]timing{
		backendName: {{1, 3, 0, 0, 40}, {0, 20, 6, 0, 4}, {0, 6, 4, 2, 2}},
		shimName:    {{0, 4, 0, 0, 30}, {0, 30, 3, 0, 5}, {0, 7, 2, 0, 6}},
	}, timings(everything, withMonitors...)); diff != "" {
		t.Errorf("by values (-want +got):\n%s", diff)
	}
}

func TestExtraObjectsMayHoldTemplates(t *testing.T) {
	if got := render(t, everything, withMonitors...).extra; got == nil || got.Name != releaseName+"-closed" {
		t.Errorf("the extra object is %v", got)
	}
	const text = `
extraObjects:
  - |
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata: {name: {{ include "ccm.fullname" . }}-text}
    spec: {podSelector: {}}
`
	if got := render(t, text).extra; got == nil || got.Name != releaseName+"-text" {
		t.Errorf("the extra object, as text, is %v", got)
	}
}

// notes returns what helm says after an installation.
func notes(t *testing.T, values string, args ...string) string {
	t.Helper()
	out, stderr, err := helm(t, values, append([]string{
		"install", releaseName, chart, "--namespace", namespace, "--dry-run=client", "--values", "-",
	}, args...)...)
	if err != nil {
		t.Fatalf("helm install: %v\n%s", err, stderr)
	}
	_, text, _ := strings.Cut(out, "\nNOTES:\n")
	return text
}

func TestNotesSeeThatNoRegistryIsNamed(t *testing.T) {
	const said = "No registry is named"
	for values, want := range map[string]bool{
		"":                                      true,
		"deployment: {image: {name: team/ccm}}": true,
		"deployment: {image: {registry: registry.example.com}}":      false,
		"deployment: {image: {name: registry.example.com/team/ccm}}": false,
		"deployment: {image: {name: \"localhost:5000/ccm\"}}":        false,
		"deployment: {image: {name: localhost/ccm}}":                 false,
	} {
		if got := strings.Contains(notes(t, values), said); got != want {
			t.Errorf("%q: the notes say so: %t, want %t", values, got, want)
		}
	}
}

func TestNotesNameWhatWasInstalled(t *testing.T) {
	for values, want := range map[string][]string{
		"":        {"2 replicas, each on a node of its own", "rollout status deployment/" + releaseName},
		daemonSet: {"a pod on each control-plane node", "rollout status daemonset/" + releaseName},
		"deployment: {kind: DaemonSet, nodeSelector: {a: b}}": {"a pod on each admitted node"},
		"deployment: {replicas: 1}":                           {"1 replica.", "logs deployment/" + releaseName},
	} {
		text := notes(t, values)
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("%q: the notes do not say %q:\n%s", values, part, text)
			}
		}
		if values != "" && strings.Contains(text, "leaves the second replica Pending") {
			t.Errorf("%q: the notes speak of a second replica", values)
		}
	}
}
