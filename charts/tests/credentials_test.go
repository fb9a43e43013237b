// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

const (
	backendName = "oxide-backend"
	shimName    = "ccm-shim"
	socketFlag  = "unix:///run/oxide/backend/backend.sock"
)

func TestNoContainerHoldsBothCredentials(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			all := render(t, variant.values, variant.args...)
			pod := all.deployment.Spec.Template.Spec
			if on := pod.AutomountServiceAccountToken; on == nil || *on {
				t.Error("the pod mounts a Kubernetes token in every container")
			}
			if on := all.serviceAccount.AutomountServiceAccountToken; on == nil || *on {
				t.Error("the service account mounts its token in every pod")
			}
			type holdings struct{ Oxide, Kubernetes bool }
			got := map[string]holdings{}
			for _, each := range containers(pod) {
				got[each.Name] = holdings{holdsOxide(pod, each), holdsKubernetes(pod, each)}
			}
			want := map[string]holdings{backendName: {Oxide: true}, shimName: {Kubernetes: true}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("credentials (-want +got):\n%s", diff)
			}
		})
	}
}

// A file can be replaced while the program runs, and no dump of an environment shows it.
func TestOxideTokenIsAFileThatRotates(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			all := render(t, variant.values, variant.args...)
			pod := all.deployment.Spec.Template.Spec
			backend := container(t, pod, backendName)
			for _, each := range containers(pod) {
				for _, env := range each.Env {
					if env.Name == "OXIDE_TOKEN" || env.ValueFrom != nil &&
						env.ValueFrom.SecretKeyRef != nil &&
						env.ValueFrom.SecretKeyRef.Key == "oxide-token" {
						t.Errorf("%s has the token in its environment", each.Name)
					}
				}
				if len(each.EnvFrom) > 0 {
					t.Errorf("%s takes a whole Secret for its environment", each.Name)
				}
			}
			file := flag(t, backend, "oxide-token-file")
			mount, volume := mounted(t, pod, backend, path.Dir(file))
			if mount.SubPath != "" || mount.SubPathExpr != "" {
				t.Error("the token is mounted by subPath, which the kubelet never updates")
			}
			if !mount.ReadOnly {
				t.Error("the token's mount can be written")
			}
			want := []corev1.KeyToPath{{Key: "oxide-token", Path: path.Base(file)}}
			if diff := cmp.Diff(want, volume.Secret.Items); diff != "" {
				t.Errorf("keys in the volume (-want +got):\n%s", diff)
			}
			if mode := *volume.Secret.DefaultMode; mode&0o007 != 0 || mode&0o040 == 0 {
				t.Errorf("mode %#o: the pod's group alone should read the token", mode)
			}
			if pod.SecurityContext.RunAsUser == nil { // OpenShift gives all of them
				return
			}
			if group := pod.SecurityContext.FSGroup; group == nil ||
				*group != *pod.SecurityContext.RunAsGroup {
				t.Error("the files of the volume are not given to the pod's group")
			}
		})
	}
}

