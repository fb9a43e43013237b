// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// What killing and delaying the programs has found. Each of these was a fault.

// TestAServiceOnItsWayGivesWayToOneThatStays: a Service that is on its way to a node is edited to a
// port that another one serves there.
func TestAServiceOnItsWayGivesWayToOneThatStays(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a")
	e.create("stays", objects.TCP(8080))
	address := e.served("stays")
	e.must(e.rack.AddFault(t.Context(), rack.Fault{
		Operation: "floating_ip_attach", Times: 1, LatencyMS: 2000,
	}))
	e.create("comes", objects.TCP(80))
	e.eventually(func(context.Context) (string, error) {
		if len(e.service("comes").Status.LoadBalancer.Ingress) == 0 {
			return "the publication of the one that comes", nil
		}
		return "", nil
	})
	before := e.mutations()["floating_ip_detach"]
	e.patch("comes", map[string]any{"spec": map[string]any{"ports": []corev1.ServicePort{
		objects.TCP(8080),
	}}})
	e.eventually(func(context.Context) (string, error) {
		if n := len(e.service("comes").Status.LoadBalancer.Ingress); n > 0 {
			return "the empty status of the one that comes", nil
		}
		return "", nil
	})
	e.reserved("comes")
	e.warned("comes", portConflict, "TCP 8080 is held by default/stays")
	e.servedBy("stays", address)
	if n := e.mutations()["floating_ip_detach"] - before; n > 1 {
		t.Errorf("%d addresses were detached, want the one that came alone", n)
	}
}

// TestAStatusOverwrittenJustBeforeAFailoverDelaysNothing holds it with a slow Oxide, and for a
// foreign write in the middle of a repair as well.
func TestAStatusOverwrittenJustBeforeAFailoverDelaysNothing(t *testing.T) {
	e := newEnvironment(t, settings{machines: machines(3)})
	e.join("node-a", "node-b", "node-c")
	e.must(e.rack.AddFault(t.Context(), rack.Fault{Operation: "floating_ip_*", LatencyMS: 300}))
	e.create("web", objects.TCP(80))
	address := e.served("web")
	node := e.nodeOf(address)
	began := time.Now()
	for range 3 {
		e.writeStatus("web", corev1.ServiceStatus{})
	}
	e.ready(corev1.ConditionUnknown, node)
	e.eventuallyWithin(15*time.Second, func(ctx context.Context) (string, error) {
		got, missing, err := e.truth(ctx, "web")
		if missing == "" && (got != address || e.nodeOf(address) == node) {
			missing = "the move of " + address
		}
		return missing, err
	})
	t.Logf("served elsewhere after %s", time.Since(began))
}

// TestWhatIsHandedOverIsTheUsers: a Service names its own address as the user's, and stops naming
// it.
func TestWhatIsHandedOverIsTheUsers(t *testing.T) {
	for name, between := range map[string]func(e *environment){
		"without a restart":         func(*environment) {},
		"the backend was restarted": func(e *environment) { e.must(e.ccm.Backend.Stop(limit)); e.must(e.ccm.StartBackend(e.Context())) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnvironment(t, settings{})
			e.join("node-a", "node-b")
			e.create("web", objects.TCP(80))
			address := e.served("web")
			ip, _ := e.state().FloatingIP(address)
			e.annotate("web", "existing-floating-ip", ip.Name)
			e.eventually(func(context.Context) (string, error) {
				now, _ := e.state().FloatingIP(address)
				if strings.Contains(now.Description, "oxide-ccm/") {
					return "the handing over of " + address, nil
				}
				return "", nil
			})
			e.servedBy("web", address)
			between(e)
			e.annotate("web", "existing-floating-ip", "")
			own := ""
			e.eventually(func(ctx context.Context) (missing string, err error) {
				if own, missing, err = e.truth(ctx, "web"); own == address {
					missing = "an address of its own"
				}
				return missing, err
			})
			e.remove("web")
			e.gone(own)
			now, found := e.state().FloatingIP(address)
			if !found || strings.Contains(now.Description, "oxide-ccm/") {
				t.Errorf("the user's address became %+v", now)
			}
		})
	}
}

// TestANodeThatGoesDuringTheFirstAttachmentKeepsNoAddress: both programs die in the first
// attachment, and the Node is deleted meanwhile.
func TestANodeThatGoesDuringTheFirstAttachmentKeepsNoAddress(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a")
	e.must(e.rack.AddFault(t.Context(), rack.Fault{
		Operation: "floating_ip_attach", Times: 1, LatencyMS: 1000,
	}))
	e.create("web", objects.TCP(80))
	e.eventually(func(context.Context) (string, error) {
		log, err := e.rack.Log()
		if len(e.service("web").Status.LoadBalancer.Ingress) == 0 || err != nil {
			return "the publication", err
		}
		_ = log
		return "", nil
	})
	e.ccm.Shim.Kill()
	e.ccm.Backend.Kill()
	e.must(e.client.CoreV1().Nodes().Delete(t.Context(), "node-a", metav1.DeleteOptions{}))
	e.writeStatus("web", corev1.ServiceStatus{}) // as if nobody had published it yet
	e.eventually(func(context.Context) (string, error) {
		for _, ip := range e.state().FloatingIPs {
			if ip.AttachState == rack.Attached {
				return "", nil
			}
		}
		return "the attachment that nobody waits for", nil
	})
	e.must(e.ccm.StartBackend(t.Context()))
	e.must(e.ccm.StartShim(t.Context()))
	e.join("node-b")
	address := e.served("web")
	if node := e.nodeOf(address); node != "node-b" {
		t.Errorf("the address is on %s", node)
	}
	e.remove("web")
	e.gone(address)
}

