// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// helm test asks Oxide what the backend would, from where the backend is, and as it would.
func TestHelmTestChecksWithTheBackendsSettings(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			all := render(t, variant.values, variant.args...)
			pod := all.deployment.Spec.Template.Spec
			backend, check := container(t, pod, backendName), all.check.Spec.Containers[0]
			if all.check.Annotations["helm.sh/hook"] != "test" {
				t.Error("the pod is no test of helm's, but installed")
			}
			if diff := cmp.Diff([]string{"/usr/bin/oxide-backend", "check"}, check.Command); diff != "" {
				t.Errorf("command (-want +got):\n%s", diff)
			}
			// A check makes no traces.
			settings := slices.DeleteFunc(slices.Clone(backend.Env), func(v corev1.EnvVar) bool {
				return strings.HasPrefix(v.Name, "OTEL_") || v.Name == "POD_NAME"
			})
			if diff := cmp.Diff(settings, check.Env); diff != "" {
				t.Errorf("environment (-backend +check):\n%s", diff)
			}
			if check.Image != backend.Image || check.ImagePullPolicy != backend.ImagePullPolicy {
				t.Errorf("image %s, the backend's is %s", check.Image, backend.Image)
			}
			if got, want := flag(t, check, "oxide-token-file"),
				flag(t, backend, "oxide-token-file"); got != want {
				t.Errorf("the token is %s, the backend's is %s", got, want)
			}
			for _, mount := range check.VolumeMounts {
				if diff := cmp.Diff(volumeOf(pod, mount), volumeOf(all.check.Spec, mount)); diff != "" {
					t.Errorf("the volume %s (-backend +check):\n%s", mount.Name, diff)
				}
			}
			if got, want := len(check.VolumeMounts), len(backend.VolumeMounts)-1; got != want {
				t.Errorf("%d mounts, want %d: the backend's but the socket's", got, want)
			}
			place := func(pod corev1.PodSpec) corev1.PodSpec {
				return corev1.PodSpec{
					HostNetwork: pod.HostNetwork, DNSPolicy: pod.DNSPolicy, Tolerations: pod.Tolerations,
					Affinity: pod.Affinity, NodeSelector: pod.NodeSelector,
					SecurityContext: pod.SecurityContext, ImagePullSecrets: pod.ImagePullSecrets,
				}
			}
			if diff := cmp.Diff(place(pod), place(all.check.Spec)); diff != "" {
				t.Errorf("place (-backend +check):\n%s", diff)
			}
		})
	}
}

func TestHelmTestHoldsNoKubernetesCredentialAndIsRestricted(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			pod := render(t, variant.values, variant.args...).check
			if on := pod.Spec.AutomountServiceAccountToken; on == nil || *on {
				t.Error("a Kubernetes token is mounted")
			}
			if holdsKubernetes(pod.Spec, pod.Spec.Containers[0]) {
				t.Error("a Kubernetes token is projected")
			}
			template := corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}
			var want []string
			if pod.Spec.HostNetwork {
				want = []string{"host namespaces"}
			}
			if diff := cmp.Diff(want, forbidden(t, template)); diff != "" {
				t.Errorf("what Pod Security forbids (-want +got):\n%s", diff)
			}
			if root := pod.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem; !*root {
				t.Error("it can write to its root")
			}
		})
	}
}

// Else the budget would count it, and the constraint would keep replicas off its node.
func TestHelmTestIsNoPodOfTheDeployment(t *testing.T) {
	all := render(t, "")
	selector := labels.SelectorFromSet(all.deployment.Spec.Selector.MatchLabels)
	if selector.Matches(labels.Set(all.check.Labels)) {
		t.Errorf("the Deployment's selector matches %v", all.check.Labels)
	}
}

func TestHelmTestAsksForThePortsOfServices(t *testing.T) {
	check := render(t, "check: {ports: [80/tcp, \"53/udp\"]}").check.Spec.Containers[0]
	want := []string{
		"--oxide-token-file=/etc/oxide/credentials/oxide-token", "--port=80/tcp", "--port=53/udp",
	}
	if diff := cmp.Diff(want, check.Args); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
}
