// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2epod

package pod

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/node"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

const (
	// selector selects the pods of the product's release, or of the one that it takes over.
	selector = "app.kubernetes.io/name=" + productName + ",app.kubernetes.io/instance=" + productName

	backendName = "oxide-backend"
	shimName    = "ccm-shim"
)

// pod waits for the one pod of the release that is not about to end, with both containers ready. It
// sends no packet to the addresses that instances of the simulated rack have.
func (w *world) pod() *corev1.Pod {
	w.Helper()
	pod := w.podWith(func(pod *corev1.Pod) string {
		for _, name := range []string{backendName, shimName} {
			if status := container(pod, name); !status.Ready {
				return fmt.Sprintf("a ready container %s, got %+v", name, status.State)
			}
		}
		return ""
	})
	if got := probes(pod); got != "--probe-nodes=false" {
		w.Fatalf("%s is started with %q: it may send packets to addresses that are not of this machine",
			shimName, got)
	}
	return pod
}

// probes returns the argument that says whether the shim probes nodes: the last one wins.
func probes(pod *corev1.Pod) (last string) {
	for _, container := range pod.Spec.Containers {
		for _, arg := range container.Args {
			if container.Name == shimName && strings.HasPrefix(arg, "--probe-nodes=") {
				last = arg
			}
		}
	}
	return last
}

// podWith waits for the one pod of the release that is not about to end; check returns what it still
// lacks.
func (w *world) podWith(check func(*corev1.Pod) string) *corev1.Pod {
	w.Helper()
	var found *corev1.Pod
	w.eventually(func(ctx context.Context) (string, error) {
		pods, err := w.client.CoreV1().Pods(namespace).List(ctx,
			metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return "", err
		}
		pods.Items = slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool {
			return pod.DeletionTimestamp != nil
		})
		if len(pods.Items) != 1 {
			return fmt.Sprintf("the one pod, got %d", len(pods.Items)), nil
		}
		found = &pods.Items[0]
		return check(found), nil
	})
	return found
}

// awaitNoPod waits until all pods of the release are gone.
func (w *world) awaitNoPod() {
	w.Helper()
	w.eventually(func(ctx context.Context) (string, error) {
		pods, err := w.client.CoreV1().Pods(namespace).List(ctx,
			metav1.ListOptions{LabelSelector: selector})
		if err != nil || len(pods.Items) > 0 {
			return "the end of the pod", err
		}
		return "", nil
	})
}

// container returns the status of a container, be it an init container or not.
func container(pod *corev1.Pod, name string) corev1.ContainerStatus {
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses,
		pod.Status.ContainerStatuses) {
		if status.Name == name {
			return status
		}
	}
	return corev1.ContainerStatus{}
}

// pid returns the process of a container that runs.
func (w *world) pid(pod *corev1.Pod, name string) int {
	w.Helper()
	pid, err := w.node.Pid(w.ctx, container(pod, name).ContainerID)
	w.must(err)
	return pid
}

// theNode returns the Node that this machine is.
func (w *world) theNode() *corev1.Node {
	w.Helper()
	n, err := w.client.CoreV1().Nodes().Get(w.ctx, node.Name, metav1.GetOptions{})
	w.must(err)
	return n
}

// awaitReadyNode gives the Node a network and waits until pods and Services may use it.
func (w *world) awaitReadyNode() {
	w.Helper()
	w.must(w.node.JoinNetwork())
	w.eventually(func(context.Context) (string, error) {
		n := w.theNode()
		if len(n.Spec.Taints) > 0 {
			return fmt.Sprintf("a node without taints, got %v", n.Spec.Taints), nil
		}
		return "", nil
	})
}

// initialized returns what the Node still lacks of being initialized as the rack's instance.
func (w *world) initialized(ctx context.Context) (string, error) {
	state, err := w.rack.State(ctx)
	if err != nil {
		return "", err
	}
	instance, _ := state.Instance(node.Name)
	n := w.theNode()
	switch {
	case objects.HasTaint(n, objects.UninitializedTaint):
		return "the end of the taint", nil
	case n.Spec.ProviderID != "oxide://"+instance.ID:
		return fmt.Sprintf("the instance %s, got %q", instance.ID, n.Spec.ProviderID), nil
	case !slices.Contains(n.Status.Addresses,
		corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: privateIP}):
		return fmt.Sprintf("the address %s, got %v", privateIP, n.Status.Addresses), nil
	}
	return "", nil
}

