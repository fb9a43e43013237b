// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// servedPort is a port of a protocol.
type servedPort struct {
	protocol v1.Protocol
	port     int32
}

func orTCP(protocol v1.Protocol) v1.Protocol { return cmp.Or(protocol, v1.ProtocolTCP) }

// hostPort is a port of a Node that a pod uses, on one of its addresses; empty: on all of them.
type hostPort struct {
	servedPort
	address string
}

// portUse is what is known of all ports that are in use for something other than a load balancer.
type portUse struct {
	// served are the ports that load balancers serve: only those matter.
	served map[servedPort]bool
	// reserved are those of them that lead to some Service: on every Node, those that are a node
	// port; on an address, wherever packets for it are sent from, those that the Service captures
	// there.
	reserved []*backendv1.ReservedPorts
	// selecting are the load balancers that select pods, by namespace.
	selecting map[string][]*v1.Service
}

// portUseOf returns what Services use.
func (s selection) portUseOf(services []*v1.Service) *portUse {
	u := &portUse{served: make(map[servedPort]bool), selecting: make(map[string][]*v1.Service)}
	for _, service := range services {
		if !s.isDesired(service) {
			continue
		}
		for _, port := range service.Spec.Ports {
			u.served[servedPort{orTCP(port.Protocol), port.Port}] = true
		}
		if len(service.Spec.Selector) > 0 {
			u.selecting[service.Namespace] = append(u.selecting[service.Namespace], service)
		}
	}
	for _, service := range services {
		for _, port := range service.Spec.Ports {
			u.reserve(service, servedPort{orTCP(port.Protocol), port.NodePort}, "node port", "")
		}
		u.reserve(service, servedPort{v1.ProtocolTCP, service.Spec.HealthCheckNodePort},
			"health check port", "")
		for _, address := range service.Spec.ExternalIPs {
			u.capture(service, address, "externalIPs")
		}
		if s.isDesired(service) || s.isEnding(service) {
			continue // its status is the backend's business
		}
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			if ingress.IPMode == nil || *ingress.IPMode == v1.LoadBalancerIPModeVIP {
				u.capture(service, ingress.IP, "status")
			}
		}
	}
	slices.SortFunc(u.reserved, func(a, b *backendv1.ReservedPorts) int {
		return cmp.Or(cmp.Compare(min(len(a.GetAddress()), 1), min(len(b.GetAddress()), 1)),
			cmp.Compare(a.GetFirstPort(), b.GetFirstPort()),
			cmp.Compare(a.GetPurpose(), b.GetPurpose()), cmp.Compare(a.GetProtocol(), b.GetProtocol()),
			cmp.Compare(a.GetAddress(), b.GetAddress()))
	})
	return u
}

// capture notes that the ports of a Service lead to it on an address.
func (u *portUse) capture(service *v1.Service, address, by string) {
	addr, err := netip.ParseAddr(address)
	if err != nil || addr.Zone() != "" {
		return
	}
	for _, port := range service.Spec.Ports {
		u.reserve(service, servedPort{orTCP(port.Protocol), port.Port}, by, addr.Unmap().String())
	}
}

// reserve notes that a port leads to a Service, on an address or on all.
func (u *portUse) reserve(service *v1.Service, port servedPort, what, address string) {
	if u.served[port] {
		u.reserved = append(u.reserved, &backendv1.ReservedPorts{
			Protocol: protocols[port.protocol], FirstPort: port.port, Serves: []string{keyOf(service)},
			Purpose: "the " + what + " of the Service " + keyOf(service), Address: address,
		})
	}
}

// of returns which of the ports that load balancers serve are used on Nodes, by their pods.
func (u *portUse) of(nodes []*v1.Node, pods map[string][]*v1.Pod) []*backendv1.UsedPort {
	var used []*backendv1.UsedPort
	for _, node := range nodes {
		for _, pod := range pods[node.Name] {
			for _, port := range hostPorts(pod) {
				if u.served[port.servedPort] {
					used = append(used, &backendv1.UsedPort{
						Protocol: protocols[port.protocol], Port: port.port, Address: port.address,
						Holder: "the pod " + pod.Namespace + "/" + pod.Name, Serves: u.serves(pod),
					})
				}
			}
		}
	}
	slices.SortFunc(used, func(a, b *backendv1.UsedPort) int {
		return cmp.Or(cmp.Compare(a.GetPort(), b.GetPort()), cmp.Compare(a.GetHolder(), b.GetHolder()),
			cmp.Compare(a.GetProtocol(), b.GetProtocol()), cmp.Compare(a.GetAddress(), b.GetAddress()))
	})
	return used[:min(len(used), maxUsedPorts)]
}