// TestAUsersAddressThatIsLeftAttachedIsNamed: a Service becomes another one while nobody runs, and
// nothing proves any more that the user's address may be detached.
func TestAUsersAddressThatIsLeftAttachedIsNamed(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.must(e.rack.AddAddresses(t.Context(), rack.Address{
		Name: "mine", Description: "paid for by team x", IP: "198.51.100.200",
	}))
	e.join("node-a")
	e.createWith("web", "existing-floating-ip", "mine", objects.TCP(80))
	e.servedBy("web", "198.51.100.200")
	e.must(e.ccm.Stop())
	patch, err := json.Marshal(map[string]any{
		"spec":     map[string]any{"type": "ClusterIP"},
		"metadata": map[string]any{"annotations": map[string]any{prefix + "existing-floating-ip": nil}},
	})
	e.must(err)
	_, err = e.client.CoreV1().Services("default").Patch(t.Context(), "web", types.MergePatchType, patch,
		metav1.PatchOptions{})
	e.must(err)
	e.must(e.ccm.StartBackend(t.Context()))
	e.must(e.ccm.StartShim(t.Context()))
	e.warned("web", "AddressLeftAttached", "198.51.100.200", "node-a")
	e.eventually(func(context.Context) (string, error) {
		if len(e.service("web").Finalizers) != 0 {
			return "the end of the finalizer", nil
		}
		return "", nil
	})
	if ip, _ := e.state().FloatingIP("198.51.100.200"); ip.AttachState != rack.Attached {
		t.Errorf("the user's address became %+v", ip)
	}
}

// TestAnEmptyListOfAddressesMakesNoFloodOfChanges: what Oxide says there is nothing of is neither
// made again and again nor withdrawn.
func TestAnEmptyListOfAddressesMakesNoFloodOfChanges(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80))
	address := e.served("web")
	before, status := e.mutations(), e.service("web").Status.LoadBalancer
	e.must(e.rack.AddFault(t.Context(), rack.Fault{
		Operation: "floating_ip_list", Status: http.StatusOK, ContentType: "application/json",
		Body: `{"items": [], "next_page": null}`,
	}))
	e.create("new", objects.TCP(81))
	e.eventually(func(context.Context) (string, error) {
		if e.mutations()["floating_ip_create"] == before["floating_ip_create"] {
			return "the creation of an address", nil
		}
		return "", nil
	})
	// A flood was 888 changes a minute, and cannot be awaited where there is none.
	select {
	case <-time.After(15 * time.Second):
	case <-t.Context().Done():
	}
	changes := 0
	for operation, n := range e.mutations() {
		changes += n - before[operation]
	}
	if changes > 4 {
		t.Errorf("%d changes: %v before, %v after", changes, before, e.mutations())
	}
	if diff := cmp.Diff(status, e.service("web").Status.LoadBalancer); diff != "" {
		t.Errorf("the status changed (-before +after):\n%s", diff)
	}
	e.must(e.rack.ClearFaults(t.Context()))
	e.servedBy("web", address)
	e.served("new")
}

// TestARebalanceOutlivesTheBackend: it is part of the session, which sends it again.
func TestARebalanceOutlivesTheBackend(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a")
	const services = 4
	for i := range services {
		e.create(fmt.Sprintf("web-%d", i), objects.TCP(int32(8000+i)))
		e.served(fmt.Sprintf("web-%d", i))
	}
	e.join("node-b")
	// No address leaves before the backend is killed.
	e.must(e.rack.AddFault(t.Context(), rack.Fault{
		Operation: "floating_ip_detach", Status: 503, ErrorCode: "ServiceNotAvailable",
	}))
	e.rebalance()
	e.ccm.Backend.Kill()
	e.must(e.rack.ClearFaults(t.Context()))
	e.must(e.ccm.StartBackend(t.Context()))
	e.eventuallyWithin(90*time.Second, func(context.Context) (string, error) {
		on := map[string]int{}
		for _, ip := range e.state().FloatingIPs {
			on[ip.Instance]++
		}
		if on["node-a"] != services/2 || on["node-b"] != services/2 {
			return fmt.Sprintf("an even spread, got %v", on), nil
		}
		return "", nil
	})
	for i := range services {
		e.served(fmt.Sprintf("web-%d", i))
	}
}

// rebalance asks the backend for an even spread, as an operator does.
func (e *environment) rebalance() {
	e.Helper()
	system, err := e.client.CoreV1().Namespaces().Get(e.Context(), metav1.NamespaceSystem,
		metav1.GetOptions{})
	e.must(err)
	root, err := stack.Root()
	e.must(err)
	grpcurl := exec.CommandContext(e.Context(), "go", "tool", "-modfile=tools/go.mod", "grpcurl",
		"-plaintext", "-unix", "-d", fmt.Sprintf(`{"scope": %q}`, system.UID),
		strings.TrimPrefix(e.ccm.Socket, "unix://"),
		"oxide.backend.v1.LoadBalancerService/RebalanceLoadBalancers")
	grpcurl.Dir = root
	grpcurl.Env = append(grpcurl.Environ(), "GOWORK=off")
	answer, err := grpcurl.CombinedOutput()
	if err != nil || !strings.Contains(string(answer), "ACTION_TYPE_ATTACH") {
		e.Fatalf("%v: %s", err, answer)
	}
}