// createService creates a Service of type LoadBalancer and waits for its address.
func (w *world) createService(name string, port int32) (address string) {
	w.Helper()
	_, err := w.client.CoreV1().Services("default").Create(w.ctx,
		objects.LoadBalancer("default", name, objects.TCP(port)), metav1.CreateOptions{})
	w.must(err)
	return w.served(name)
}

// served waits until a Service's status begins with a floating IP that the rack has attached to the
// instance of the Node, and says so in its condition, which is what is written last.
func (w *world) served(name string) (address string) {
	w.Helper()
	w.eventually(func(ctx context.Context) (string, error) {
		service, err := w.client.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		state, err := w.rack.State(ctx)
		if err != nil {
			return "", err
		}
		if len(service.Status.LoadBalancer.Ingress) == 0 {
			return "the status of the Service " + name, nil
		}
		address = service.Status.LoadBalancer.Ingress[0].IP
		ip, _ := state.FloatingIP(address)
		if ip.AttachState != rack.Attached || ip.Instance != node.Name {
			return fmt.Sprintf("the attachment of %s, got %+v", address, ip), nil
		}
		if !meta.IsStatusConditionTrue(service.Status.Conditions, objects.ReadyCondition) {
			return fmt.Sprintf("the condition of %s, got %v", name, service.Status.Conditions), nil
		}
		return "", nil
	})
	return address
}

// deleteService deletes a Service and waits until it is gone, and its address with it.
func (w *world) deleteService(name string) {
	w.Helper()
	address := w.served(name)
	services := w.client.CoreV1().Services("default")
	w.must(services.Delete(w.ctx, name, metav1.DeleteOptions{}))
	w.eventually(func(ctx context.Context) (string, error) {
		if _, err := services.Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return "the end of the Service " + name, err
		}
		if _, found := w.state().FloatingIP(address); found {
			return "the end of " + address, nil
		}
		return "", nil
	})
}

// facts are what losing the product must not change: the rack, how often it was asked to change
// anything, the Node's identity, and every Service.
type facts struct {
	Rack      rack.State
	Mutations map[string]int
	Node      identity
	Services  map[string]written
}

// written is what the product writes on a Service, and the version, which changes with all else.
type written struct {
	Version    string
	Finalizers []string
	Ingress    []corev1.LoadBalancerIngress
	Conditions []metav1.Condition
}

// identity is what the product writes on a Node.
type identity struct {
	UID, ProviderID string
	Labels          map[string]string
	Addresses       []corev1.NodeAddress
}

func (w *world) facts() facts {
	w.Helper()
	n := w.theNode()
	f := facts{
		Rack: w.state(), Mutations: w.mutations(), Services: map[string]written{},
		Node: identity{
			UID: string(n.UID), ProviderID: n.Spec.ProviderID, Labels: maps.Clone(n.Labels),
			Addresses: n.Status.Addresses,
		},
	}
	services, err := w.client.CoreV1().Services("default").List(w.ctx, metav1.ListOptions{})
	w.must(err)
	for _, service := range services.Items {
		f.Services[service.Name] = written{
			Version: service.ResourceVersion, Finalizers: service.Finalizers,
			Ingress: service.Status.LoadBalancer.Ingress, Conditions: service.Status.Conditions,
		}
	}
	return f
}

func (w *world) state() rack.State {
	w.Helper()
	state, err := w.rack.State(w.ctx)
	w.must(err)
	return state
}

// mutations returns how often the rack was asked to change anything, by operation.
func (w *world) mutations() map[string]int {
	w.Helper()
	requests, err := w.rack.Requests(w.ctx)
	w.must(err)
	maps.DeleteFunc(requests, func(operation string, _ int) bool {
		return !slices.ContainsFunc([]string{
			"_create", "_update", "_delete", "_attach", "_detach", "_add", "_remove",
		}, func(suffix string) bool { return strings.HasSuffix(operation, suffix) })
	})
	return requests
}

// leader returns who leads.
func (w *world) leader() string {
	w.Helper()
	lease, err := w.client.CoordinationV1().Leases(namespace).Get(w.ctx,
		"cloud-controller-manager", metav1.GetOptions{})
	w.must(err)
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// checkLogs holds two promises about all pods that are there: the Oxide token is in no log, and the
// rights of the chart suffice.
func (w *world) checkLogs() {
	w.Helper()
	logs := filepath.Join(w.dir, "pod-logs")
	files := 0
	err := filepath.WalkDir(logs, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		if strings.Contains(string(text), rack.Token) {
			w.Errorf("the token is in %s", path)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "is forbidden") {
				w.Errorf("%s: a right is missing: %s", path, line)
			}
		}
		return nil
	})
	w.must(err)
	if files == 0 {
		w.Errorf("no log is in %s", logs)
	}
}
