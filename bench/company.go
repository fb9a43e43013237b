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

// served is a Service whose address is on a node.
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

// settle creates n Services, each for one pair of nodes or, without a function that names it, for all
// nodes, and waits until they are served.
func (c *company) settle(ctx context.Context, n int, pair func(i int) int) ([]served, error) {
	all := make([]served, n)
	for i := range all {
		all[i].service = fmt.Sprintf("service-%d", i)
		service := objects.LoadBalancer("default", all[i].service, objects.TCP(int32(8000+i)))
		if pair != nil {
			service.Annotations = map[string]string{
				"oxide.computer/node-selector": fmt.Sprintf("%s=%d", pairLabel, pair(i)),
			}
		}
		if _, err := c.cluster.Client.CoreV1().Services("default").Create(ctx, service,
			metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	for i := range all {
		err := c.await(ctx, func(ctx context.Context) (bool, error) {
			service, err := c.cluster.Client.CoreV1().Services("default").Get(ctx, all[i].service,
				metav1.GetOptions{})
			if err != nil || len(published(service)) != 2 {
				return false, err
			}
			all[i].address, all[i].private = published(service)[0], published(service)[1]
			return true, nil
		})
		if err != nil {
			return nil, fmt.Errorf("the Service %s got no address: %w", all[i].service, err)
		}
	}
	state, err := c.rack.State(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		ip, _ := state.FloatingIP(all[i].address)
		all[i].node = ip.Instance
	}
	return all, nil
}

// failover waits until an address is on another node, with a status that names that alone, and returns
// how long that took.
func (c *company) failover(ctx context.Context, s served) (time.Duration, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, companyLimit)
	defer cancel()
	watcher, err := c.cluster.Client.CoreV1().Services("default").Watch(ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=" + s.service,
	})
	if err != nil {
		return 0, err
	}
	defer watcher.Stop()
	took := time.Duration(0)
	for event := range watcher.ResultChan() {
		service, ok := event.Object.(*corev1.Service)
		if !ok {
			break
		}
		if now := published(service); len(now) == 2 && now[1] != s.private {
			took = time.Since(began)
			break
		}
	}
	if took == 0 {
		return 0, fmt.Errorf("the address of %s stays on %s", s.service, s.node)
	}
	state, err := c.rack.State(ctx)
	if err != nil {
		return 0, err
	}
	if ip, _ := state.FloatingIP(s.address); ip.AttachState != rack.Attached || ip.Instance == s.node {
		return 0, fmt.Errorf("the status of %s tells of a move, and the address is %s on %s",
			s.service, ip.AttachState, ip.Instance)
	}
	return took, nil
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

// end removes the Services and their addresses, the cloud controller manager, and the nodes.
func (c *company) end(ctx context.Context) error {
	services := c.cluster.Client.CoreV1().Services("default")
	list, err := services.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if err := c.ccm.Stop(); err != nil {
		return err
	}
	for _, service := range list.Items {
		if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		// Nobody is left to take the finalizer off, and the rack is not used again.
		service.Finalizers = nil
		if _, err := services.Update(ctx, &service, metav1.UpdateOptions{}); err != nil {
			return err
		}
		if err := services.Delete(ctx, service.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	return c.cluster.Client.CoreV1().Nodes().DeleteCollection(ctx, metav1.DeleteOptions{},
		metav1.ListOptions{})
}
