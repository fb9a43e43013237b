// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// machines are the instances on the rack; a Node of the same name runs on each.
var machines = []rack.Machine{
	{Name: "worker-1", NCPUs: 4, MemoryGiB: 16, IP: "172.30.0.11", Ephemeral: true},
	{Name: "worker-2", NCPUs: 8, MemoryGiB: 32, IP: "172.30.0.12"},
	{Name: "worker-3", NCPUs: 2, MemoryGiB: 8, IP: "172.30.0.13"},
}

// chapterLimit is how long each chapter may take; a machine that is busy with other things
// included.
const chapterLimit = time.Minute

// Where something was seen.
const (
	kubernetesAPI = "kubernetes"
	oxideRack     = "rack"
)

// story lets it happen and reports what is seen. It returns how long the chapters took, for people: one
// line for each.
func (d *demo) story(ctx context.Context) (times []string, err error) {
	d.console.title("Three Nodes register, as their kubelets would register them")
	nodes, err := d.chapter(ctx, d.registerNodes, d.newNodes())
	if err != nil {
		return nil, err
	}
	d.console.title("Two Services of type LoadBalancer are created")
	web := objects.LoadBalancer("default", "web", objects.TCP(80), objects.TCP(443))
	dns := objects.LoadBalancer("default", "dns", objects.UDP(53))
	services := d.newServices(web, dns)
	created, err := d.chapter(ctx, services.create, services)
	if err != nil {
		return nil, err
	}
	d.console.title("The instance under one of the addresses is stopped")
	stopped, err := d.failover(ctx, services, web, (*failoverWatcher).stopInstance)
	if err != nil {
		return nil, err
	}
	d.console.title("The kubelet under the other address falls silent")
	d.console.line("with a UDP port the new place is published a second before the address is there")
	silent, err := d.failover(ctx, services, dns, (*failoverWatcher).silenceKubelet)
	if err != nil {
		return nil, err
	}
	d.console.title("One of the Services is deleted")
	removal := services.newRemoval(dns)
	removed, err := d.chapter(ctx, removal.delete, removal)
	if err != nil {
		return nil, err
	}
	return []string{
		fmt.Sprintf("%d Nodes initialized in %s", len(machines), progress.Seconds(nodes)),
		fmt.Sprintf("%d Services got their addresses in %s", len(services.all), progress.Seconds(created)),
		fmt.Sprintf("1 address left a stopped instance in %s, 1 a silent node in %s",
			progress.Seconds(stopped), progress.Seconds(silent)),
		fmt.Sprintf("1 address was released in %s", progress.Seconds(removed)),
	}, nil
}

// watcher looks at the cluster and the rack again and again, tells what is new, and says what it
// still misses: nothing means that the chapter is over.
type watcher interface {
	look(ctx context.Context) (missing string, err error)
}

// chapter lets something happen and waits until the watcher has seen all of it.
func (d *demo) chapter(
	ctx context.Context, happen func(context.Context) error, w watcher,
) (time.Duration, error) {
	d.console.restart()
	if err := happen(ctx); err != nil {
		return 0, err
	}
	missing := ""
	limited, cancel := context.WithTimeout(ctx, chapterLimit)
	defer cancel()
	err := process.Await(limited, func(ctx context.Context) (bool, error) {
		m, err := w.look(ctx)
		if err != nil && ctx.Err() == nil {
			return false, err
		}
		if err == nil {
			missing = m
		}
		return missing == "" && err == nil, nil
	})
	switch {
	case err == nil:
		return d.console.since(), nil
	case ctx.Err() != nil: // interrupted, or a process died
		return 0, context.Cause(ctx)
	case limited.Err() != nil:
		return 0, fmt.Errorf("after %s still missing: %s%s", progress.Seconds(chapterLimit),
			missing, d.lastWarning(ctx))
	default:
		return 0, err
	}
}

// lastWarning returns the newest warning event of the cluster, for the cause of a failure.
func (d *demo) lastWarning(ctx context.Context) string {
	events, err := d.cluster.Client.CoreV1().Events("").List(ctx, metav1.ListOptions{
		FieldSelector: "type=" + corev1.EventTypeWarning,
	})
	if err != nil || len(events.Items) == 0 {
		return ""
	}
	last := slices.MaxFunc(events.Items, func(a, b corev1.Event) int {
		return a.LastTimestamp.Compare(b.LastTimestamp.Time)
	})
	return fmt.Sprintf("; Kubernetes says of %s: %s", last.InvolvedObject.Name, last.Message)
}

