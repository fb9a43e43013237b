// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
)

// follow follows the pods of a client until the test ends.
func follow(t *testing.T, client *fake.Clientset) *podCache {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	pods := &podCache{}
	pods.follow(ctx, client)
	return pods
}

func namesOf(pods []*v1.Pod) []string {
	var names []string
	for _, pod := range pods {
		names = append(names, pod.Namespace+"/"+pod.Name)
	}
	return names
}

func TestPodsInTheirNodesNetworksAreFollowed(t *testing.T) {
	client := fake.NewClientset(hostPod("proxy", "worker-1", 80))
	var selectors atomic.Pointer[string]
	client.PrependReactor("list", "pods", func(action clienttesting.Action,
	) (bool, runtime.Object, error) {
		selector := action.(clienttesting.ListAction).GetListRestrictions().Fields.String()
		selectors.Store(&selector)
		return false, nil, nil
	})
	pods := follow(t, client)
	if diff := cmp.Diff([]string{"shop/proxy"}, namesOf(pods.list(t.Context()))); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	if got := selectors.Load(); got == nil || *got != "spec.hostNetwork=true" {
		t.Errorf("asked for pods by %v: those with networks of their own are many", got)
	}
	// What comes later is known, too.
	if _, err := client.CoreV1().Pods("shop").Create(t.Context(), hostPod("late", "worker-1", 443),
		metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return len(pods.list(t.Context())) == 2 })
}

// await waits until something is so.
func await(t *testing.T, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), is) {
		t.Fatal("it did not come about")
	}
}

func TestWithoutPodsThingsGoOn(t *testing.T) {
	_, mark := logged.since(0, "")
	said := func() int {
		lines, _ := logged.since(mark, "could not be read")
		return len(lines)
	}

	unfollowed := &podCache{}
	if got := unfollowed.list(t.Context()); got != nil {
		t.Errorf("the pods are %v", namesOf(got))
	}

	client := fake.NewClientset(hostPod("proxy", "worker-1", 80))
	var allowed atomic.Bool
	forbid := func(clienttesting.Action) (bool, runtime.Object, error) {
		return !allowed.Load(), nil, errors.New("forbidden")
	}
	client.PrependReactor("list", "pods", forbid)
	pods := follow(t, client)
	followed := pods.followed.Load()

	// A caller who goes away waits no longer, and is told nothing.
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if got := pods.list(cancelled); got != nil || said() != 0 {
		t.Errorf("the pods are %v after %d lines", namesOf(got), said())
	}

	ended, end := context.WithCancel(t.Context())
	end()
	followed.patience = ended
	for range 3 {
		if got := pods.list(t.Context()); got != nil {
			t.Errorf("the pods are %v", namesOf(got))
		}
	}
	if said() != 1 {
		t.Errorf("it is said %d times that the pods are not known", said())
	}

	// Once they can be read they are.
	allowed.Store(true)
	await(t, func() bool { return len(pods.list(t.Context())) == 1 })
}

func TestOfAPodWhatIsNeededIsKept(t *testing.T) {
	always := v1.ContainerRestartPolicyAlways
	pod := hostPod("proxy", "worker-1", 80)
	pod.UID, pod.ResourceVersion = "uid-1", "7"
	pod.Annotations = map[string]string{"large": strings.Repeat("x", 1000)}
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}
	pod.Spec.Volumes = []v1.Volume{{Name: "data"}}
	pod.Spec.Containers[0].Env = []v1.EnvVar{{Name: "TOKEN", Value: "secret"}}
	pod.Spec.Containers = append(pod.Spec.Containers, v1.Container{Name: "no ports"})
	pod.Spec.InitContainers = []v1.Container{{
		Name: "sidecar", RestartPolicy: &always, Ports: []v1.ContainerPort{{ContainerPort: 443}},
	}}
	pod.Status.PodIP = "172.30.0.11"
	before := pod.DeepCopy()

	got, err := trimPod(pod)
	if err != nil {
		t.Fatal(err)
	}
	want := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "proxy", UID: "uid-1", ResourceVersion: "7",
			Labels: map[string]string{"app": "proxy"},
		},
		Spec: v1.PodSpec{
			NodeName: "worker-1", HostNetwork: true,
			Containers: []v1.Container{{
				Name: "c", Ports: []v1.ContainerPort{{ContainerPort: 80}},
			}},
			InitContainers: []v1.Container{{
				Name: "sidecar", Ports: []v1.ContainerPort{{ContainerPort: 443}},
			}},
		},
		Status: v1.PodStatus{Phase: v1.PodRunning},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, pod); diff != "" {
		t.Errorf("the pod itself was changed:\n%s", diff)
	}

	gone := cache.DeletedFinalStateUnknown{Key: "shop/proxy"}
	if got, err := trimPod(gone); err != nil || got != any(gone) {
		t.Errorf("what is no pod became %v, %v", got, err)
	}
}