func TestSettingsComeFromOneSecret(t *testing.T) {
	tests := []struct {
		name, values, want string
		created            bool
	}{
		{name: "named like the release by default", want: releaseName},
		{name: "existing", values: "oxide: {existingSecret: creds}", want: "creds"},
		{
			name:    "created from values",
			values:  "oxide: {host: \"https://s.example.com\", token: abc, project: k8s}",
			want:    releaseName,
			created: true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			all := render(t, test.values)
			pod := all.deployment.Spec.Template.Spec
			backend := container(t, pod, backendName)
			got := map[string]string{}
			for _, env := range backend.Env {
				got[env.Name] = env.Value
				if from := env.ValueFrom; from != nil {
					got[env.Name] = from.SecretKeyRef.Name + "/" + from.SecretKeyRef.Key
				}
			}
			want := map[string]string{
				"OXIDE_HOST":          test.want + "/oxide-host",
				"OXIDE_PROJECT":       test.want + "/oxide-project",
				"OXIDE_SETTINGS_FROM": "the Secret kube-system/" + test.want,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
			_, volume := mounted(t, pod, backend, "/etc/oxide/credentials")
			if volume.Secret.SecretName != test.want {
				t.Errorf("the token is from %q, want %q", volume.Secret.SecretName, test.want)
			}
			if (all.secret != nil) != test.created {
				t.Fatalf("created a Secret: %t, want %t", all.secret != nil, test.created)
			}
			if test.created {
				want := map[string][]byte{
					"oxide-host": []byte("https://s.example.com"), "oxide-token": []byte("abc"),
					"oxide-project": []byte("k8s"),
				}
				if diff := cmp.Diff(want, all.secret.Data); diff != "" {
					t.Errorf("Secret (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// The backend says in one line what is missing; a pod that waits for a Secret says it to nobody.
func TestMissingSecretIsLeftToTheBackendToReport(t *testing.T) {
	pod := render(t, "").deployment.Spec.Template.Spec
	backend := container(t, pod, backendName)
	for _, env := range backend.Env {
		if env.ValueFrom == nil {
			continue
		}
		if ref := env.ValueFrom.SecretKeyRef; ref.Optional == nil || !*ref.Optional {
			t.Errorf("the container waits for the key %s", ref.Key)
		}
	}
	_, volume := mounted(t, pod, backend, "/etc/oxide/credentials")
	if volume.Secret.Optional == nil || !*volume.Secret.Optional {
		t.Error("the pod waits for the Secret")
	}
	if backend.TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError {
		t.Error("the last log lines are not in the termination message")
	}
}

func TestNewHostRestartsThePodAndNewTokenDoesNot(t *testing.T) {
	annotations := func(values string) map[string]string {
		return render(t, values).deployment.Spec.Template.Annotations
	}
	before := annotations("oxide: {host: \"https://a.example.com\", token: a, project: p}")
	token := annotations("oxide: {host: \"https://a.example.com\", token: b, project: p}")
	host := annotations("oxide: {host: \"https://b.example.com\", token: a, project: p}")
	if diff := cmp.Diff(before, token); diff != "" {
		t.Errorf("a new token changes the pod:\n%s", diff)
	}
	if cmp.Equal(before, host) {
		t.Error("a new host leaves the pod as it is, and its environment stale")
	}
}

func TestContainersShareTheSocketsVolumeAndNothingElse(t *testing.T) {
	for _, variant := range variants {
		// Extra volumes are the user's.
		if variant.values == everything {
			continue
		}
		t.Run(variant.name, func(t *testing.T) {
			pod := render(t, variant.values, variant.args...).deployment.Spec.Template.Spec
			shared := map[string][]string{}
			for _, each := range containers(pod) {
				for _, mount := range each.VolumeMounts {
					shared[mount.Name] = append(shared[mount.Name], mount.MountPath)
				}
			}
			for name, paths := range shared {
				if len(paths) > 1 && name != "socket" {
					t.Errorf("the volume %s is in both containers", name)
				}
			}
			if diff := cmp.Diff([]string{"/run/oxide", "/run/oxide"}, shared["socket"]); diff != "" {
				t.Errorf("mounts of the socket's volume (-want +got):\n%s", diff)
			}
			_, volume := mounted(t, pod, container(t, pod, backendName), "/run/oxide")
			if volume.EmptyDir == nil || volume.EmptyDir.Medium != corev1.StorageMediumMemory {
				t.Error("the socket is not on an emptyDir in memory")
			}
			if listen := flag(t, container(t, pod, backendName), "listen"); listen != socketFlag {
				t.Errorf("the backend listens on %s, want %s", listen, socketFlag)
			}
			if backend := flag(t, container(t, pod, shimName), "backend"); backend != socketFlag {
				t.Errorf("the shim calls %s, want %s", backend, socketFlag)
			}
		})
	}
}

func TestPrivateCAIsAddedFromAConfigMap(t *testing.T) {
	const pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	tests := []struct{ name, values, want string }{
		{"created", "oxide: {caBundle: \"" + strings.ReplaceAll(pem, "\n", "\\n") + "\"}",
			releaseName + "-oxide-ca"},
		{"existing", "oxide: {existingCAConfigMap: roots}", "roots"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			all := render(t, test.values)
			pod := all.deployment.Spec.Template.Spec
			backend := container(t, pod, backendName)
			file := flag(t, backend, "oxide-ca-file")
			_, volume := mounted(t, pod, backend, path.Dir(file))
			if volume.ConfigMap.Name != test.want ||
				volume.ConfigMap.Items[0].Path != path.Base(file) {
				t.Errorf("%s is not in the ConfigMap %s", file, test.want)
			}
			if created := all.configMap != nil; created != (test.name == "created") {
				t.Errorf("created a ConfigMap: %t", created)
			}
			if all.configMap != nil && all.configMap.Data["ca.crt"] != pem {
				t.Errorf("the bundle became %q", all.configMap.Data["ca.crt"])
			}
		})
	}
}

// containers returns all containers of a pod, restartable ones first.
func containers(pod corev1.PodSpec) []corev1.Container {
	return slices.Concat(pod.InitContainers, pod.Containers)
}

func container(t *testing.T, pod corev1.PodSpec, name string) corev1.Container {
	t.Helper()
	for _, each := range containers(pod) {
		if each.Name == name {
			return each
		}
	}
	t.Fatalf("the pod has no container %s", name)
	return corev1.Container{}
}

// flag returns the value that a container's program takes for a flag: the last one given.
func flag(t *testing.T, of corev1.Container, name string) string {
	t.Helper()
	for _, arg := range slices.Backward(of.Args) {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value
		}
	}
	t.Fatalf("%s is started without --%s", of.Name, name)
	return ""
}

// mounted returns what a container has at a path.
func mounted(
	t *testing.T, pod corev1.PodSpec, in corev1.Container, at string,
) (corev1.VolumeMount, corev1.Volume) {
	t.Helper()
	for _, mount := range in.VolumeMounts {
		if mount.MountPath == at {
			return mount, volumeOf(pod, mount)
		}
	}
	t.Fatalf("%s has nothing mounted at %s", in.Name, at)
	return corev1.VolumeMount{}, corev1.Volume{}
}

func volumeOf(pod corev1.PodSpec, mount corev1.VolumeMount) corev1.Volume {
	for _, volume := range pod.Volumes {
		if volume.Name == mount.Name {
			return volume
		}
	}
	return corev1.Volume{}
}

// holdsOxide says whether anything of a Secret reaches a container.
func holdsOxide(pod corev1.PodSpec, in corev1.Container) bool {
	for _, mount := range in.VolumeMounts {
		volume := volumeOf(pod, mount)
		if volume.Secret != nil {
			return true
		}
		if volume.Projected != nil && slices.ContainsFunc(volume.Projected.Sources,
			func(s corev1.VolumeProjection) bool { return s.Secret != nil }) {
			return true
		}
	}
	return slices.ContainsFunc(in.Env, func(env corev1.EnvVar) bool {
		return env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil
	}) || len(in.EnvFrom) > 0
}

// holdsKubernetes says whether a service account's token reaches a container.
func holdsKubernetes(pod corev1.PodSpec, in corev1.Container) bool {
	for _, mount := range in.VolumeMounts {
		volume := volumeOf(pod, mount)
		if volume.Projected != nil && slices.ContainsFunc(volume.Projected.Sources,
			func(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil }) {
			return true
		}
	}
	return false
}
