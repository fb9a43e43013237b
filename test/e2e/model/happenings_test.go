// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// Operations on nodes, on the rack, and on the programs.

func nodeKinds() []kind {
	anyNode := func(*node) bool { return true }
	return []kind{
		{14, chooseJoin},
		{4, ofNode(func(n *node) bool { return n.ready != corev1.ConditionFalse }, "Ready=False",
			becomes(corev1.ConditionFalse))},
		{5, ofNode(func(n *node) bool { return n.ready != corev1.ConditionUnknown }, "Ready=Unknown",
			becomes(corev1.ConditionUnknown))},
		{14, ofNode(func(n *node) bool { return n.ready != corev1.ConditionTrue }, "Ready=True",
			becomes(corev1.ConditionTrue))},
		{5, ofNode(func(n *node) bool { return n.run == running }, "stop the instance",
			func(ctx context.Context, w *world, n *node) error {
				n.run = stopped
				return w.repeat(func() error { return w.rack.StopInstance(ctx, n.name) })
			})},
		{3, ofNode(func(n *node) bool { return n.run == running }, "fail the instance",
			func(ctx context.Context, w *world, n *node) error {
				n.run = failed
				return w.people.story(ctx, "set-run-state",
					map[string]string{"instance": n.name, "state": failed})
			})},
		{13, ofNode(func(n *node) bool { return n.run != running }, "start the instance",
			func(ctx context.Context, w *world, n *node) error {
				n.run = running
				return w.repeat(func() error { return w.rack.StartInstance(ctx, n.name) })
			})},
		{3, ofNode(func(n *node) bool { return !n.excluded }, "exclude", excludes(true))},
		{7, ofNode(func(n *node) bool { return n.excluded }, "include", excludes(false))},
		{2, ofNode(func(n *node) bool { return n.run == running }, "lose the sled", loseSled)},
		{5, ofNode(anyNode, recoverSled, func(ctx context.Context, w *world, n *node) error {
			n.lost = false
			err := w.people.story(ctx, "recover-sled", map[string]string{"sled": "instance:" + n.name})
			if err != nil {
				return err
			}
			return becomes(corev1.ConditionTrue)(ctx, w, n)
		})},
		{2, ofNode(anyNode, "delete the Node, then the instance", leaveInOrder)},
		{2, ofNode(anyNode, "remove the instance", leaveAtOnce)},
	}
}

const recoverSled = "recover the sled"

// loseSled makes the sled of an instance silent, and so its kubelet. Oxide shows the instance running.
func loseSled(ctx context.Context, w *world, n *node) error {
	n.lost = true
	err := w.people.story(ctx, "lose-sled", map[string]string{"sled": "instance:" + n.name})
	if err != nil {
		return err
	}
	return becomes(corev1.ConditionUnknown)(ctx, w, n)
}

// ofNode makes operations on one of the nodes that are so.
func ofNode(
	are func(*node) bool, verb string, run func(context.Context, *world, *node) error,
) func(*world) (operation, bool) {
	return func(w *world) (operation, bool) {
		name, ok := w.pick(w.nodesThat(func(n *node) bool {
			return are(n) && n.lost == (verb == recoverSled)
		}))
		if !ok {
			return operation{}, false
		}
		// The last Node is not removed by itself: there would be no other instance to see.
		leaves := strings.Contains(verb, "instance") && (strings.HasPrefix(verb, "delete") ||
			strings.HasPrefix(verb, "remove"))
		if leaves && len(w.nodesThat(func(*node) bool { return true })) < 3 {
			return operation{}, false
		}
		n := w.nodes[name]
		return operation{verb + " of " + name, func(ctx context.Context, _ snapshot, _ *step) error {
			w.hardwareAt = time.Now()
			return run(ctx, w, n)
		}}, true
	}
}

func becomes(status corev1.ConditionStatus) func(context.Context, *world, *node) error {
	return func(ctx context.Context, w *world, n *node) error {
		n.ready = status
		return objects.SetReady(ctx, w.cluster.Client, n.name, status)
	}
}

func excludes(excluded bool) func(context.Context, *world, *node) error {
	return func(ctx context.Context, w *world, n *node) error {
		n.excluded = excluded
		value := "null"
		if excluded {
			value = `""`
		}
		_, err := w.cluster.Client.CoreV1().Nodes().Patch(ctx, n.name, types.MergePatchType,
			fmt.Appendf(nil, `{"metadata":{"labels":{"%s":%s}}}`, corev1.LabelNodeExcludeBalancers,
				value), metav1.PatchOptions{})
		return err
	}
}

