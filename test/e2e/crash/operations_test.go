// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package crash

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// operation is something that people want, or that happens to a Node.
type operation struct {
	name string
	// prepare makes what is there before, a Service of that name in most cases.
	prepare func(w *world, name string)
	// act begins it, and says what has to be from then on. Its error counts only while nothing is killed.
	act func(w *world, name string) error
	// check says what else is missing in the end; nil: nothing.
	check func(w *world, name string) (string, error)
	// unseen: a shim that starts afterwards has not seen it happen, and may leave everything where it is.
	unseen bool
	// undo makes Nodes fit again; nil: they are.
	undo func(w *world)
}

// port is the one of each Service, opened the one that it is changed to.
const port, opened = 80, 443

// acts makes what cannot fail an act of an operation.
func acts(do func(*world, string)) func(*world, string) error {
	return func(w *world, name string) error {
		do(w, name)
		return nil
	}
}

var operations = []*operation{
	{name: "create", prepare: nothing, act: acts(func(w *world, name string) {
		w.create(w.add(name, work, []kind{floating4}, port))
	})},
	{name: "create-dual-stack", prepare: nothing, act: acts(func(w *world, name string) {
		w.create(w.add(name, work, []kind{floating4, floating6}, port))
	})},
	{name: "move-off-silent-kubelet", prepare: single, act: func(w *world, name string) error {
		from := w.leaves(name)
		return objects.SetReady(w.Context(), w.cluster.Client, from, corev1.ConditionUnknown)
	}, undo: func(w *world) {
		for name := range w.unfit {
			w.must(objects.SetReady(w.Context(), w.cluster.Client, name, corev1.ConditionTrue))
		}
	}},
	{name: "move-off-stopped-instance", prepare: single, act: func(w *world, name string) error {
		return w.rack.StopInstance(w.Context(), w.leaves(name))
	}, undo: (*world).startInstances},
	{name: "change-source", prepare: single, act: acts(func(w *world, name string) {
		w.services[name].pinned, w.services[name].kinds = nil, []kind{subnet4}
		w.annotate(name, "address-source", "external-subnet")
	})},
	{name: "change-source-back", prepare: routed, act: acts(func(w *world, name string) {
		w.services[name].pinned, w.services[name].kinds = nil, []kind{floating4}
		w.annotate(name, "address-source", nil)
	})},
	{name: "add-family", prepare: single, act: acts(func(w *world, name string) {
		w.services[name].kinds = []kind{floating4, floating6}
		w.patch(name, map[string]any{"spec": map[string]any{
			"ipFamilyPolicy": corev1.IPFamilyPolicyRequireDualStack, "ipFamilies": []string{"IPv4", "IPv6"},
		}})
	})},
	{name: "drop-family", prepare: dualStack, act: acts(func(w *world, name string) {
		delete(w.services[name].pinned, floating6)
		w.services[name].kinds = []kind{floating4}
		w.patch(name, map[string]any{"spec": map[string]any{
			"ipFamilyPolicy": corev1.IPFamilyPolicySingleStack, "ipFamilies": []string{"IPv4"},
		}})
	})},
	{name: "take-over", prepare: legacy, act: func(w *world, _ string) error {
		return w.pair.StartShim(w.Context())
	}},
	{name: "retain", prepare: retained, act: acts(func(w *world, name string) {
		w.kept[w.services[name].pinned[floating4].ID] = true
		w.remove(name)
	})},
	{name: "reclaim", prepare: reclaimable, act: acts(func(w *world, name string) {
		clear(w.kept)
		w.create(w.services[name])
	})},
	{name: "delete", prepare: single, act: acts((*world).remove)},
	{name: "drain", unseen: true, prepare: single, act: acts(func(w *world, name string) {
		w.patchNode(w.leaves(name), map[string]any{"spec": map[string]any{"unschedulable": true}})
	}), undo: func(w *world) {
		for name := range w.unfit {
			w.patchNode(name, map[string]any{"spec": map[string]any{"unschedulable": nil}})
		}
	}},
	{name: "rebalance", prepare: uneven, act: func(w *world, _ string) error {
		_, err := w.rebalance(w.Context(), "--yes")
		return err
	}, check: even},
	{name: "change-ports", prepare: single, act: acts(func(w *world, name string) {
		d := w.services[name]
		d.ports, d.closed = []int32{opened}, []int32{port}
		w.patch(name, map[string]any{"spec": map[string]any{"ports": ports(d.ports)}})
	})},
}

func nothing(*world, string) {}

