// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2epod

package pod

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
)

// One installation by helm, from the first node of a cluster to its uninstallation and back.
func TestHelmInstallsAPodThatServesTheCluster(t *testing.T) {
	w := newWorld(t)
	w.part("values that do not exist are refused and leave nothing behind", refusedValues)
	w.createSecret(namespace, productName)
	w.part("helm waits for a pod on a node that is neither initialized nor ready", install)
	w.part("the pod initializes the node that it runs on", initializesItsNode)
	w.part("both containers are ready, and the backend was first", bothReady)
	w.awaitReadyNode()
	w.part("a Service gets its address", func(w *world) { w.createService("web", 80) })
	w.part("kubectl oxide asks the backend in the pod", plugin)
	w.part("helm test runs the preflight check", helmTest)
	w.part("neither container can read the credential of the other", credentialsAreApart)
	w.part("the backend's program answers by kubectl exec", answersOperators)
	w.part("grpcurl reaches the backend from a debug container", debugContainer)
	w.part("a token rotated in the Secret is used without a restart", rotateToken)
	w.part("a killed backend comes back and nothing is lost", func(w *world) {
		kill(w, backendName)
	})
	w.part("a killed shim comes back and nothing is lost", func(w *world) { kill(w, shimName) })
	w.part("a pod that starts while Oxide is away waits for it", startsWithoutOxide)
	w.part("a second release idles and says why", secondRelease)
	w.part("helm upgrade changes the pod and nothing else", upgrade)
	w.part("two plain containers work as well", plainContainers)
	w.part("uninstalling changes nothing, reinstalling neither", reinstall)
	w.part("a deleted Service gives its address back", func(w *world) { w.deleteService("web") })
}

func refusedValues(w *world) {
	for setting, want := range map[string]string{
		"deployment.replica=1":        "/deployment",
		"oxide.tokne=secret":          "/oxide",
		"shim.securePort=0":           "/shim/securePort",
		"backend.logLevel=loud":       "/backend/logLevel",
		"oxide.host=http://rack.test": "/oxide/host",
	} {
		out, err := w.helmRelease("install", "--set", setting)
		if err == nil {
			w.Fatalf("helm installs with --set %s", setting)
		}
		if !strings.Contains(out, want) {
			w.Errorf("the refusal of %s does not name %s: %s", setting, want, out)
		}
	}
	if out := w.run(w.helm, "list", "--all-namespaces", "--short"); out != "" {
		w.Errorf("refused, and there are releases: %s", out)
	}
	deployments, err := w.client.AppsV1().Deployments("").List(w.ctx, metav1.ListOptions{})
	w.must(err)
	if len(deployments.Items) > 0 {
		w.Errorf("refused, and there are Deployments: %v", deployments.Items)
	}
}

func install(w *world) {
	n := w.theNode()
	if !objects.HasTaint(n, objects.UninitializedTaint) ||
		!objects.HasTaint(n, corev1.TaintNodeNotReady) {
		w.Fatalf("the node is not as a new one: its taints are %v", n.Spec.Taints)
	}
	out, err := w.helmRelease("install")
	w.must(err)
	if !strings.Contains(out, "STATUS: deployed") {
		w.Errorf("helm does not say that it is deployed: %s", out)
	}
}

func initializesItsNode(w *world) {
	w.eventually(w.initialized)
	if n := w.theNode(); !objects.HasTaint(n, corev1.TaintNodeNotReady) {
		w.Errorf("the node became ready without a network: its taints are %v", n.Spec.Taints)
	}
	pod := w.pod()
	if got := pod.Spec.NodeName; got != w.theNode().Name {
		w.Errorf("the pod runs on %q", got)
	}
}

func bothReady(w *world) {
	pod := w.pod()
	if len(pod.Status.InitContainerStatuses) != 1 || len(pod.Status.ContainerStatuses) != 1 {
		w.Fatalf("want one sidecar and one container: %+v", pod.Status)
	}
	backend, shim := container(pod, backendName), container(pod, shimName)
	if backend.State.Running.StartedAt.After(shim.State.Running.StartedAt.Time) {
		w.Errorf("the backend started at %s, after the shim at %s",
			backend.State.Running.StartedAt, shim.State.Running.StartedAt)
	}
	for _, status := range []corev1.ContainerStatus{backend, shim} {
		if status.RestartCount != 0 {
			w.Errorf("%s was started again %d times", status.Name, status.RestartCount)
		}
	}
}

// helmTest runs the chart's test, once as all is well and once with a token that Oxide refuses.
func helmTest(w *world) {
	run := func() (string, error) {
		return w.helm("test", productName, "--namespace", namespace, "--logs", "--timeout", "2m")
	}
	out, err := run()
	w.must(err)
	if !strings.Contains(out, "result: ok") {
		w.Errorf("the test does not say that all is well: %s", out)
	}
	w.must(w.rack.RevokeToken(w.ctx))
	if out, err = run(); err == nil ||
		!strings.Contains(out, "rejects the token") || !strings.Contains(out, "remedy:") {
		w.Errorf("with a token that is refused the test says (%v): %s", err, out)
	}
	w.must(w.rack.RestoreToken(w.ctx))
	w.pod()
}

