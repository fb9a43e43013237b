// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func TestPodSecurityIsRestrictedButForTheHostNetwork(t *testing.T) {
	hostNetwork := []string{"host namespaces", "hostPort", "probe or lifecycle host"}
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			template := render(t, variant.values, variant.args...).deployment.Spec.Template
			var want []string
			if template.Spec.HostNetwork {
				want = hostNetwork
				takeHostPorts(&template.Spec)
			}
			got := forbidden(t, template)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what Pod Security forbids (-want +got):\n%s", diff)
			}
		})
	}
}

func TestContainersCannotWriteToTheirRoot(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			pod := render(t, variant.values, variant.args...).deployment.Spec.Template.Spec
			for _, each := range containers(pod) {
				if on := each.SecurityContext.ReadOnlyRootFilesystem; on == nil || !*on {
					t.Errorf("%s can", each.Name)
				}
			}
		})
	}
}

// The backend refuses peers of another user.
func TestBothContainersRunAsTheSameUser(t *testing.T) {
	pod := render(t, "").deployment.Spec.Template.Spec
	if user := pod.SecurityContext.RunAsUser; user == nil || *user != 65532 {
		t.Errorf("the pod runs as %v, the image is made for 65532", user)
	}
	for _, each := range containers(pod) {
		if each.SecurityContext.RunAsUser != nil {
			t.Errorf("%s runs as another user than the pod", each.Name)
		}
	}
}

func TestStartsBeforeTheNetworkAndTheNodesAreThere(t *testing.T) {
	pod := render(t, "").deployment.Spec.Template.Spec
	if !pod.HostNetwork || pod.DNSPolicy != corev1.DNSDefault {
		t.Errorf("host network %t, DNS %s: needs the CNI or CoreDNS", pod.HostNetwork, pod.DNSPolicy)
	}
	if pod.PriorityClassName != "system-cluster-critical" {
		t.Errorf("priority class %q", pod.PriorityClassName)
	}
	const forEver = -1
	tests := []struct {
		key    string
		effect corev1.TaintEffect
		want   int64
	}{
		{"node.cloudprovider.kubernetes.io/uninitialized", corev1.TaintEffectNoSchedule, forEver},
		{corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule, forEver},
		{corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute, forEver},
		{corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule, forEver},
		{corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute, 30},
		{"node-role.kubernetes.io/control-plane", corev1.TaintEffectNoSchedule, forEver},
		{"node-role.kubernetes.io/etcd", corev1.TaintEffectNoExecute, forEver},
		{"CriticalAddonsOnly", corev1.TaintEffectNoExecute, forEver},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.key, " ", test.effect), func(t *testing.T) {
			taint := corev1.Taint{Key: test.key, Value: "true", Effect: test.effect}
			index := slices.IndexFunc(pod.Tolerations, func(each corev1.Toleration) bool {
				return each.ToleratesTaint(klog.Background(), &taint, false)
			})
			if index < 0 {
				t.Fatal("not tolerated")
			}
			seconds := int64(forEver)
			if limit := pod.Tolerations[index].TolerationSeconds; limit != nil {
				seconds = *limit
			}
			if seconds != test.want {
				t.Errorf("tolerated for %d s, want %d", seconds, test.want)
			}
		})
	}
	drained := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	for _, each := range pod.Tolerations {
		if each.ToleratesTaint(klog.Background(), &drained, false) {
			t.Errorf("%v lets the pod return to a node that is being drained", each)
		}
	}
}

// Before a node is initialized it has no address, and a container that asks for it never starts.
func TestNothingWaitsForTheAddressOfTheNode(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			out, stderr, err := template(t, variant.values, variant.args...)
			if err != nil {
				t.Fatal(stderr)
			}
			for _, field := range []string{"status.hostIP", "status.podIP"} {
				if strings.Contains(out, field) {
					t.Errorf("the rendering asks for %s", field)
				}
			}
			pod := decode(t, out).deployment.Spec.Template.Spec
			for _, probe := range probesOf(pod) {
				if host := probe.HTTPGet.Host; pod.HostNetwork && host != "127.0.0.1" {
					t.Errorf("a probe asks %q, which is the node's address", host)
				}
			}
		})
	}
}

func TestLeaderElectionCannotBeSwitchedOff(t *testing.T) {
	values := "shim: {extraArgs: [--leader-elect=false, --backend=, --cloud-provider=other]}"
	for _, values := range []string{"", values} {
		shim := container(t, render(t, values).deployment.Spec.Template.Spec, shimName)
		want := map[string]string{
			"leader-elect": "true", "backend": socketFlag, "cloud-provider": "oxide",
		}
		for name, value := range want {
			if got := flag(t, shim, name); got != value {
				t.Errorf("--%s is %s in the end, want %s", name, got, value)
			}
		}
	}
}