// settled waits for a Service that has just been created, and pins its addresses.
func (w *world) settled(d *desired) {
	w.Helper()
	w.create(d)
	w.settle()
	w.pin(d.name)
}

func single(w *world, name string) { w.settled(w.add(name, work, []kind{floating4}, port)) }

func dualStack(w *world, name string) {
	w.settled(w.add(name, work, []kind{floating4, floating6}, port))
}

func routed(w *world, name string) {
	d := w.add(name, work, []kind{subnet4}, port)
	d.annotations = map[string]string{"address-source": "external-subnet"}
	w.settled(d)
}

func retained(w *world, name string) {
	d := w.add(name, work, []kind{floating4}, port)
	d.annotations = map[string]string{"retain-address": "true"}
	w.settled(d)
}

// reclaimable leaves a retained address of a Service that is to be created again.
func reclaimable(w *world, name string) {
	retained(w, name)
	d := w.services[name]
	w.kept[d.pinned[floating4].ID] = true
	w.remove(name)
	w.settle()
	w.services[name], d.annotations = d, nil
	delete(w.gone, name)
}

// legacy makes a Service as the existing Oxide CCM leaves it, while no shim runs.
func legacy(w *world, name string) {
	w.kill(w.pair, shim)
	const text, address, at = "Managed by oxide-cloud-controller-manager.", "198.51.100.200", "node-b"
	ip := rack.Address{
		Name: "kubernetes-" + namespace + "-" + name, Description: text, IP: address, Instance: at,
	}
	w.must(w.rack.AddAddresses(w.Context(), ip))
	now, err := w.rack.State(w.Context())
	w.must(err)
	left, _ := now.At(address)
	d := w.add(name, work, []kind{floating4}, port)
	d.text, d.pinned, d.finalizers = text, map[kind]rack.Carried{floating4: left}, []string{finalizer}
	w.create(d)
	w.must(objects.Change(w.Context(), name, w.serviceClient().Get, w.serviceClient().UpdateStatus,
		func(service *corev1.Service) {
			service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
		}))
}

// leaves returns the Node that carries a Service, on which nothing may be from now on.
func (w *world) leaves(name string) string {
	w.Helper()
	from := w.carrier(name)
	w.unfit[from] = true
	return from
}

// startInstances starts those that were stopped, and waits until their Nodes are known to be up.
func (w *world) startInstances() {
	w.Helper()
	for name := range w.unfit {
		w.must(w.rack.StartInstance(w.Context(), name))
		w.await(settleLimit, func(ctx context.Context) (string, error) {
			node, err := w.nodes().Get(ctx, name, metav1.GetOptions{})
			if err == nil && objects.HasTaint(node, "node.cloudprovider.kubernetes.io/shutdown") {
				return "the end of the taint of " + name, nil
			}
			return "", err
		})
	}
}

// uneven puts two Services on one Node, and only then lets others carry any.
func uneven(w *world, name string) {
	exclude := func(label any) {
		for _, node := range []string{"node-b", "node-c"} {
			w.patchNode(node, map[string]any{"metadata": map[string]any{
				"labels": map[string]any{corev1.LabelNodeExcludeBalancers: label},
			}})
		}
	}
	exclude("")
	w.unfit["node-b"], w.unfit["node-c"] = true, true
	single(w, name)
	w.settled(w.add(name+"-2", work, []kind{floating4}, opened))
	exclude(nil)
	clear(w.unfit)
	w.await(settleLimit, func(ctx context.Context) (string, error) {
		text, err := w.rebalance(ctx, "--dry-run")
		if err == nil && !strings.Contains(text, "/"+name) {
			return "that a move of " + name + " would be made: " + text, nil
		}
		return "", err
	})
}

// rebalance asks for an even spread, as an operator does.
func (w *world) rebalance(ctx context.Context, flag string) (string, error) {
	w.Helper()
	text, err := exec.CommandContext(ctx, w.programs.Backend, "rebalance", flag,
		"--socket="+w.pair.Socket).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("oxide-backend rebalance: %w: %s", err, text)
	}
	return string(text), nil
}

// even asks for an even spread once more if there is none: it was asked for once, and who is gone does
// not go on with what had not begun.
func even(w *world, name string) (string, error) {
	if w.carrier(name) != w.carrier(name+"-2") {
		return "", nil
	}
	// It is refused while there is no session, and asked for again.
	_, err := w.rebalance(w.Context(), "--yes")
	return fmt.Sprint("an even spread; asked again: ", err), nil
}
