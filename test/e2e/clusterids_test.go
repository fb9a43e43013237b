// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// demolish ends the cloud controller manager and removes all Services and Nodes behind its back.
func (e *environment) demolish() {
	e.Helper()
	e.must(e.ccm.Stop())
	e.emptyCluster()
}

// A cluster that is built anew, on other nodes, gets the addresses of the one that is gone if it is
// told to adopt them, and else leaves them alone.
func TestARebuiltClusterAdoptsAddresses(t *testing.T) {
	e := newEnvironment(t, settings{
		machines: machines(4), shimFlags: []string{"--cluster-id=old"},
	})
	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80))
	e.create("dns", objects.UDP(53))
	web, dns := e.served("web"), e.served("dns")

	e.demolish()
	e.start(settings{shimFlags: []string{"--cluster-id=stranger"}})
	e.join("node-c", "node-d")
	before := e.state()
	e.create("web", objects.TCP(80))
	if got := e.served("web"); got == web {
		t.Errorf("a cluster that adopts nothing has %s", got)
	}
	e.remove("web")
	if diff := cmp.Diff(before, e.state()); diff != "" {
		t.Errorf("a stranger changed the rack (-before +after):\n%s", diff)
	}

	e.demolish()
	e.start(settings{shimFlags: []string{"--cluster-id=new", "--adopt-cluster-id=old"}})
	e.join("node-c", "node-d")
	e.create("web", objects.TCP(80))
	e.create("dns", objects.UDP(53))
	e.eventually(func(ctx context.Context) (string, error) {
		state, err := e.rack.State(ctx)
		for _, address := range []string{web, dns} {
			ip, _ := state.FloatingIP(address)
			if !strings.Contains(ip.Description, " scope=new ") || ip.Instance < "node-c" {
				return fmt.Sprintf("the adoption of %+v", ip), err
			}
		}
		return "", err
	})
	e.servedBy("web", web)
	e.servedBy("dns", dns)
	if n := len(e.state().FloatingIPs); n != 2 {
		t.Errorf("there are %d floating IPs", n)
	}
	// Later the flag is gone, and nothing changes.
	requests, ensured := e.mutations(), e.said("Ensured load balancer")
	e.must(e.ccm.Stop())
	e.start(settings{shimFlags: []string{"--cluster-id=new"}})
	e.ensuredAgain(ensured + 2)
	e.servedBy("web", web)
	if diff := cmp.Diff(requests, e.mutations()); diff != "" {
		t.Errorf("requests for changes on the rack (-before +after):\n%s", diff)
	}
}

// A cluster that is restored in its place, with new objects of the same names, keeps every address
// where it is.
func TestARestoredClusterMovesNothing(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80))
	e.create("dns", objects.UDP(53))
	e.served("web")
	e.served("dns")
	var services []*corev1.Service
	var nodes []*corev1.Node
	for _, name := range []string{"web", "dns"} {
		services = append(services, e.service(name))
	}
	for _, name := range []string{"node-a", "node-b"} {
		nodes = append(nodes, e.node(name))
	}
	before, requests := e.placesOf(), e.mutations()

	e.demolish()
	for _, node := range nodes {
		node.ObjectMeta = metav1.ObjectMeta{Name: node.Name, Labels: node.Labels}
		_, err := e.client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
		e.must(err)
	}
	for _, service := range services {
		service.ObjectMeta = metav1.ObjectMeta{
			Namespace: service.Namespace, Name: service.Name, Finalizers: service.Finalizers,
		}
		service.Spec.ClusterIP, service.Spec.ClusterIPs = "", nil
		e.createService(service)
	}
	ensured := e.said("Ensured load balancer")
	e.unchanging("web", func() {
		e.start(settings{})
		e.ensuredAgain(ensured + 2)
	})
	e.served("web")
	e.served("dns")
	if diff := cmp.Diff(before, e.placesOf()); diff != "" {
		t.Errorf("the addresses (-before +after):\n%s", diff)
	}
	requests["floating_ip_update"] += 2 // the owners are new
	e.eventually(func(context.Context) (string, error) {
		if e.mutations()["floating_ip_update"] < requests["floating_ip_update"] {
			return "the marks of the new owners", nil
		}
		return "", nil
	})
	if diff := cmp.Diff(requests, e.mutations()); diff != "" {
		t.Errorf("requests for changes on the rack (-want +got):\n%s", diff)
	}
}

// placesOf returns where each address is.
func (e *environment) placesOf() map[string]string {
	e.Helper()
	places := make(map[string]string)
	for _, ip := range e.state().FloatingIPs {
		places[ip.IP+" "+ip.Name] = ip.AttachState + " " + ip.Instance
	}
	return places
}

// Two clusters of one id, as after a restore beside the original, do not fight: what is on a node
// of the one is left alone by the other, which says so.
func TestAClonedClusterDoesNotFight(t *testing.T) {
	e := newEnvironment(t, settings{
		machines: machines(4), shimFlags: []string{"--cluster-id=twin"},
	})
	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80))
	address := e.served("web")
	clone := e.clone(settings{shimFlags: []string{"--cluster-id=twin"}})
	before, requests := e.placesOf(), e.mutations()

	clone.join("node-c", "node-d")
	clone.create("web", objects.TCP(80))
	clone.warned("web", "ForeignAttachment", address, "never was a node of this cluster",
		"give one of them an id of its own")
	// Each looks at it again and again.
	for _, each := range []*environment{e, clone, e, clone} {
		// That of the clone is not served, so no success is recorded.
		const sync = "Ensuring load balancer"
		synced := each.said(sync)
		each.annotate("web", "looked-at", time.Now().Format("15-04-05.000"))
		each.eventually(func(context.Context) (string, error) {
			if each.said(sync) == synced {
				return "another sync of the Service", nil
			}
			return "", nil
		})
	}
	clone.restart()
	e.servedBy("web", address)
	if ingress := clone.service("web").Status.LoadBalancer.Ingress; len(ingress) != 0 {
		t.Errorf("the clone publishes %v", ingress)
	}
	if diff := cmp.Diff(before, e.placesOf()); diff != "" {
		t.Errorf("the addresses (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(requests, e.mutations()); diff != "" {
		t.Errorf("requests for changes on the rack (-want +got):\n%s", diff)
	}

	// With an id of its own the clone gets an address of its own.
	e.must(clone.ccm.Stop())
	clone.start(settings{shimFlags: []string{"--cluster-id=clone"}})
	if got := clone.served("web"); got == address {
		t.Errorf("both clusters have %s", got)
	}
	e.servedBy("web", address)
}

// clone starts another cluster with a control plane and a cloud controller manager of its own on
// the same rack.
func (e *environment) clone(s settings) *environment {
	e.Helper()
	c := *e
	c.dir = filepath.Join(e.dir, "clone")
	e.must(os.Mkdir(c.dir, 0o700))
	root, err := stack.Root()
	e.must(err)
	started, err := cluster.Start(e.Context(), e.group, shared.programs.Binaries, c.dir)
	e.must(err)
	kubeconfig, err := stack.Identity(e.Context(), started, root, c.dir)
	e.must(err)
	c.client, c.cluster, c.kubeconfig, c.name = started.Client, started, kubeconfig, "-clone"
	c.start(s)
	return &c
}