// A rack out of reach must not restart the backend, nor keep the shim from starting.
func TestLivenessAndStartAskNothingOfOxide(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			pod := render(t, variant.values, variant.args...).deployment.Spec.Template.Spec
			backend := container(t, pod, backendName)
			got := []string{
				backend.StartupProbe.HTTPGet.Path, backend.LivenessProbe.HTTPGet.Path,
				backend.ReadinessProbe.HTTPGet.Path,
			}
			if diff := cmp.Diff([]string{"/livez", "/livez", "/readyz"}, got); diff != "" {
				t.Errorf("paths of the backend's probes (-want +got):\n%s", diff)
			}
			for _, each := range containers(pod) {
				ports := map[string]int32{}
				for _, port := range each.Ports {
					ports[port.Name] = port.ContainerPort
				}
				for _, probe := range []*corev1.Probe{
					each.StartupProbe, each.LivenessProbe, each.ReadinessProbe,
				} {
					if _, ok := ports[probe.HTTPGet.Port.StrVal]; !ok {
						t.Errorf("a probe of %s asks the port %s, which it does not have",
							each.Name, probe.HTTPGet.Port.StrVal)
					}
				}
			}
		})
	}
}

func TestPortsAreClosedUnlessOpened(t *testing.T) {
	tests := []struct {
		name, values                string
		health, bind, secure, meter string
	}{
		{
			name:   "host network",
			health: "127.0.0.1:10268", bind: "127.0.0.1", secure: "10258",
		},
		{
			name:   "opened",
			values: "shim: {bindAddress: 192.0.2.1}\nbackend: {metrics: {enabled: true}}",
			health: "127.0.0.1:10268", bind: "192.0.2.1", secure: "10258", meter: "0.0.0.0:10269",
		},
		{
			name:   "pod network, where only the kubelet and peers reach it",
			values: "deployment: {hostNetwork: false}",
			health: ":10268", bind: "0.0.0.0", secure: "10258",
		},
		{
			name:   "every port a value",
			values: everything,
			health: ":11268", bind: "::", secure: "11258", meter: "[::]:11269",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pod := render(t, test.values).deployment.Spec.Template.Spec
			backend, shim := container(t, pod, backendName), container(t, pod, shimName)
			got := []string{
				flag(t, backend, "health-listen"), flag(t, shim, "bind-address"),
				flag(t, shim, "secure-port"),
			}
			if diff := cmp.Diff([]string{test.health, test.bind, test.secure}, got); diff != "" {
				t.Errorf("listeners (-want +got):\n%s", diff)
			}
			metrics := slices.IndexFunc(backend.Args, func(arg string) bool {
				return strings.HasPrefix(arg, "--metrics-listen")
			})
			if test.meter == "" {
				if metrics >= 0 {
					t.Errorf("opened by default: %s", backend.Args[metrics])
				}
			} else if got := flag(t, backend, "metrics-listen"); got != test.meter {
				t.Errorf("metrics on %s, want %s", got, test.meter)
			}
			if port := strconv.Itoa(int(shim.Ports[0].ContainerPort)); port != test.secure {
				t.Errorf("the pod declares port %s, the shim takes %s", port, test.secure)
			}
		})
	}
}

func TestBackendIsANativeSidecarWhereTheClusterHasIt(t *testing.T) {
	tests := []struct {
		name, values, kubeVersion string
		native                    bool
	}{
		{"by default", "", "1.29.0", true},
		{"on a vendor's version", "", "v1.33.2+rke2r1", true},
		{"on an older cluster", "", "1.28.9", false},
		{"switched off", "deployment: {nativeSidecar: false}", "1.37.0", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pod := render(t, test.values, "--kube-version", test.kubeVersion).
				deployment.Spec.Template.Spec
			backend := container(t, pod, backendName)
			restarts := backend.RestartPolicy != nil &&
				*backend.RestartPolicy == corev1.ContainerRestartPolicyAlways
			if restarts != test.native || (len(pod.InitContainers) == 1) != test.native {
				t.Errorf("restartable init container: %t, want %t", restarts, test.native)
			}
			if len(containers(pod)) != 2 {
				t.Errorf("%d containers, want 2", len(containers(pod)))
			}
		})
	}
}

// takeHostPorts does what the API server does to a pod in the host's network.
func takeHostPorts(pod *corev1.PodSpec) {
	for _, list := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
		for i := range list {
			for j := range list[i].Ports {
				list[i].Ports[j].HostPort = list[i].Ports[j].ContainerPort
			}
		}
	}
}

// forbidden returns the reasons for which the restricted Pod Security standard refuses a pod.
func forbidden(t *testing.T, template corev1.PodTemplateSpec) []string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	var reasons []string
	for _, result := range evaluator.EvaluatePod(level, &template.ObjectMeta, &template.Spec) {
		if !result.Allowed {
			reasons = append(reasons, result.ForbiddenReason)
		}
	}
	slices.Sort(reasons)
	return reasons
}

func probesOf(pod corev1.PodSpec) []*corev1.Probe {
	var all []*corev1.Probe
	for _, each := range containers(pod) {
		all = append(all, each.StartupProbe, each.LivenessProbe, each.ReadinessProbe)
	}
	return all
}