// leaveInOrder is how an administrator takes a node away.
func leaveInOrder(ctx context.Context, w *world, n *node) error {
	n.removed = true
	err := w.cluster.Client.CoreV1().Nodes().Delete(ctx, n.name, metav1.DeleteOptions{})
	if err := ignoreGone(err); err != nil {
		return err
	}
	return w.people.story(ctx, "remove-instance", map[string]string{"instance": n.name})
}

// leaveAtOnce is how a node goes whose instance is deleted: the shim removes its Node.
func leaveAtOnce(ctx context.Context, w *world, n *node) error {
	n.removed = true
	err := w.people.story(ctx, "remove-instance", map[string]string{"instance": n.name})
	if err != nil {
		return err
	}
	return ignoreGone(objects.SetReady(ctx, w.cluster.Client, n.name, corev1.ConditionUnknown))
}

func chooseJoin(w *world) (operation, bool) {
	var free []string
	for i := range nodeCount {
		name := fmt.Sprintf("node-%d", i)
		if n := w.nodes[name]; n == nil || n.removed {
			free = append(free, name)
		}
	}
	name, ok := w.pick(free)
	if !ok {
		return operation{}, false
	}
	m := machine(name)
	families := []string{"IPv4", "IPv6", "both", "both"}[w.random.IntN(4)]
	m.DualStack, m.IPv6Only = families == "both", families == "IPv6"
	text := fmt.Sprintf("join %s with %s", name, families)
	return operation{text, func(ctx context.Context, _ snapshot, _ *step) error {
		if err := w.rack.AddMachines(ctx, m); err != nil {
			return err
		}
		object, err := w.cluster.Client.CoreV1().Nodes().Create(ctx, objects.Node(name),
			metav1.CreateOptions{})
		if err != nil {
			return err
		}
		w.nodes[name] = &node{
			name: name, uid: object.UID, present: true, ready: corev1.ConditionTrue, run: running,
		}
		return nil
	}}, true
}

// repeat does something again as long as the rack fails.
func (w *world) repeat(do func() error) (err error) {
	for range attempts {
		if err = do(); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

func programKinds() []kind {
	return []kind{
		{3, ofPrograms("kill the backend", func(ctx context.Context, w *world) error {
			w.ccm.Backend.Kill()
			return w.ccm.StartBackend(ctx)
		})},
		{2, ofPrograms("kill the shim", func(ctx context.Context, w *world) error {
			w.ccm.Shim.Kill()
			w.forgetCordons()
			return w.ccm.StartShim(ctx)
		})},
		{1, ofPrograms("kill both programs", func(ctx context.Context, w *world) error {
			w.ccm.Shim.Kill()
			w.ccm.Backend.Kill()
			w.forgetCordons()
			if err := w.ccm.StartBackend(ctx); err != nil {
				return err
			}
			return w.ccm.StartShim(ctx)
		})},
		{2, ofRack("restart Nexus", "restart-nexus")},
		{1, ofRack("restart Nexus in the middle of the next attach or detach",
			"restart-nexus-during-next-transition")},
		{2, ofPrograms("a second leader comes or goes", secondLeader)},
	}
}

// noticedAfter is when the programs know of a change of an instance at the latest, unless requests fail
// very often: they list instances every four seconds.
const noticedAfter = 6 * time.Second

func ofPrograms(
	text string, run func(context.Context, *world) error,
) func(*world) (operation, bool) {
	return func(w *world) (operation, bool) {
		return operation{text, func(ctx context.Context, _ snapshot, st *step) error {
			// What programs do not know yet they may learn while they are away.
			select {
			case <-ctx.Done():
			case <-time.After(time.Until(w.hardwareAt.Add(noticedAfter))):
			}
			if err := w.awaitRest(ctx); err != nil {
				return err
			}
			before, missing, err := w.settle(ctx)
			if err != nil || len(missing) > 0 {
				return errors.Join(err, fmt.Errorf("before the restart: %v", missing))
			}
			st.before, st.restart = before, true
			return run(ctx, w)
		}}, true
	}
}

// ofRack makes operations on the control plane of the rack.
func ofRack(text, story string) func(*world) (operation, bool) {
	return func(w *world) (operation, bool) {
		return operation{text, func(ctx context.Context, _ snapshot, _ *step) error {
			return w.people.story(ctx, story, nil)
		}}, true
	}
}

// secondLeader lets another replica lead, too, with a backend of its own, or kills it.
func secondLeader(ctx context.Context, w *world) (err error) {
	if w.second != nil {
		w.second.Shim.Kill()
		w.second.Backend.Kill()
		w.second, w.rivals = nil, false
		return nil
	}
	dir := filepath.Join(w.dir, "second")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	w.rivals = true
	w.second, err = stack.StartCCM(ctx, w.ccmOptions("-second", dir, "--leader-elect=false"))
	return err
}