// failover lets something happen to the node that carries the address of a Service.
func (d *demo) failover(
	ctx context.Context, services *serviceWatcher, service *corev1.Service,
	happen func(*failoverWatcher, context.Context) error,
) (time.Duration, error) {
	w, err := services.newFailover(ctx, service)
	if err != nil {
		return 0, err
	}
	defer w.watch.Stop()
	return d.chapter(ctx, func(ctx context.Context) error { return happen(w, ctx) }, w)
}

func (d *demo) registerNodes(ctx context.Context) error {
	names := make([]string, 0, len(machines))
	for _, machine := range machines {
		node := objects.Node(machine.Name)
		_, err := d.cluster.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("cannot register the Node %s: %w", machine.Name, err)
		}
		names = append(names, machine.Name)
	}
	d.console.event(kubernetesAPI, "Nodes %s registered", strings.Join(names, ", "))
	d.console.detail("taint", objects.UninitializedTaint)
	return nil
}

// newNodes watches all Nodes become initialized.
func (d *demo) newNodes() watcher { return &nodeWatcher{demo: d, seen: map[string]bool{}} }

type nodeWatcher struct {
	*demo
	seen map[string]bool
}

func (w *nodeWatcher) look(ctx context.Context) (string, error) {
	state, err := w.rack.State(ctx)
	if err != nil {
		return "", err
	}
	var missing []string
	for _, machine := range machines {
		if w.seen[machine.Name] {
			continue
		}
		node, err := w.cluster.Client.CoreV1().Nodes().Get(ctx, machine.Name,
			metav1.GetOptions{})
		if err != nil {
			return "", fmt.Errorf("the Node %s cannot be read: %w", machine.Name, err)
		}
		instance, _ := state.Instance(machine.Name)
		if lack := lacks(node, machine, instance); lack != "" {
			missing = append(missing, lack+" of the Node "+machine.Name)
			continue
		}
		w.seen[machine.Name] = true
		w.tell(node)
	}
	return strings.Join(missing, ", "), nil
}

// lacks names the first thing that a Node does not have yet, compared with its instance.
func lacks(node *corev1.Node, machine rack.Machine, instance rack.Instance) string {
	instanceType := fmt.Sprintf("%d-%d", machine.NCPUs, machine.MemoryGiB)
	switch {
	case node.Spec.ProviderID != "oxide://"+instance.ID:
		return "the provider ID oxide://" + instance.ID
	case node.Labels[corev1.LabelInstanceTypeStable] != instanceType:
		return "the instance type " + instanceType
	case address(node, corev1.NodeInternalIP) != machine.IP:
		return "the InternalIP " + machine.IP
	case machine.Ephemeral && address(node, corev1.NodeExternalIP) == "":
		return "the ExternalIP"
	case len(labels(node)) == 0:
		return "the labels under " + labelPrefix
	case objects.HasTaint(node, objects.UninitializedTaint):
		return "the removal of the taint"
	}
	return ""
}

func (w *nodeWatcher) tell(node *corev1.Node) {
	w.console.event(kubernetesAPI, "Node %s is initialized: its taint is removed", node.Name)
	w.console.detail("provider ID", node.Spec.ProviderID)
	w.console.detail("instance type", node.Labels[corev1.LabelInstanceTypeStable])
	addresses := make([]string, 0, len(node.Status.Addresses))
	for _, a := range node.Status.Addresses {
		addresses = append(addresses, fmt.Sprintf("%s %s", a.Type, a.Address))
	}
	w.console.detail("addresses", strings.Join(addresses, ", "))
	name := "labels"
	for _, label := range labels(node) {
		w.console.detail(name, label)
		name = ""
	}
}

const labelPrefix = "oxide.computer/"

// labels returns the Node's labels that only this project gives, sorted.
func labels(node *corev1.Node) []string {
	var found []string
	for key, value := range node.Labels {
		if strings.HasPrefix(key, labelPrefix) {
			found = append(found, key+"="+value)
		}
	}
	slices.Sort(found)
	return found
}

// address returns the Node's first address of that type.
func address(node *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range node.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return ""
}

// getService returns a Service, nil if it is gone.
func (d *demo) getService(ctx context.Context, of *corev1.Service) (*corev1.Service, error) {
	service, err := d.cluster.Client.CoreV1().Services(of.Namespace).Get(ctx, of.Name,
		metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the Service %s cannot be read: %w", key(of), err)
	}
	return service, nil
}

func key(service *corev1.Service) string { return service.Namespace + "/" + service.Name }
