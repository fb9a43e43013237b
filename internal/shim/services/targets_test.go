// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/reachability"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// probes find what a test says, and send no packet.
type probes struct {
	mu      sync.Mutex
	targets []reachability.Target
	// set is how often the targets were set.
	set   int
	found map[string]reachability.Observation
}

func (p *probes) SetTargets(targets []reachability.Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.targets, p.set = targets, p.set+1
}

func (p *probes) Observe(node string) reachability.Observation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.found[node]
}

// find has something found of a Node.
func (p *probes) find(node string, found reachability.Observation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = map[string]reachability.Observation{node: found}
}

func (p *probes) now() (targets []reachability.Target, set int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.targets, p.set
}

// at gives a Node its kubelet's port and addresses of a type.
func at(port int32, kind v1.NodeAddressType, addresses ...string) func(*v1.Node) {
	return func(n *v1.Node) {
		n.Status.DaemonEndpoints.KubeletEndpoint.Port = port
		for _, address := range addresses {
			n.Status.Addresses = append(n.Status.Addresses, v1.NodeAddress{Type: kind, Address: address})
		}
	}
}

func TestANodeIsProbedAtItsFirstInternalAddressAndTheKubeletsPort(t *testing.T) {
	internal := v1.NodeInternalIP
	for _, tt := range []struct {
		name   string
		change []func(*v1.Node)
		want   string
	}{
		{"one address", []func(*v1.Node){at(10250, internal, "172.30.0.11")}, "172.30.0.11:10250"},
		{"another port", []func(*v1.Node){at(30250, internal, "172.30.0.11")}, "172.30.0.11:30250"},
		{"both families", []func(*v1.Node){at(10250, internal, "172.30.0.11", "fd00::11")}, "172.30.0.11:10250"},
		{"IPv6 alone", []func(*v1.Node){at(10250, internal, "fd00::11")}, "[fd00::11]:10250"},
		{"IPv4 written as IPv6", []func(*v1.Node){at(10250, internal, "::ffff:172.30.0.11")}, "172.30.0.11:10250"},
		{"other kinds come first", []func(*v1.Node){
			at(10250, v1.NodeHostName, "node-a"), at(10250, v1.NodeExternalIP, "198.51.100.9"),
			at(10250, internal, "172.30.0.11"),
		}, "172.30.0.11:10250"},
		{"no internal address", []func(*v1.Node){at(10250, v1.NodeExternalIP, "198.51.100.9")}, ""},
		{"no address", []func(*v1.Node){at(10250, internal)}, ""},
		{"no kubelet endpoint", []func(*v1.Node){at(0, internal, "172.30.0.11")}, ""},
		{"a port that is none", []func(*v1.Node){at(70000, internal, "172.30.0.11")}, ""},
		{"a port below 0", []func(*v1.Node){at(-1, internal, "172.30.0.11")}, ""},
		{"a name for an address", []func(*v1.Node){at(10250, internal, "node-a")}, ""},
		{"an empty address", []func(*v1.Node){at(10250, internal, "")}, ""},
		{"a malformed one before another", []func(*v1.Node){at(10250, internal, "172.30.0.1111", "172.30.0.11")},
			"172.30.0.11:10250"},
		{"an address of every host", []func(*v1.Node){at(10250, internal, "0.0.0.0", "::")}, ""},
		{"an address of many hosts", []func(*v1.Node){at(10250, internal, "224.0.0.1")}, ""},
		{"an address with a zone", []func(*v1.Node){at(10250, internal, "fe80::1%eth0")}, ""},
		{"one that may carry no address, which says much of the network all the same", []func(*v1.Node){
			at(10250, internal, "172.30.0.11"), labelled(v1.LabelNodeExcludeBalancers, ""),
		}, "172.30.0.11:10250"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			prober := &probes{}
			c := bare(t, node("a", id1, tt.change...), node("stranger", "", at(10250, internal, "172.30.0.99")))
			c.config.Prober, c.pods = prober, cache.NewStore(cache.MetaNamespaceKeyFunc)
			c.track(service(), func(*tracked) {})
			c.syncAll()
			var want []reachability.Target
			if tt.want != "" {
				want = []reachability.Target{{Node: "a", Address: netip.MustParseAddrPort(tt.want)}}
			}
			got, _ := prober.now()
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("targets (-want +got):\n%s", diff)
			}
		})
	}
}