// serves returns the names of the load balancers whose Services select a pod: it serves them
// itself.
func (u *portUse) serves(pod *v1.Pod) []string {
	var names []string
	for _, service := range u.selecting[pod.Namespace] {
		if labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			names = append(names, keyOf(service))
		}
	}
	slices.Sort(names)
	return names
}

// podTimeout is how long is waited for the pods at the start. They only say which ports are taken,
// so without them things go on.
const podTimeout = 10 * time.Second

// followPods follows the pods that are on Nodes. All of them have to be: which have host ports
// cannot be asked for. It returns when they are known, or have been waited for.
func (c *Controller) followPods(ctx context.Context) {
	factory := informers.NewSharedInformerFactoryWithOptions(c.client, 0,
		informers.WithTransform(trimPod),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
		}))
	pods := factory.Core().V1().Pods().Informer()
	_, err := pods.AddEventHandler(handler(c.podChanged))
	utilruntime.Must(err) // only an informer that has ended refuses
	c.pods = pods.GetStore()
	c.start(ctx, factory)
	waitCtx, cancel := context.WithTimeout(ctx, podTimeout)
	defer cancel()
	if !cache.WaitForCacheSync(waitCtx.Done(), pods.HasSynced) && ctx.Err() == nil {
		klog.InfoS("The pods could not be read so far: load balancers may be given ports that these use; " +
			"allow \"list\" and \"watch\" on pods")
	}
}

func (c *Controller) podChanged(before, now *v1.Pod) {
	before, now = cmp.Or(before, &v1.Pod{}), cmp.Or(now, &v1.Pod{})
	if before.Spec.NodeName != now.Spec.NodeName || !slices.Equal(hostPorts(before), hostPorts(now)) ||
		!maps.Equal(before.Labels, now.Labels) {
		c.changed.Add(everything)
	}
}

// podsByNode returns the pods that use ports of their Nodes, by the names of those.
func (c *Controller) podsByNode() map[string][]*v1.Pod {
	pods := make(map[string][]*v1.Pod)
	for _, object := range c.pods.List() {
		pod := object.(*v1.Pod)
		pods[pod.Spec.NodeName] = append(pods[pod.Spec.NodeName], pod)
	}
	return pods
}

// hostPorts returns the ports of its Node that a pod uses: in the Node's network all that its
// containers name, else their host ports. One that has finished uses none, and so do containers
// that finish before the others begin.
func hostPorts(pod *v1.Pod) []hostPort {
	if pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed {
		return nil
	}
	sidecars := slices.DeleteFunc(slices.Clone(pod.Spec.InitContainers), func(c v1.Container) bool {
		return c.RestartPolicy == nil || *c.RestartPolicy != v1.ContainerRestartPolicyAlways
	})
	var ports []hostPort
	for _, container := range slices.Concat(sidecars, pod.Spec.Containers) {
		for _, port := range container.Ports {
			number := port.HostPort
			if pod.Spec.HostNetwork {
				number = port.ContainerPort
			}
			if number > 0 {
				ports = append(ports, hostPort{
					servedPort{orTCP(port.Protocol), number}, hostAddress(port, pod.Spec.HostNetwork),
				})
			}
		}
	}
	return ports
}

// hostAddress returns the address of its Node on which a port is used, 0.0.0.0 and :: for all of an
// IP family; empty: on all. A process in the Node's network that listens on :: listens on IPv4, too.
func hostAddress(port v1.ContainerPort, hostNetwork bool) string {
	addr, err := netip.ParseAddr(port.HostIP)
	if err != nil || hostNetwork && addr == netip.IPv6Unspecified() {
		return ""
	}
	return addr.WithZone("").Unmap().String()
}

// trimPod keeps of a pod what is needed to know its ports on its Node: as the host ports of one
// container.
func trimPod(object any) (any, error) {
	pod, ok := object.(*v1.Pod)
	if !ok {
		return object, nil
	}
	trimmed := &v1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}}
	if ports := hostPorts(pod); len(ports) > 0 {
		trimmed.Labels, trimmed.Spec.NodeName = pod.Labels, pod.Spec.NodeName
		trimmed.Spec.Containers = []v1.Container{{}}
		for _, port := range ports {
			trimmed.Spec.Containers[0].Ports = append(trimmed.Spec.Containers[0].Ports,
				v1.ContainerPort{Protocol: port.protocol, HostPort: port.port, HostIP: port.address})
		}
	}
	return trimmed, nil
}
