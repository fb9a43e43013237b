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
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// Operations on nodes, by people on the rack, and on the programs.

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
	return operation{"join " + name, func(ctx context.Context, _ snapshot, _ *step) error {
		if err := w.rack.AddMachines(ctx, machine(name)); err != nil {
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

func peopleKinds() []kind {
	return []kind{
		{4, byHand("detach", func(ctx context.Context, h hand) error {
			h.st.moved[h.v.name] = true
			return h.takeOff(ctx)
		})},
		{4, byHand("attach elsewhere", func(ctx context.Context, h hand) error {
			return h.elsewhere(ctx, h.random(h.w.nodesThat(func(n *node) bool { return !n.lost })))
		})},
		{4, byHand("describe", func(ctx context.Context, h hand) error {
			return h.describe(ctx, h.lost)
		})},
		{3, byHand("rename", func(ctx context.Context, h hand) error {
			h.a.name, h.a.renamed = h.text, true
			return h.w.people.update(ctx, h.ip.ID, map[string]string{"name": h.text})
		})},
		{3, byHand("delete", func(ctx context.Context, h hand) error {
			h.st.moved[h.v.name] = true
			if err := h.takeOff(ctx); err != nil || h.isStuck(h.s, h.ip) {
				return err
			}
			gone, err := h.w.people.remove(ctx, h.ip.ID)
			if gone {
				h.st.replaced[h.v.name] = true
			}
			return err
		})},
		{2, byHand("attach to a stranger", func(ctx context.Context, h hand) error {
			return h.stray(ctx)
		})},
	}
}

// hand is what somebody does by hand to the address of a Service.
type hand struct {
	w  *world
	v  *service
	a  *address
	ip rack.FloatingIP
	s  snapshot
	st *step
	// What was drawn.
	text   string
	lost   bool
	number int
}

func (h hand) random(names []string) string {
	if len(names) == 0 {
		return outsider
	}
	return names[h.number%len(names)]
}

// byHand makes operations on the address of a Service.
func byHand(
	verb string, run func(context.Context, hand) error,
) func(*world) (operation, bool) {
	return func(w *world) (operation, bool) {
		name, ok := w.pick(w.servicesThat(isOwn))
		if !ok {
			return operation{}, false
		}
		h := hand{
			w: w, v: w.services[name], text: fmt.Sprintf("by-hand-%d", w.random.Uint32()),
			lost: w.random.IntN(2) == 0, number: w.random.IntN(1000),
		}
		text := fmt.Sprintf("%s by hand the address of %s", verb, name)
		return operation{text, func(ctx context.Context, before snapshot, st *step) error {
			ip, ok := w.current(before, h.v)
			if !ok || len(h.v.had) == 0 || h.v.had[0].id != ip.ID {
				return errors.New("the model has lost the address of " + name)
			}
			h.ip, h.s, h.st, h.a = ip, before, st, &h.v.had[0]
			return run(ctx, h)
		}}, true
	}
}

// takeOff detaches the address, unless Oxide does not: nobody waits for that.
func (h hand) takeOff(ctx context.Context) error {
	if h.isStuck(h.s, h.ip) {
		return nil
	}
	return ignoreRefusal(h.w.people.detach(ctx, h.ip.ID))
}

func (h hand) isStuck(s snapshot, ip rack.FloatingIP) bool { return h.w.isStuck(s, ip) }

// elsewhere attaches the address to another node; it may come back before. Who has a port there may
// have to go.
func (h hand) elsewhere(ctx context.Context, to string) error {
	h.st.moved[h.v.name] = true
	for _, other := range h.w.at(h.s, to) {
		if overlap(other.ports, h.v.ports) {
			h.st.moved[other.name] = true
		}
	}
	instance, _ := h.s.rack.Instance(to)
	if err := h.takeOff(ctx); err != nil || h.isStuck(h.s, h.ip) {
		return err
	}
	err := h.w.people.attach(ctx, h.ip.ID, instance.ID)
	if errors.Is(err, errRefused) || err == nil {
		return nil
	}
	return err
}

// describe gives the address another text. The marker may get lost with the old one where the name
// and the status prove whose it is.
func (h hand) describe(ctx context.Context, lost bool) error {
	_, line, _, _ := markerOf(h.ip.Description)
	status := h.s.services[h.v.name].Status.LoadBalancer
	provable := !h.a.renamed && h.ip.AttachState == rack.Attached && h.w.nodes[h.ip.Instance] != nil &&
		h.w.nodes[h.ip.Instance].fit() && len(status.Ingress) > 0 && status.Ingress[0].IP == h.ip.IP &&
		len(h.v.had) == 1 && len(h.v.kept) == 0
	h.a.text = h.text
	description := h.text + "\n" + line
	if lost && provable {
		description = h.text
	}
	return h.w.people.update(ctx, h.ip.ID, map[string]string{"description": description})
}

// stray attaches the address to an instance that is no node, where it is left alone, and takes it off
// again. A Service that has a retained address besides would get that one.
func (h hand) stray(ctx context.Context) error {
	if len(h.v.kept) > 0 {
		return nil
	}
	if err := h.elsewhere(ctx, outsider); err != nil {
		return err
	}
	s, missing, err := h.w.settle(ctx)
	if err != nil || len(missing) > 0 {
		return errors.Join(err, fmt.Errorf("while an address is on a stranger: %v", missing))
	}
	ip, _ := h.w.current(s, h.v)
	if ip.Instance != outsider || ip.ID != h.ip.ID {
		return nil // it was brought back before it was there, or was stuck
	}
	return ignoreRefusal(h.w.people.detach(ctx, h.ip.ID))
}

func ignoreRefusal(err error) error {
	if errors.Is(err, errRefused) {
		return nil
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
			return w.ccm.StartShim(ctx)
		})},
		{1, ofPrograms("kill both programs", func(ctx context.Context, w *world) error {
			w.ccm.Shim.Kill()
			w.ccm.Backend.Kill()
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
		w.second = nil
		return nil
	}
	dir := filepath.Join(w.dir, "second")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	w.second, err = stack.StartCCM(ctx, w.ccmOptions("-second", dir, "--leader-elect=false"))
	return err
}
