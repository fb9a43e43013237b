// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim"
)

// An upgrade from the chart that users have keeps the selector, which cannot change, and the names
// by which they know the objects.
func TestNamesStayThoseOfTheExistingChart(t *testing.T) {
	tests := []struct{ name, release, values, want, label string }{
		{"release named like the chart", releaseName, "", releaseName, releaseName},
		{"another release", "ccm", "", "ccm-" + releaseName, releaseName},
		{"another name", "prod", "name: ccm", "prod-ccm", "ccm"},
		{"release that holds the name", "oxide-ccm", "name: ccm", "oxide-ccm", "ccm"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			all := render(t, test.values, "--name-template", test.release)
			selector := map[string]string{
				"app.kubernetes.io/name": test.label, "app.kubernetes.io/instance": test.release,
			}
			if diff := cmp.Diff(selector, all.deployment.Spec.Selector.MatchLabels); diff != "" {
				t.Errorf("selector (-want +got):\n%s", diff)
			}
			for key, value := range selector {
				if got := all.deployment.Spec.Template.Labels[key]; got != value {
					t.Errorf("the pod has %s=%q, which the selector misses", key, got)
				}
			}
			_, volume := mounted(t, all.deployment.Spec.Template.Spec,
				container(t, all.deployment.Spec.Template.Spec, backendName),
				"/etc/oxide/credentials")
			got := map[string]string{
				"Deployment": all.deployment.Name, "ServiceAccount": all.serviceAccount.Name,
				"ClusterRole":        strings.TrimPrefix(all.clusterRole.Name, "system:"),
				"ClusterRoleBinding": strings.TrimPrefix(all.clusterRoleBinding.Name, "system:"),
				"Secret":             volume.Secret.SecretName,
			}
			for kind, name := range got {
				if name != test.want {
					t.Errorf("%s is named %q, want %q", kind, name, test.want)
				}
			}
			if all.clusterRole.Name == got["ClusterRole"] {
				t.Error("the ClusterRole's name lacks the prefix system:")
			}
		})
	}
}

func TestImageIsNamedByItsParts(t *testing.T) {
	version := strings.TrimSpace(read(t, "VERSION"))
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	tests := []struct{ name, values, want string }{
		{"default", "", releaseName + ":" + version},
		{"whole name, as before", "{name: registry.example.com/team/ccm, tag: main}",
			"registry.example.com/team/ccm:main"},
		{"registry apart", "{registry: \"localhost:5000\", name: ccm}", "localhost:5000/ccm:" + version},
		{"digest wins", "{name: ccm, tag: main, digest: \"" + digest + "\"}", "ccm@" + digest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			values := ""
			if test.values != "" {
				values = "deployment: {imagePullPolicy: Never, image: " + test.values + "}"
			}
			pod := render(t, values).deployment.Spec.Template.Spec
			for _, each := range containers(pod) {
				if each.Image != test.want {
					t.Errorf("%s runs %s, want %s", each.Name, each.Image, test.want)
				}
				if values != "" && each.ImagePullPolicy != corev1.PullNever {
					t.Errorf("%s has pull policy %s", each.Name, each.ImagePullPolicy)
				}
			}
		})
	}
}

// The chart in the repository names no registry; the one of a release names the image of the release.
func TestChartOfAReleaseNamesItsImage(t *testing.T) {
	folder := t.TempDir()
	make := exec.CommandContext(t.Context(), "make", "chart", "DIST="+folder,
		"REGISTRY=registry.example.com:5000", "REPOSITORY=team/ccm")
	make.Dir = repository
	// Settings of the make that runs this test are none of that one's.
	make.Env = append(os.Environ(), "MAKEFLAGS=", "MFLAGS=", "MAKELEVEL=")
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("make chart: %v: %s", err, out)
	}
	version := strings.TrimSpace(read(t, "VERSION"))
	out, stderr, err := helm(t, "", "template", releaseName,
		filepath.Join(folder, releaseName+"-"+strings.TrimPrefix(version, "v")+".tgz"),
		"--namespace", namespace, "--kube-version", kubeVersion)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, stderr)
	}
	for _, each := range containers(decode(t, out).deployment.Spec.Template.Spec) {
		if want := "registry.example.com:5000/team/ccm:" + version; each.Image != want {
			t.Errorf("%s runs %s, want %s", each.Name, each.Image, want)
		}
	}
	if pod := render(t, "").deployment.Spec.Template.Spec; containers(pod)[0].Image !=
		releaseName+":"+version {
		t.Errorf("the chart in the repository runs %s", containers(pod)[0].Image)
	}
}

func TestReplicasAreKeptApart(t *testing.T) {
	all := render(t, "")
	deployment := all.deployment
	if *deployment.Spec.Replicas != 2 {
		t.Errorf("%d replicas by default, want 2", *deployment.Spec.Replicas)
	}
	update := deployment.Spec.Strategy.RollingUpdate
	if update.MaxSurge.IntValue() != 0 || update.MaxUnavailable.IntValue() != 1 {
		t.Errorf("surge %s, unavailable %s: the surging pod would find its ports taken",
			update.MaxSurge, update.MaxUnavailable)
	}
	spread := deployment.Spec.Template.Spec.TopologySpreadConstraints
	if len(spread) != 1 || spread[0].TopologyKey != corev1.LabelHostname ||
		spread[0].WhenUnsatisfiable != corev1.DoNotSchedule || spread[0].MaxSkew != 1 ||
		*spread[0].MinDomains != 2 {
		t.Errorf("two replicas may share a node: %v", spread)
	}
	if diff := cmp.Diff(deployment.Spec.Selector, spread[0].LabelSelector); diff != "" {
		t.Errorf("the constraint is about other pods (-selector +constraint):\n%s", diff)
	}
	if all.budget == nil {
		t.Fatal("a drain may take both replicas at once")
	}
	if diff := cmp.Diff(deployment.Spec.Selector, all.budget.Spec.Selector); diff != "" {
		t.Errorf("the budget is about other pods (-selector +budget):\n%s", diff)
	}
}

