// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2epod

package pod

import (
	"context"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"syscall"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// nextToken is what the token is rotated to.
const nextToken = "oxide-token-ab1eab1eab1eab1eab1eab1eab1eab1eab1eab1e"

func rotateToken(w *world) {
	before := w.pod()
	w.must(w.rack.AddToken(w.ctx, nextToken))
	_, err := w.client.CoreV1().Secrets(namespace).Patch(w.ctx, productName, types.MergePatchType,
		[]byte(`{"data": {"oxide-token": "`+
			base64.StdEncoding.EncodeToString([]byte(nextToken+"\n"))+`"}}`),
		metav1.PatchOptions{})
	w.must(err)
	w.must(w.rack.RevokeToken(w.ctx))
	for token, want := range map[string]bool{rack.Token: false, nextToken: true} {
		if got, err := w.rack.Accepts(w.ctx, token); err != nil || got != want {
			w.Fatalf("the rack accepts %s: %t, %v", token, got, err)
		}
	}
	w.createService("rotated", 84)
	w.deleteService("rotated")
	after := w.pod()
	if diff := cmp.Diff(runs(before), runs(after)); diff != "" {
		w.Errorf("the rotation started something anew (-before +after):\n%s", diff)
	}
	// The last of the old one: every log so far was checked for it.
	w.checkLogs()
	w.must(w.rack.AddToken(w.ctx, rack.Token))
}

// runs tells one run of the pod's containers from another.
func runs(pod *corev1.Pod) map[string]string {
	all := map[string]string{"pod": string(pod.UID)}
	for _, name := range []string{backendName, shimName} {
		all[name] = container(pod, name).ContainerID
	}
	return all
}

// kill ends one of the two processes as a fault of its own would.
func kill(w *world, name string) {
	before, pod := w.facts(), w.pod()
	w.must(syscall.Kill(w.pid(pod, name), syscall.SIGKILL))
	w.eventually(func(context.Context) (string, error) {
		now := container(w.pod(), name)
		if now.ContainerID == container(pod, name).ContainerID {
			return "another run of " + name, nil
		}
		return "", nil
	})
	after := w.pod()
	if after.UID != pod.UID {
		w.Error("the pod was replaced")
	}
	other := shimName
	if name == shimName {
		other = backendName
	}
	if runs(after)[other] != runs(pod)[other] {
		w.Errorf("%s was started again, too", other)
	}
	if diff := cmp.Diff(before, w.facts()); diff != "" {
		w.Errorf("the end of %s changed something (-before +after):\n%s", name, diff)
	}
	w.createService("after-the-kill", 85)
	w.deleteService("after-the-kill")
}

// startsWithoutOxide replaces the pod while the rack answers nothing. The shim must not wait for that:
// it is what tells the cluster.
func startsWithoutOxide(w *world) {
	before, old := w.facts(), w.pod()
	w.must(w.rack.AddFault(w.ctx, rack.Fault{Operation: "*", Reset: true}))
	w.must(w.client.CoreV1().Pods(namespace).Delete(w.ctx, old.Name, metav1.DeleteOptions{}))
	started := w.podWith(func(pod *corev1.Pod) string {
		backend, shim := container(pod, backendName), container(pod, shimName)
		if pod.UID == old.UID || shim.Started == nil || !*shim.Started {
			return "a new pod with a shim that has started"
		}
		if backend.Ready {
			return "a backend that says that it is not ready"
		}
		return ""
	})
	w.must(w.rack.ClearFaults(w.ctx))
	ready := w.pod()
	if diff := cmp.Diff(runs(started), runs(ready)); diff != "" {
		w.Errorf("waiting for Oxide started something anew (-before +after):\n%s", diff)
	}
	w.unchanged(before)
}

// answersOperators asks as an operator does, who names neither a socket nor a scope.
func answersOperators(w *world) {
	ask := func(args ...string) string {
		return w.run(w.kubectl, append([]string{
			"--namespace", namespace, "exec", w.pod().Name, "--container", backendName, "--", backendName,
		}, args...)...)
	}
	node := w.theNode().Name
	for command, want := range map[string]string{
		"status":    `default/web +(progressing|ready) +[0-9.]+ +` + node,
		"addresses": `[0-9.]+ +floating IP .* ` + node + ` +load balancer default/web`,
		"instances": ` running `,
		"orphans":   `There is no orphaned address`,
	} {
		if out := ask(command); !regexp.MustCompile(want).MatchString(out) {
			w.Errorf("%s shows nothing like %s:\n%s", command, want, out)
		}
	}
}

// debugContainer does what the documentation tells, with the file that it names: a shell in the pod,
// in which grpcurl is called.
func debugContainer(w *world) {
	before := w.pod()
	out := w.typed(`
call="grpcurl -plaintext -unix /run/oxide/backend/backend.sock"
$call list
$call oxide.backend.v1.BackendService/GetInfo
echo "may write: $(touch /run/oxide/file 2>/dev/null && echo yes || echo no)"
`, "may write: ", "--namespace", namespace, "debug", before.Name, "--stdin", "--quiet",
		"--image", debugImageName, "--profile", "restricted",
		"--custom", "docs/debug/grpcurl.yaml", "--", "sh")
	for _, want := range []string{
		"oxide.backend.v1.InstanceService\n", fmt.Sprintf("%q", rack.Project), "may write: no",
	} {
		if !strings.Contains(out, want) {
			w.Errorf("the debug container does not say %q: %s", want, out)
		}
	}
	if diff := cmp.Diff(runs(before), runs(w.pod())); diff != "" {
		w.Errorf("debugging started something anew (-before +after):\n%s", diff)
	}
}
