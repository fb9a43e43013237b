// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// Beside a cloud controller manager that holds the lease, a pair with --read-only says what it
// would do, and does nothing.
func TestReadOnlyChangesNothing(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a")
	e.must(e.ccm.Stop())
	e.holdLease("somebody-else")
	e.register("node-b") // to be initialized
	e.create("web", objects.TCP(80))
	before, requests := e.snapshot(), e.mutations()

	dir := filepath.Join(e.dir, "ro")
	e.must(os.Mkdir(dir, 0o700))
	options := e.ccmOptions(settings{child: true, shimFlags: []string{"--read-only"}})
	options.Dir, options.Name, options.Standby = dir, "-ro", true
	watching, err := stack.StartCCM(t.Context(), options)
	e.must(err)

	for _, wanted := range []string{
		"Would initialize the node: provider ID oxide://",
		"Would change in Oxide\" namespace=\"default\" service=\"web\" load_balancer=\"default/web\" " +
			"action=\"ACTION_TYPE_CREATE\"",
		"action=\"ACTION_TYPE_ATTACH\"",
	} {
		e.eventually(func(context.Context) (string, error) {
			text, err := os.ReadFile(watching.Shim.LogFile())
			if err != nil || strings.Contains(string(text), wanted) {
				return "", err
			}
			return "a line with " + wanted, nil
		})
	}
	if diff := cmp.Diff(before, e.snapshot()); diff != "" {
		t.Errorf("something was changed in Kubernetes (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(requests, e.mutations()); diff != "" {
		t.Errorf("requests for changes on the rack (-before +after):\n%s", diff)
	}
}

// holdLease makes somebody the holder of the lease, for long.
func (e *environment) holdLease(holder string) {
	e.Helper()
	leases := e.client.CoordinationV1().Leases(metav1.NamespaceSystem)
	_ = leases.Delete(e.Context(), stack.LeaseName, metav1.DeleteOptions{})
	now, seconds := metav1.NowMicro(), int32(3600)
	_, err := leases.Create(e.Context(), &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: stack.LeaseName},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &holder, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now,
		},
	}, metav1.CreateOptions{})
	e.must(err)
	e.Cleanup(func() {
		_ = leases.Delete(context.WithoutCancel(e.Context()), stack.LeaseName, metav1.DeleteOptions{})
	})
}

// snapshot is what a cloud controller manager could have changed, by kind and name, with versions.
func (e *environment) snapshot() map[string]string {
	e.Helper()
	ctx := e.Context()
	versions := make(map[string]string)
	note := func(kind string, meta metav1.ObjectMeta) {
		versions[kind+" "+meta.Namespace+"/"+meta.Name] = meta.ResourceVersion
	}
	nodes, err := e.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	e.must(err)
	for _, node := range nodes.Items {
		note("Node", node.ObjectMeta)
	}
	services, err := e.client.CoreV1().Services(corev1.NamespaceAll).List(ctx, metav1.ListOptions{})
	e.must(err)
	for _, service := range services.Items {
		note("Service", service.ObjectMeta)
	}
	leases, err := e.client.CoordinationV1().Leases(metav1.NamespaceSystem).
		List(ctx, metav1.ListOptions{})
	e.must(err)
	for _, lease := range leases.Items {
		if lease.Name == stack.LeaseName {
			note("Lease", lease.ObjectMeta)
		}
	}
	events, err := e.client.CoreV1().Events(corev1.NamespaceAll).List(ctx, metav1.ListOptions{})
	e.must(err)
	for _, event := range events.Items {
		if event.InvolvedObject.Kind == "Node" || event.InvolvedObject.Kind == "Service" {
			note("Event", event.ObjectMeta)
		}
	}
	return versions
}