// secondRelease installs the chart once more, as somebody would by mistake.
func secondRelease(w *world) {
	const release, other = "second", "another-team"
	before, leader := w.facts(), w.leader()
	w.run(w.kubectl, "create", "namespace", other)
	w.createSecret(other, release+"-"+productName)
	args := append([]string{"install", release}, w.chartArgs()...)
	w.run(w.helm, append(args, "--namespace", other, "--wait", "--timeout", "2m",
		"--set", "shim.securePort=11258", "--set", "backend.healthPort=11268")...)
	w.eventually(func(context.Context) (string, error) {
		log, err := w.kubectl("--namespace", other, "logs",
			"deployment/"+release+"-"+productName, "--container", shimName)
		if err != nil || !strings.Contains(log, leader) {
			return fmt.Sprintf("a line of the second shim that names %s, which leads", leader), nil
		}
		return "", nil
	})
	if now := w.leader(); now != leader {
		w.Errorf("%s leads, not %s any more", now, leader)
	}
	w.createService("beside", 81)
	w.deleteService("beside")
	plugin(w)
	if _, stderr, code := w.oxide("--release", release, "plan"); code != 3 {
		w.Errorf("of the release that idles: exit code %d: %s", code, stderr)
	}
	if now := w.leader(); now != leader {
		w.Errorf("%s leads, not %s any more", now, leader)
	}
	w.checkLogs()
	w.run(w.helm, "uninstall", release, "--namespace", other, "--wait")
	after := w.facts()
	before.Mutations = after.Mutations // those of the Service
	if diff := cmp.Diff(before, after); diff != "" {
		w.Errorf("the second release changed something (-before +after):\n%s", diff)
	}
}

func upgrade(w *world) {
	before, old := w.facts(), w.pod()
	out, err := w.helmRelease("upgrade", "--set", "deployment.replica=1")
	if err == nil || !strings.Contains(out, "/deployment") {
		w.Errorf("an upgrade with a value that does not exist: %v: %s", err, out)
	}
	if now := w.pod(); now.UID != old.UID {
		w.Error("a refused upgrade changed the pod")
	}
	// The next release of the product has other tags for its images.
	w.must(w.node.Tag(w.ctx, "docker.io/library/"+productName+":"+built.version,
		"docker.io/library/"+productName+":next"))
	w.checkLogs()
	_, err = w.helmRelease("upgrade", "--set", "deployment.image.tag=next")
	w.must(err)
	now := w.pod()
	if now.UID == old.UID {
		w.Error("the pod was not replaced")
	}
	for _, status := range []corev1.ContainerStatus{
		container(now, backendName), container(now, shimName),
	} {
		if !strings.HasSuffix(status.Image, ":next") {
			w.Errorf("%s runs %s", status.Name, status.Image)
		}
	}
	w.unchanged(before)
	w.createService("after-upgrade", 82)
	w.deleteService("after-upgrade")
}

func plainContainers(w *world) {
	before := w.facts()
	_, err := w.helmRelease("upgrade", "--set", "deployment.nativeSidecar=false")
	w.must(err)
	pod := w.pod()
	if len(pod.Status.InitContainerStatuses) != 0 || len(pod.Status.ContainerStatuses) != 2 {
		w.Errorf("want two containers: %+v", pod.Status)
	}
	w.unchanged(before)
	plugin(w)
	w.checkLogs()
}

func reinstall(w *world) {
	w.createService("web-too", 83)
	before := w.facts()
	w.run(w.helm, "uninstall", productName, "--namespace", namespace, "--wait")
	w.awaitNoPod()
	if diff := cmp.Diff(before, w.facts()); diff != "" {
		w.Errorf("uninstalling changed something (-before +after):\n%s", diff)
	}
	_, err := w.helmRelease("install")
	w.must(err)
	w.unchanged(before)
	w.deleteService("web-too")
	w.checkLogs()
}

// unchanged checks that a new pod leads, has looked at every Service, and has changed nothing that
// was there before.
func (w *world) unchanged(before facts) {
	w.Helper()
	w.pod()
	for name, service := range before.Services {
		if len(service.Ingress) > 0 {
			w.looked(name)
		}
	}
	if diff := cmp.Diff(before, w.facts()); diff != "" {
		w.Errorf("something changed (-before +after):\n%s", diff)
	}
}

// looked waits until the present shim has said that it saw to a Service.
func (w *world) looked(service string) {
	w.Helper()
	w.eventually(func(context.Context) (string, error) {
		log, err := w.kubectl("--namespace", namespace, "logs", w.pod().Name,
			"--container", shimName)
		if err != nil {
			return "the shim's log", nil
		}
		for line := range strings.Lines(log) {
			var recorded struct {
				Reason string `json:"reason"`
				Object struct {
					Namespace string `json:"namespace"`
					Name      string `json:"name"`
				} `json:"object"`
			}
			if json.Unmarshal([]byte(line), &recorded) == nil &&
				recorded.Reason == "EnsuredLoadBalancer" &&
				recorded.Object.Namespace == "default" && recorded.Object.Name == service {
				return "", nil
			}
		}
		return "the event of the present shim that it ensured " + service, nil
	})
}
