// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/klog/v2"
)

func TestAStandbySaysOnceWhoHoldsTheLease(t *testing.T) {
	var logged bytes.Buffer
	klog.LogToStderr(false)
	klog.SetOutput(&logged)
	t.Cleanup(func() { klog.LogToStderr(true) })

	synctest.Test(t, func(t *testing.T) {
		leases := fake.NewClientset().CoordinationV1().Leases(metav1.NamespaceSystem)
		lease, err := leases.Create(t.Context(), &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: "ccm", Namespace: metav1.NamespaceSystem},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		holdBy := func(holder string) {
			lease.Spec.HolderIdentity = &holder
			if lease, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		leads := make(chan struct{})
		go standby{leases: leases, lease: "ccm"}.watch(t.Context(), leads)
		holdBy("")
		holdBy("node-1_a")
		holdBy("node-2_b")
		close(leads)
		synctest.Wait()
		holdBy("node-3_c")
	})

	klog.Flush()
	text := logged.String()
	for holder, want := range map[string]int{"node-1_a": 1, "node-2_b": 1, "node-3_c": 0} {
		if got := strings.Count(text, `holder="`+holder+`"`); got != want {
			t.Errorf("%s is told %d times, want %d:\n%s", holder, got, want, text)
		}
	}
	for _, part := range []string{"Standing by", `lease="kube-system/ccm"`, "another installation"} {
		if !strings.Contains(text, part) {
			t.Errorf("it does not say %q:\n%s", part, text)
		}
	}
}

func TestALeaderSaysNothingOfStandingBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leads := make(chan struct{})
		close(leads)
		// Without leases it would panic if it looked.
		standby{}.watch(t.Context(), leads)
	})
}
