// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

const (
	// companyLimit bounds each thing that is waited for.
	companyLimit = 3 * time.Minute
	// attachPoll is how often the rack is asked for the address that a final status names already.
	attachPoll = 20 * time.Millisecond
	// pairLabel says to which pair of nodes one belongs.
	pairLabel = "bench.test/pair"
	// quickStart lets Services get their addresses several at a time at the start, which is not measured.
	quickStart = "--concurrent-service-syncs=4"
)

// company is a cluster with Services whose addresses move.
type company struct {
	*world
	rack    *rack.Rack
	options stack.CCMOptions
	ccm     *stack.CCM
	nodes   []string
}

// served is a Service whose address is on a node. That of an external subnet has no private address in
// its status, and the status stays as it is when it moves.
type served struct{ service, address, node, private string }

// newCompany starts a rack and the cloud controller manager, and joins n nodes, in pairs.
func (w *world) newCompany(ctx context.Context, name string, n int) (*company, error) {
	c := &company{world: w}
	var machines []rack.Machine
	for i := range n {
		c.nodes = append(c.nodes, nodeName(i))
		machines = append(machines, rack.Machine{
			Name: nodeName(i), NCPUs: 2, MemoryGiB: 8, IP: fmt.Sprintf("172.30.1.%d", 10+i),
		})
	}
	var err error
	if c.rack, err = rack.Start(ctx, w.group, rack.Options{
		Program: w.programs.Sim, Dir: w.dir, Latency: latency, Name: name, Machines: machines,
		TimeScale: asOnARack,
	}); err != nil {
		return nil, err
	}
	c.options = stack.CCMOptions{
		Group: w.group, Programs: w.programs, Cluster: w.cluster, Rack: c.rack,
		Kubeconfig: w.kubeconfig, Dir: w.dir, Name: name, ShimFlags: []string{quickStart},
	}
	if c.ccm, err = stack.StartCCM(ctx, c.options); err != nil {
		return nil, err
	}
	for i, node := range c.nodes {
		object := objects.Node(node)
		object.Labels[pairLabel] = strconv.Itoa(i / 2)
		if _, err := c.cluster.Client.CoreV1().Nodes().Create(ctx, object,
			metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	return c, c.await(ctx, func(ctx context.Context) (bool, error) {
		list, err := c.cluster.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		return !slices.ContainsFunc(list.Items, func(n corev1.Node) bool {
			return objects.HasTaint(&n, objects.UninitializedTaint)
		}), nil
	})
}

// service returns the Service number i.
func service(i int) *corev1.Service {
	return objects.LoadBalancer("default", fmt.Sprintf("service-%d", i), objects.TCP(int32(8000+i)))
}

// onPair returns the Service number i, for the pair of nodes with that number.
func onPair(i int) *corev1.Service {
	s := service(i)
	s.Annotations = map[string]string{
		"oxide.computer/node-selector": fmt.Sprintf("%s=%d", pairLabel, i),
	}
	return s
}

// onPairBySubnet is onPair for a Service with an external subnet.
func onPairBySubnet(i int) *corev1.Service {
	s := onPair(i)
	s.Annotations["oxide.computer/address-source"] = "external-subnet"
	return s
}

// settle creates n Services and waits until each is served.
func (c *company) settle(
	ctx context.Context, n int, make func(i int) *corev1.Service,
) ([]served, error) {
	services := c.cluster.Client.CoreV1().Services("default")
	for i := range n {
		if _, err := services.Create(ctx, make(i), metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	var all []served
	err := c.await(ctx, func(ctx context.Context) (bool, error) {
		state, err := c.rack.State(ctx)
		if err != nil {
			return false, err
		}
		list, err := services.List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		byName := map[string]*corev1.Service{}
		for i := range list.Items {
			byName[list.Items[i].Name] = &list.Items[i]
		}
		all = all[:0]
		for i := range n {
			if s, ok := isServed(byName[make(i).Name], state); ok {
				all = append(all, s)
			}
		}
		return len(all) == n, nil
	})
	if err != nil {
		return nil, fmt.Errorf("%d of %d Services have an address: %w", len(all), n, err)
	}
	return all, nil
}

// isServed reports whether a Service is served, with a status that is final: it names the address, and
// the node that this is attached to.
func isServed(service *corev1.Service, state rack.State) (served, bool) {
	if service == nil || len(published(service)) == 0 {
		return served{}, false
	}
	status := published(service)
	at, _ := state.At(status[0])
	s := served{service: service.Name, address: status[0], node: at.Instance}
	switch {
	case at.AttachState != rack.Attached:
		return s, false
	case at.Subnet || len(status) != 2:
		return s, at.Subnet && len(status) == 1
	}
	s.private = status[1]
	carrier, _ := state.Instance(at.Instance)
	return s, carrier.PrivateIPs["v4"] == s.private
}

// failover waits until an address is attached to another node, with a status that names that alone. It
// returns how long that took since something began, and where the address is.
func (c *company) failover(
	ctx context.Context, s served, began time.Time,
) (served, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, companyLimit)
	defer cancel()
	watcher, err := c.cluster.Client.CoreV1().Services("default").Watch(ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=" + s.service,
	})
	if err != nil {
		return s, 0, err
	}
	defer watcher.Stop()
	poll := time.NewTicker(attachPoll)
	defer poll.Stop()
	var now *corev1.Service
	for {
		select {
		case event := <-watcher.ResultChan():
			var ok bool
			if now, ok = event.Object.(*corev1.Service); !ok {
				return s, 0, fmt.Errorf("the address %s of %s stays on %s", s.address, s.service, s.node)
			}
		case <-poll.C:
		}
		if now == nil || s.private != "" && slices.Contains(published(now), s.private) {
			continue
		}
		state, err := c.rack.State(ctx)
		if err != nil {
			return s, 0, err
		}
		if moved, ok := isServed(now, state); ok && moved.node != s.node {
			return moved, time.Since(began), nil
		}
	}
}

// published returns the addresses in the status of a Service.
func published(service *corev1.Service) []string {
	var all []string
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		all = append(all, ingress.IP)
	}
	return all
}

func (c *company) await(
	ctx context.Context, check func(context.Context) (bool, error),
) error {
	ctx, cancel := context.WithTimeout(ctx, companyLimit)
	defer cancel()
	return process.Await(ctx, check)
}
