// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
)

// Planned work moves an address before it hurts: both places are published first, and a reboot after
// that finds nothing on the node.
func TestPlannedWorkLosesNoRequest(t *testing.T) {
	together(t, settings{},
		row{"a node is cordoned, drained and rebooted", "drained", 2, drainedAndRebooted},
		row{"a kubelet says that its machine shuts down", "shutdown", 2, func(p *pool) {
			s := p.place("", objects.TCP(80))
			j := p.journal(s.key)
			p.readySince(s.node, corev1.ConditionFalse, "node is shutting down", 0)
			s.led(j, lead, 2*time.Second)
		}},
		row{"a node is taken out of service", "outofservice", 2, func(p *pool) {
			s := p.place("", objects.TCP(80))
			j := p.journal(s.key)
			p.patchNode(s.node, map[string]any{"spec": map[string]any{"taints": []any{map[string]any{
				"key": corev1.TaintNodeOutOfService, "value": "nodeshutdown", "effect": "NoExecute",
			}}}})
			s.led(j, lead, 2*time.Second)
		}},
	)
}

// Whatever another machine's clock says, a Node that is not ready is left after 20 s, and not before.
func TestAClockOfAnotherMachineDecidesNothing(t *testing.T) {
	for name, skew := range map[string]time.Duration{"past": -time.Hour, "future": time.Hour} {
		t.Run(name, func(t *testing.T) {
			together(t, settings{}, row{"a node is not ready since an hour ago or ahead", "clock", 2, func(p *pool) {
				s := p.place("", objects.TCP(80))
				began := time.Now()
				p.readySince(s.node, corev1.ConditionFalse, "kubelet is not ready", skew)
				s.moved()
				for _, q := range s.changes() {
					wait := q.Began.Sub(began)
					if q.Operation == "floating_ip_detach" && (wait < 19*time.Second || wait > 23*time.Second) {
						p.Errorf("the address was detached %s after the Node became not ready", wait)
					}
				}
			}})
		})
	}
}

// Racks up to v20.2 list an instance as destroyed for a moment while it stops.
func TestAnInstanceListedAsDestroyedLosesNeitherNodeNorAddress(t *testing.T) {
	together(t, settings{}, row{"an instance stops", "destroyed", 2, func(p *pool) {
		s := p.place("", objects.TCP(80))
		uid := p.node(s.node).UID
		p.must(p.rack.ShowDestroyed(p.Context()))
		p.must(p.rack.SetRunState(p.Context(), s.node, "destroyed"))
		p.readySince(s.node, corev1.ConditionUnknown, "kubelet stopped posting status", 0)
		time.Sleep(15 * time.Second) // the framework asks every 5 s whether it exists
		if changes := s.changes(); len(changes) != 1 {
			p.Errorf("while it is only listed as destroyed: %+v", changes)
		}
		p.must(p.rack.SetRunState(p.Context(), s.node, "stopped"))
		s.moved()
		if node := p.node(s.node); node.UID != uid || !node.DeletionTimestamp.IsZero() {
			p.Errorf("the Node was deleted: %+v", node.ObjectMeta)
		}
	}})
}

func drainedAndRebooted(p *pool) {
	s := p.place("", objects.TCP(80))
	j := p.journal(s.key)
	p.patchNode(s.node, map[string]any{"spec": map[string]any{"unschedulable": true}})
	s.led(j, lead, 2*time.Second)
	done := len(s.changes())
	p.must(p.rack.StopInstance(p.Context(), s.node))
	p.must(p.rack.StartInstance(p.Context(), s.node))
	p.patchNode(s.node, map[string]any{"spec": map[string]any{"unschedulable": false}})
	p.settled()
	s.moved()
	if changes := s.changes(); len(changes) != done {
		p.Errorf("the reboot and the end of the cordon changed something: %+v", changes[done:])
	}
}

// patchNode merges something into a Node.
func (p *pool) patchNode(name string, patch map[string]any) {
	p.Helper()
	data, err := json.Marshal(patch)
	p.must(err)
	_, err = p.client.CoreV1().Nodes().Patch(p.Context(), name, types.MergePatchType, data,
		metav1.PatchOptions{})
	p.must(err)
}

// readySince sets the Ready condition of a Node as a machine does whose clock is wrong by skew.
func (p *pool) readySince(
	name string, status corev1.ConditionStatus, message string, skew time.Duration,
) {
	p.Helper()
	at := metav1.NewTime(time.Now().Add(skew))
	data, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []any{
		corev1.NodeCondition{
			Type: corev1.NodeReady, Status: status, Reason: "KubeletNotReady", Message: message,
			LastHeartbeatTime: at, LastTransitionTime: at,
		},
	}}})
	p.must(err)
	_, err = p.client.CoreV1().Nodes().Patch(p.Context(), name, types.StrategicMergePatchType, data,
		metav1.PatchOptions{}, "status")
	p.must(err)
}