// names are the Nodes that are probed, with a "+" behind those that carry addresses, and a "!" behind
// the one that the prober is on.
func (p *probes) names() (names []string) {
	targets, _ := p.now()
	for _, target := range targets {
		name := target.Node
		if target.Carries {
			name += "+"
		}
		if target.Self {
			name += "!"
		}
		names = append(names, name)
	}
	return names
}

func (e *cluster) probed(p *probes, want ...string) {
	e.Helper()
	e.await("these are probed: "+cmp.Diff(want, p.names()), func() bool {
		return cmp.Equal(want, p.names(), cmpopts.EquateEmpty())
	})
}

func TestNodesAreProbedWhileThereIsALoadBalancer(t *testing.T) {
	prober := &probes{}
	a, b := at(10250, v1.NodeInternalIP, "172.30.0.11"), at(10250, v1.NodeInternalIP, "172.30.0.12")
	e := run(t, Config{Prober: prober, NodeName: "b"}, node("a", id1, a), node("b", id2, b), node("c", id3))
	e.inSync()
	if targets, set := prober.now(); set > 0 {
		t.Errorf("without a Service %v are probed", targets)
	}
	services := e.client.CoreV1().Services("shop")
	if _, err := services.Create(t.Context(), service(finalized), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.probed(prober, "a", "b!")
	// One that gets an address later is probed then.
	nodes := e.client.CoreV1().Nodes()
	c := node("c", id3, at(10250, v1.NodeInternalIP, "172.30.0.13"))
	if _, err := nodes.Update(t.Context(), c, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.probed(prober, "a", "b!", "c")
	// What Kubernetes has found silent is off for good, maybe, and would speak against the network.
	c.Status.Conditions = []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionUnknown}}
	if _, err := nodes.UpdateStatus(t.Context(), c, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.probed(prober, "a", "b!")
	c.Status.Conditions[0].Status = v1.ConditionTrue
	if _, err := nodes.UpdateStatus(t.Context(), c, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.probed(prober, "a", "b!", "c")
	if err := nodes.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	e.probed(prober, "b!", "c")
	if err := services.Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	e.probed(prober)
}

func TestNodesThatCarryAddressesAreMarked(t *testing.T) {
	prober := &probes{}
	where := at(10250, v1.NodeInternalIP, "172.30.0.11")
	e := run(t, Config{Prober: prober}, node("a", id1, where), node("b", id2, where), node("c", id3, where),
		service(finalized), service(finalized, named("shop", "other"), port(81)))
	e.inSync()
	e.probed(prober, "a", "b", "c")
	addresses := func(attached, planned string) {
		e.peer.answers(func(state *backendv1.LoadBalancerState) {
			place := func(id string) *backendv1.Attachment {
				if id == "" {
					return nil
				}
				return &backendv1.Attachment{InstanceId: id}
			}
			state.Addresses = []*backendv1.LoadBalancerAddress{{
				Attachment: place(attached), PlannedAttachment: place(planned),
			}}
		})
	}
	addresses(id1, id1)
	e.probed(prober, "a+", "b", "c")
	addresses(id1, id2)
	e.probed(prober, "a+", "b+", "c")
	addresses("", id2)
	e.probed(prober, "a", "b+", "c")
	// What is known stays known while Oxide does not answer.
	e.peer.answers(func(state *backendv1.LoadBalancerState) { state.Phase = backendv1.Phase_PHASE_PENDING })
	e.await("the states", func() bool {
		state, ok := e.c.session.State(e.c.lbKey("shop/web"))
		return ok && state.GetPhase() == backendv1.Phase_PHASE_PENDING
	})
	e.probed(prober, "a", "b+", "c")
	_, before := prober.now()
	// One of the two goes, and with it nothing that is not the other's, too.
	if err := e.client.CoreV1().Services("shop").Delete(t.Context(), "other", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	e.await("the Service is forgotten", func() bool { return e.peer.sent("shop/other") == nil })
	e.probed(prober, "a", "b+", "c")
	if _, set := prober.now(); set != before {
		t.Errorf("the same targets were set %d times again", set-before)
	}
	if err := e.client.CoreV1().Services("shop").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	e.probed(prober)
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	if len(e.c.byKey) != 0 {
		t.Errorf("of no Service these are remembered: %v", e.c.byKey)
	}
}

func TestWhatProbesFindIsSentWithTheCandidate(t *testing.T) {
	prober := &probes{}
	where := at(10250, v1.NodeInternalIP, "172.30.0.11")
	// The second Node of one instance was renamed: what is found of the one that does not count changes nothing.
	e := run(t, Config{Prober: prober}, node("a", id1, where), node("b", id2, where),
		node("formerly-b", id2, where, unready), service(finalized))
	e.inSync()
	sent := func(id string) *backendv1.Candidate {
		e.peer.mu.Lock()
		defer e.peer.mu.Unlock()
		return e.peer.candidates[id]
	}
	if got := sent(id1); got.GetReachability() != 0 || got.GetReachabilityDuration() != nil {
		t.Errorf("before anything is found %v is sent", got)
	}
	found := func(node string, found reachability.Observation) {
		prober.find(node, found)
		e.c.ReachabilityChanged(node)
	}
	since := time.Now().Add(-time.Minute)
	found("a", reachability.Observation{State: reachability.Unreachable, Since: since, InDoubt: true})
	e.await("it does not answer, in doubt", func() bool {
		got := sent(id1)
		return got.GetReachability() == backendv1.Reachability_REACHABILITY_UNREACHABLE &&
			got.GetReachabilityInDoubt() && got.GetReachabilityDuration().AsDuration() >= time.Minute &&
			got.GetReadiness() == backendv1.Readiness_READINESS_READY
	})
	found("a", reachability.Observation{State: reachability.Unreachable, Since: since})
	e.await("it does not answer", func() bool {
		return sent(id1).GetReachability() == backendv1.Reachability_REACHABILITY_UNREACHABLE &&
			!sent(id1).GetReachabilityInDoubt()
	})
	found("a", reachability.Observation{State: reachability.Quiet, Since: since})
	e.await("it has ceased to answer", func() bool {
		return sent(id1).GetReachability() == backendv1.Reachability_REACHABILITY_SILENT
	})
	found("a", reachability.Observation{State: reachability.Reachable, Since: since})
	e.await("it answers", func() bool {
		return sent(id1).GetReachability() == backendv1.Reachability_REACHABILITY_REACHABLE
	})
	found("a", reachability.Observation{})
	e.await("nothing is known of it", func() bool {
		return sent(id1).GetReachability() == 0 && sent(id1).GetReachabilityDuration() == nil
	})
	found("formerly-b", reachability.Observation{State: reachability.Unreachable, Since: since})
	found("nobody", reachability.Observation{State: reachability.Unreachable, Since: since})
	found("b", reachability.Observation{State: reachability.Reachable, Since: since})
	e.await("b answers", func() bool { return sent(id2).GetReachability() != 0 })
	if got := sent(id2); got.GetReachability() != backendv1.Reachability_REACHABILITY_REACHABLE {
		t.Errorf("what was found of another Node is sent: %v", got)
	}
}

// What a Node is otherwise does not get lost by what probes find, nor the other way round.
func TestAReachableCandidateStaysSoWhenItsNodeChanges(t *testing.T) {
	prober := &probes{}
	e := run(t, Config{Prober: prober}, service(finalized),
		node("a", id1, at(10250, v1.NodeInternalIP, "172.30.0.11")))
	prober.find("a", reachability.Observation{State: reachability.Reachable, Since: time.Now()})
	e.inSync()
	e.c.ReachabilityChanged("a")
	cordonedNode := node("a", id1, at(10250, v1.NodeInternalIP, "172.30.0.11"), cordoned)
	if _, err := e.client.CoreV1().Nodes().Update(t.Context(), cordonedNode, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.await("both", func() bool {
		e.peer.mu.Lock()
		defer e.peer.mu.Unlock()
		got := e.peer.candidates[id1]
		return got.GetCordonObserved() && got.GetReachability() == backendv1.Reachability_REACHABILITY_REACHABLE
	})
}

// hosts answer probes unless they are dead. Nobody is asked by a packet.
type hosts struct {
	mu   sync.Mutex
	dead map[netip.AddrPort]bool
}

func (h *hosts) Ask(
	_ context.Context, addresses []netip.AddrPort, report func(i int, answer reachability.Answer),
) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, address := range addresses {
		answer := reachability.Answered
		if h.dead[address] {
			answer = reachability.Silent
		}
		report(i, answer)
	}
}

func (*hosts) Forget(netip.AddrPort) {}

func (h *hosts) die(addresses ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dead = make(map[netip.AddrPort]bool)
	for _, address := range addresses {
		h.dead[netip.MustParseAddrPort(address)] = true
	}
}

// With the real prober: a host that dies becomes a candidate that does not answer, and is one that
// answers when it is back; where most die it is in doubt.
func TestADeadHostIsSentAsACandidateThatDoesNotAnswer(t *testing.T) {
	var c *Controller
	prober := reachability.New(func(node string) { c.ReachabilityChanged(node) })
	network := &hosts{}
	p := &peer{prepare: func(made *Controller) { c = made }}
	e := runWith(t, fake.NewClientset(service(finalized),
		node("a", id1, at(10250, v1.NodeInternalIP, "172.30.0.11")),
		node("b", id2, at(10250, v1.NodeInternalIP, "172.30.0.12")),
		node("c", id3, at(10250, v1.NodeInternalIP, "172.30.0.13"))),
		p, Config{Prober: prober})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		prober.Run(ctx, network, func(context.Context, string) (reachability.Lease, error) {
			return reachability.Lease{Age: time.Minute}, nil
		})
	})
	defer running.Wait()
	defer cancel()
	e.inSync()
	become := func(what string, reachability backendv1.Reachability, inDoubt bool, ids ...string) {
		t.Helper()
		e.await(what, func() bool {
			e.peer.mu.Lock()
			defer e.peer.mu.Unlock()
			return !slices.ContainsFunc(ids, func(id string) bool {
				got := e.peer.candidates[id]
				return got.GetReachability() != reachability || got.GetReachabilityInDoubt() != inDoubt
			})
		})
	}
	answers := backendv1.Reachability_REACHABILITY_REACHABLE
	silent := backendv1.Reachability_REACHABILITY_UNREACHABLE
	become("all answer", answers, false, id1, id2, id3)
	network.die("172.30.0.11:10250")
	become("one host is dead", silent, false, id1)
	become("the others answer", answers, false, id2, id3)
	network.die("172.30.0.11:10250", "172.30.0.12:10250", "172.30.0.13:10250")
	become("none answers, and so this may be our own network", silent, true, id1, id2, id3)
	network.die()
	become("all answer again", answers, false, id1, id2, id3)
}

// A kubelet may move to another address or another port, each without the other.
func TestANodeIsProbedWhereItsKubeletIsNow(t *testing.T) {
	prober := &probes{}
	e := run(t, Config{Prober: prober}, service(finalized),
		node("a", id1, at(10250, v1.NodeInternalIP, "172.30.0.11")))
	e.inSync()
	probedAt := func(want string) {
		t.Helper()
		e.await("it is probed at "+want, func() bool {
			targets, _ := prober.now()
			return len(targets) == 1 && targets[0].Address.String() == want
		})
	}
	become := func(port int32, address string) {
		t.Helper()
		now := node("a", id1, at(port, v1.NodeInternalIP, address))
		if _, err := e.client.CoreV1().Nodes().Update(t.Context(), now, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	probedAt("172.30.0.11:10250")
	become(10250, "172.30.0.21")
	probedAt("172.30.0.21:10250")
	become(30250, "172.30.0.21")
	probedAt("172.30.0.21:30250")
}

// A Service that goes takes the mark of its node with it.
func TestANodeIsMarkedNoLongerThanItCarriesAnAddress(t *testing.T) {
	prober := &probes{}
	where := at(10250, v1.NodeInternalIP, "172.30.0.11")
	e := run(t, Config{Prober: prober}, node("a", id1, where), node("b", id2, where),
		service(finalized), service(finalized, named("shop", "other"), port(81)))
	e.inSync()
	e.peer.answers(func(state *backendv1.LoadBalancerState) {
		id := id1
		if state.GetKey().GetName() == "shop/other" {
			id = id2
		}
		state.Addresses = []*backendv1.LoadBalancerAddress{{
			Attachment: &backendv1.Attachment{InstanceId: id},
		}}
	})
	e.probed(prober, "a+", "b+")
	if err := e.client.CoreV1().Services("shop").Delete(t.Context(), "other", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	e.probed(prober, "a+", "b")
}
