// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

const manifest = `# Only a comment.
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: probe, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "system:probe"}
rules:
- {apiGroups: [""], resources: [nodes], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "system:probe"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:probe"}
subjects: [{kind: ServiceAccount, name: probe, namespace: kube-system}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: probe, namespace: kube-system}
`

func TestAnIdentityHasExactlyTheRightsOfTheManifest(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 14*time.Minute)
	defer cancel()
	c := start(ctx, t)

	accounts, err := c.ApplyIdentity(ctx, []byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	want := []types.NamespacedName{{Namespace: "kube-system", Name: "probe"}}
	if diff := cmp.Diff(want, accounts); diff != "" {
		t.Fatalf("service accounts (-want +got):\n%s", diff)
	}
	if _, err := c.ApplyIdentity(ctx, []byte(manifest)); err != nil {
		t.Errorf("the second time: %v", err)
	}
	deployments, err := c.Client.AppsV1().Deployments("").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(deployments.Items) != 0 {
		t.Error("more than the identity was created")
	}

	config, err := c.ServiceAccount(ctx, "kube-system", "probe")
	if err != nil {
		t.Fatal(err)
	}
	probe, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	for verb, want := range map[string]bool{"get": true, "list": false, "delete": false} {
		var got bool
		if err := process.Await(ctx, func(ctx context.Context) (bool, error) {
			review, err := probe.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
				&authorizationv1.SelfSubjectAccessReview{
					Spec: authorizationv1.SelfSubjectAccessReviewSpec{
						ResourceAttributes: &authorizationv1.ResourceAttributes{
							Verb: verb, Resource: "nodes",
						},
					},
				}, metav1.CreateOptions{})
			if err != nil {
				return false, err
			}
			got = review.Status.Allowed
			return got || !want, nil // the authorizer learns of new roles a moment later
		}); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("may %s nodes: %v, want %v", verb, got, want)
		}
	}
}

// start runs a control plane, built first if the cache lacks it, that ends with the test.
func start(ctx context.Context, t *testing.T) *cluster.Cluster {
	t.Helper()
	cache, err := cluster.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	module, err := filepath.Abs("../kube")
	if err != nil {
		t.Fatal(err)
	}
	binaries, err := cluster.Get(ctx, cluster.Options{
		Module: module, Cache: cache, Report: progress.ForTest("cluster"),
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	group := process.NewGroup(dir)
	t.Cleanup(func() {
		if err := group.StopAll(20 * time.Second); err != nil {
			t.Error(err)
		}
	})
	c, err := cluster.Start(ctx, group, binaries, dir)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(c.AdminKubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("the administrator's kubeconfig has mode %o", mode)
	}
	return c
}
