// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// Invariants 2 and 6: whatever becomes of an answer, a Service has one address at the end.
func TestSpoiltAnswersMakeNoSecondAddress(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	for name, fault := range map[string]rack.Fault{
		"create-lost":  {Operation: "floating_ip_create", Reset: true, Execute: true},
		"create-error": {Operation: "floating_ip_create", Status: http.StatusInternalServerError},
		"attach-lost":  {Operation: "floating_ip_attach", Reset: true, Execute: true},
		"attach-busy": {
			Operation: "floating_ip_attach", Status: http.StatusServiceUnavailable,
			ErrorCode: "ServiceNotAvailable",
		},
		"list-busy": {
			Operation: "floating_ip_list", Status: http.StatusServiceUnavailable,
			ErrorCode: "ServiceNotAvailable",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := e.within(t)
			fault.Times = 1
			e.must(e.rack.AddFault(t.Context(), fault))
			e.create(name, objects.TCP(80))
			address := e.served(name)
			if ips := e.state().FloatingIPs; len(ips) != 1 {
				t.Errorf("the Service has %s, and the rack has %+v", address, ips)
			}
			e.remove(name)
			if ips := e.state().FloatingIPs; len(ips) != 0 {
				t.Errorf("the Service is gone, and the rack has %+v", ips)
			}
			e.must(e.rack.ClearFaults(t.Context()))
		})
	}
}

// Invariant 2: an address whose end was not seen is given back in the end, and the Service waits.
func TestASpoiltRemovalIsTriedAgain(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a")
	for name, fault := range map[string]rack.Fault{
		"detach-busy": {
			Operation: "floating_ip_detach", Status: http.StatusServiceUnavailable,
			ErrorCode: "ServiceNotAvailable",
		},
		"detach-lost": {Operation: "floating_ip_detach", Reset: true, Execute: true},
		"delete-lost": {Operation: "floating_ip_delete", Reset: true, Execute: true},
	} {
		t.Run(name, func(t *testing.T) {
			e := e.within(t)
			e.create(name, objects.TCP(80))
			e.served(name)
			fault.Times = 1
			e.must(e.rack.AddFault(t.Context(), fault))
			e.remove(name)
			if ips := e.state().FloatingIPs; len(ips) != 0 {
				t.Errorf("the Service is gone, and the rack has %+v", ips)
			}
			e.must(e.rack.ClearFaults(t.Context()))
		})
	}
}

// Invariant 1 again, and "what may heal leaves the backend running": a rack that is away for a
// while changes nothing, and everything goes on when it is back.
func TestARackThatIsAwayChangesNothing(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{quickMonitor}})
	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80))
	e.served("web")
	before := e.state()
	e.must(e.rack.AddFault(t.Context(), rack.Fault{Reset: true, Operation: "*"}))
	e.ready(corev1.ConditionUnknown, "node-a", "node-b")
	e.awaitEvent("node-a", "NodeKept", "Oxide")
	e.monitored("node-a", 3)
	e.monitored("node-b", 3)
	e.must(e.ccm.Backend.Err())
	e.must(e.rack.ClearFaults(t.Context()))
	if diff := cmp.Diff(before, e.state()); diff != "" {
		t.Errorf("the rack (-before +after):\n%s", diff)
	}

	e.eventually(func(ctx context.Context) (string, error) {
		if err := e.ccm.BackendReady(ctx); err != nil {
			return "the backend's own word that it is ready: " + err.Error(), nil
		}
		return "", nil
	})
	e.ready(corev1.ConditionTrue, "node-a", "node-b")
	e.create("later", objects.TCP(81))
	e.served("later")
	e.served("web")
	e.nodesExist("node-a", "node-b")
}

// The address of a Service is none of the Node that carries it for now.
func TestAServicesAddressIsNoneOfItsNode(t *testing.T) {
	const period = time.Second
	e := newEnvironment(t, settings{shimFlags: []string{
		"--node-status-update-frequency=" + period.String(),
	}})
	e.join("node-b")
	e.create("web", objects.TCP(80))
	address := e.served("web")
	// The Node's addresses are synchronized several times.
	e.synchronized(3)
	node, err := e.client.CoreV1().Nodes().Get(t.Context(), "node-b", metav1.GetOptions{})
	e.must(err)
	for _, a := range node.Status.Addresses {
		if a.Address == address {
			t.Errorf("the Node has the address of the Service: %v", node.Status.Addresses)
		}
	}
}

// within returns the same world for a subtest.
func (e *environment) within(t *testing.T) *environment {
	inner := *e
	inner.T = t
	return &inner
}
