// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A ConfigMap that is there already is not part of the chart: what is in it is read from the cluster.
func TestAnUpgradeStartsPodsForChangedCertificatesOnly(t *testing.T) {
	const release, name, namespace = "with-ca", "rack-ca", "kube-system"
	e := newEnvironment(t, settings{idle: true})
	configMaps := e.client.CoreV1().ConfigMaps(namespace)
	write := func(data map[string]string) {
		t.Helper()
		err := configMaps.Delete(t.Context(), name, metav1.DeleteOptions{})
		if !apierrors.IsNotFound(err) {
			e.must(err)
		}
		_, err = configMaps.Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data,
		}, metav1.CreateOptions{})
		e.must(err)
	}
	t.Cleanup(func() {
		e.must(configMaps.Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{}))
	})
	// checksum is what the release's pods are replaced for when it changes.
	checksum := func() string {
		t.Helper()
		deployment, err := e.client.AppsV1().Deployments(namespace).Get(t.Context(),
			release+"-oxide-cloud-controller-manager", metav1.GetOptions{})
		e.must(err)
		return deployment.Spec.Template.Annotations["checksum/oxide-ca"]
	}
	value := "--set=oxide.existingCAConfigMap=" + name
	upgrade := func() { e.helm(t.Context(), "upgrade", release, chart, value) }

	write(map[string]string{"ca.crt": "the first"})
	e.helmInstall(release, value)
	first := checksum()
	if first == "" {
		t.Fatal("the pods have no checksum of the certificates")
	}
	write(map[string]string{"ca.crt": "the first", "others": "something"})
	upgrade()
	if now := checksum(); now != first {
		t.Errorf("the certificates are the same, and the checksum is %q, not %q any more", now, first)
	}
	write(map[string]string{"ca.crt": "the second"})
	upgrade()
	if now := checksum(); now == first || now == "" {
		t.Errorf("the certificates have changed, and the checksum is %q", now)
	}
	write(nil) // by mistake: helm is not what fails then
	upgrade()
	if now := checksum(); now != "" {
		t.Errorf("there are no certificates, and the checksum is %q", now)
	}
}
