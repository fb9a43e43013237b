// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2epod

package pod

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/node"
)

// previousChart has the layout of the chart that users have from the existing product.
const previousChart = "test/e2e/pod/testdata/previous-chart"

// Those who have the existing product upgrade its release, and can go back.
func TestAReleaseOfTheExistingChartIsUpgradedAndRolledBack(t *testing.T) {
	w := newWorld(t)
	w.must(w.node.JoinNetwork())
	w.createSecret(namespace, productName)
	// Helm 3 computes patches itself, helm 4 leaves that to the API server, and a release stays with
	// the way that it was installed in.
	for _, way := range []struct{ name, flag string }{
		{"installed by helm 3", "--server-side=false"}, {"installed by helm 4", "--server-side=true"},
	} {
		w.part(way.name, func(w *world) { takeOver(w, way.flag) })
	}
}

func takeOver(w *world, installFlag string) {
	w.run(w.helm, "install", productName, previousChart, "--namespace", namespace,
		"--wait", "--timeout", "2m", installFlag,
		"--set", "deployment.replicas=1", "--set", "deployment.imagePullPolicy=Never")
	previous := w.previousPod()

	// The values that the user gave before are used again, but for the image's.
	upgrade := func() {
		w.Helper()
		_, err := w.helmRelease("upgrade", "--reset-then-reuse-values",
			"--set", "deployment.image.name="+productName,
			"--set", "deployment.image.tag="+built.version)
		w.must(err)
	}
	upgrade()
	w.eventually(w.initialized)
	pod := w.pod()
	if pod.UID == previous.UID {
		w.Error("the pod was not replaced")
	}
	if policy := pod.Spec.Containers[0].ImagePullPolicy; policy != corev1.PullNever {
		w.Errorf("the user's own value is lost: the pull policy is %s", policy)
	}
	w.createService("web", 80)
	before := w.facts()
	w.checkLogs()

	w.run(w.helm, "rollback", productName, "1", "--namespace", namespace,
		"--wait", "--timeout", "2m")
	w.previousPod()
	if diff := cmp.Diff(before, w.facts()); diff != "" {
		w.Errorf("the rollback changed something (-before +after):\n%s", diff)
	}
	left, err := w.client.RbacV1().Roles(namespace).List(w.ctx, metav1.ListOptions{
		LabelSelector: selector,
	})
	w.must(err)
	if len(left.Items) > 0 {
		w.Errorf("rolled back, and there are still %v", left.Items)
	}

	upgrade()
	w.unchanged(before)
	w.deleteService("web")
	w.run(w.helm, "uninstall", productName, "--namespace", namespace, "--wait")
	if _, err := w.client.CoreV1().Secrets(namespace).Get(w.ctx, productName,
		metav1.GetOptions{}); err != nil {
		w.Errorf("the user's own Secret is gone: %v", err)
	}
}

// previousPod waits for the pod of the existing chart.
func (w *world) previousPod() *corev1.Pod {
	w.Helper()
	return w.podWith(func(pod *corev1.Pod) string {
		statuses := pod.Status.ContainerStatuses
		if len(pod.Status.InitContainerStatuses) > 0 || len(statuses) != 1 ||
			!statuses[0].Ready || !strings.HasSuffix(statuses[0].Image, node.PauseImage) {
			return fmt.Sprintf("the pod of the existing chart, got %+v", pod.Status)
		}
		return ""
	})
}