// With one replica a budget would block every drain.
func TestOneReplicaHasNoBudgetAndNoConstraint(t *testing.T) {
	all := render(t, "deployment: {replicas: 1}")
	if all.budget != nil || all.deployment.Spec.Template.Spec.TopologySpreadConstraints != nil {
		t.Errorf("budget %v, constraints %v", all.budget,
			all.deployment.Spec.Template.Spec.TopologySpreadConstraints)
	}
}

func TestExtrasReachTheirContainerOnly(t *testing.T) {
	values := "backend: {extraArgs: [--for-backend]}\nshim: {extraArgs: [--for-shim]}"
	pod := render(t, values).deployment.Spec.Template.Spec
	for name, want := range map[string]string{backendName: "--for-backend", shimName: "--for-shim"} {
		for _, each := range containers(pod) {
			got := strings.Contains(strings.Join(each.Args, " "), want)
			if got != (each.Name == name) {
				t.Errorf("%s in %s: %t", want, each.Name, got)
			}
		}
	}
}

func TestValuesReachTheirFlags(t *testing.T) {
	pod := render(t, everything).deployment.Spec.Template.Spec
	want := map[string][]string{
		backendName: {
			"--log-format=text", "--log-level=debug", "--metrics-listen=[::]:11269",
			"--oxide-ca-file=/etc/oxide/ca/ca.crt", "--manage-firewall", "--firewall-priority=900", "--example",
			"--listen=" + socketFlag, "--health-listen=:11268", "--oxide-token-file=/etc/oxide/credentials/oxide-token",
		},
		shimName: {
			"--logging-format=text", "--v=4", "--configure-cloud-routes=false", "--profiling=false",
			"--cluster-id=11111111-2222-3333-4444-555555555555",
			"--adopt-cluster-id=22222222-2222-3333-4444-555555555555",
			"--adopt-cluster-id=old.cluster_2", "--legacy-cluster-name=prod",
			"--reserved-ports=22,6443-6444", "--region=west", "--zone=rack-1",
			"--concurrent-service-syncs=4", "--cloud-provider=oxide", "--backend=" + socketFlag,
			"--leader-elect=true", "--bind-address=::", "--secure-port=11258",
			"--probe-nodes=false", "--classed-load-balancers-only", "--node-name=$(NODE_NAME)",
		},
	}
	for name, args := range want {
		if diff := cmp.Diff(args, container(t, pod, name).Args); diff != "" {
			t.Errorf("arguments of %s (-want +got):\n%s", name, diff)
		}
	}
}

// Whoever collects the logs of a pod parses them by one rule.
func TestBothContainersLogInOneFormat(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		values := ""
		if format != "json" { // the default
			values = "logging: {format: " + format + "}"
		}
		pod := render(t, values).deployment.Spec.Template.Spec
		for name, want := range map[string]string{
			backendName: "--log-format=" + format, shimName: "--logging-format=" + format,
		} {
			if args := container(t, pod, name).Args; !slices.Contains(args, want) {
				t.Errorf("%s has no argument %s: %q", name, want, args)
			}
		}
	}
}

// What the chart says by default is what the program does without being told.
func TestDefaultsOfTheChartAreThoseOfTheProgram(t *testing.T) {
	shimContainer := container(t, render(t, "").deployment.Spec.Template.Spec, shimName)
	options := shim.NewOptions()
	for name, want := range map[string]string{
		"legacy-cluster-name": options.LegacyClusterName, "reserved-ports": options.ReservedPorts,
	} {
		if got := flag(t, shimContainer, name); got != want {
			t.Errorf("--%s is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"--cluster-id", "--adopt-cluster-id"} {
		if strings.Contains(strings.Join(shimContainer.Args, " "), name) {
			t.Errorf("%s is given by default", name)
		}
	}
}

// Empty is something else than the default: nothing is taken over, and no port is reserved.
func TestWhatIsOnByDefaultCanBeSwitchedOff(t *testing.T) {
	pod := render(t, "shim: {legacyClusterName: \"\", reservedPorts: \"\"}").deployment.Spec.Template.Spec
	for _, name := range []string{"legacy-cluster-name", "reserved-ports"} {
		if got := flag(t, container(t, pod, shimName), name); got != "" {
			t.Errorf("--%s is %q", name, got)
		}
	}
}

// The name is the pod's from the start, unlike the addresses of its node.
func TestTheShimKnowsTheNodeThatItRunsOn(t *testing.T) {
	shim := container(t, render(t, "").deployment.Spec.Template.Spec, shimName)
	if got := flag(t, shim, "node-name"); got != "$(NODE_NAME)" {
		t.Errorf("--node-name=%s", got)
	}
	index := slices.IndexFunc(shim.Env, func(env corev1.EnvVar) bool { return env.Name == "NODE_NAME" })
	if index < 0 || shim.Env[index].ValueFrom.FieldRef.FieldPath != "spec.nodeName" {
		t.Errorf("environment: %v", shim.Env)
	}
}

func TestTheZoneCanBeTheRack(t *testing.T) {
	for values, want := range map[string]bool{
		"": false, "shim: {zoneFromRack: false}": false, "shim: {zoneFromRack: true}": true,
	} {
		pod := render(t, values).deployment.Spec.Template.Spec
		if got := slices.Contains(container(t, pod, shimName).Args, "--zone-from-rack"); got != want {
			t.Errorf("%q gives the flag: %t, want %t", values, got, want)
		}
	}
}
