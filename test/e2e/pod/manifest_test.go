// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2epod

package pod

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// The manifest as it is in the repository, and in the way that users adapt it: by a kustomization.
func TestThePlainManifestServesTheCluster(t *testing.T) {
	w := newWorld(t)
	dir := w.kustomization()
	w.run(w.kubectl, "apply", "--kustomize", dir)
	w.part("a missing Secret is said in a line", missingSecret)
	w.createSecret(namespace, productName)
	w.part("the pod starts once the Secret is there", func(w *world) {
		w.eventually(w.initialized)
		w.pod()
	})
	w.awaitReadyNode()
	w.createService("web", 80)
	before := w.facts()
	w.checkLogs()
	w.part("deleting it changes nothing, applying it again neither", func(w *world) {
		w.run(w.kubectl, "delete", "--kustomize", dir, "--wait")
		w.awaitNoPod()
		if diff := cmp.Diff(before, w.facts()); diff != "" {
			w.Errorf("deleting the manifest changed something (-before +after):\n%s", diff)
		}
		w.run(w.kubectl, "apply", "--kustomize", dir)
		w.unchanged(before)
	})
	w.deleteService("web")
	w.checkLogs()
}

// kustomization writes what this cluster needs besides the manifest: one replica, the authority of
// the rack, no probes of addresses that are not of this machine, and the address of the API server,
// since there is no Service proxy.
func (w *world) kustomization() (dir string) {
	w.Helper()
	name := productName + ".yaml"
	path := w.file(filepath.Join("manifest", name), read(w.T, "manifests", name))
	authority, err := os.ReadFile(w.rack.CAFile)
	w.must(err)
	w.file("manifest/ca.crt", string(authority))
	host, port := w.apiServer()
	w.file("manifest/kustomization.yaml", fmt.Sprintf(`
resources: [%[1]s.yaml]
replicas: [{name: %[1]s, count: 1}]
configMapGenerator: [{name: rack-ca, namespace: %[2]s, files: [ca.crt]}]
patches:
- target: {kind: Deployment, name: %[1]s}
  patch: |
    - op: add
      path: /spec/template/spec/volumes/-
      value: {name: oxide-ca, configMap: {name: rack-ca}}
    - op: add
      path: /spec/template/spec/initContainers/0/volumeMounts/-
      value: {name: oxide-ca, mountPath: /etc/oxide/ca, readOnly: true}
    - op: add
      path: /spec/template/spec/initContainers/0/args/-
      value: --oxide-ca-file=/etc/oxide/ca/ca.crt
    - op: add
      path: /spec/template/spec/containers/0/args/-
      value: --probe-nodes=false
- target: {kind: Deployment, name: %[1]s}
  patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: %[1]s}
    spec:
      template:
        spec:
          containers:
          - name: ccm-shim
            env:
            - {name: KUBERNETES_SERVICE_HOST, value: %[3]q}
            - {name: KUBERNETES_SERVICE_PORT, value: %[4]q}
`, productName, namespace, host, port))
	return filepath.Dir(path)
}

func missingSecret(w *world) {
	var ended *corev1.ContainerStateTerminated
	w.podWith(func(pod *corev1.Pod) string {
		status := container(pod, backendName)
		if ended = status.State.Terminated; ended == nil {
			ended = status.LastTerminationState.Terminated
		}
		if ended == nil {
			return "the end of the backend without settings"
		}
		return ""
	})
	for _, key := range []string{"oxide-host", "oxide-token", "oxide-project"} {
		if !strings.Contains(ended.Message, key) {
			w.Errorf("the termination message does not name %s: %q", key, ended.Message)
		}
	}
}
