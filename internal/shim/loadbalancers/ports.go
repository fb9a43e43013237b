// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// DefaultReservedPorts are those of SSH, etcd, the API server, the kubelet, and the health and metrics
// ports of the control plane and kube-proxy. The status of a Service captures its ports on the
// node's address for the whole cluster: with one of these nobody would reach the node's own any more.
const DefaultReservedPorts = "22,2379-2380,6443,10250,10256-10259"

const maxPort = 65535

// purposes are what well-known ports are for, for messages.
var purposes = map[int32]string{
	22: "SSH", 2379: "etcd", 2380: "etcd", 6443: "the API server", 10250: "the kubelet",
	10256: "kube-proxy", 10257: "kube-controller-manager", 10258: "the cloud controller manager",
	10259: "kube-scheduler",
}

// ParseReservedPorts reads a comma-separated list of ports and ranges of ports, such as "22,6443-6444".
func ParseReservedPorts(list string) ([]*backendv1.ReservedPorts, error) {
	var reserved []*backendv1.ReservedPorts
	for _, item := range strings.Split(list, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		from, to, isRange := strings.Cut(item, "-")
		if !isRange {
			to = from
		}
		first, firstErr := strconv.ParseUint(from, 10, 16)
		last, lastErr := strconv.ParseUint(to, 10, 16)
		if firstErr != nil || lastErr != nil || first == 0 || last < first {
			return nil, fmt.Errorf("%q is neither a port from 1 to %d nor a range of them such as "+
				"2379-2380", item, maxPort)
		}
		for port := int32(first); port <= int32(last); port++ {
			if purposes[port] != "" {
				reserved = append(reserved, &backendv1.ReservedPorts{
					FirstPort: port, Purpose: purposes[port],
				})
			}
		}
		reserved = append(reserved, &backendv1.ReservedPorts{
			FirstPort: int32(first), LastPort: int32(last), Purpose: "the nodes (--reserved-ports)",
		})
	}
	return reserved, nil
}

// servedPort is a port of a protocol.
type servedPort struct {
	protocol v1.Protocol
	port     int32
}

// servedPorts returns the ports that load balancers serve.
func servedPorts(services []*v1.Service) map[servedPort]bool {
	served := make(map[servedPort]bool)
	for _, service := range services {
		if wanted(service) {
			for _, port := range service.Spec.Ports {
				served[servedPort{orTCP(port.Protocol), port.Port}] = true
			}
		}
	}
	return served
}

// sharePort reports whether two Services have a port in common.
func sharePort(a, b *v1.Service) bool {
	return slices.ContainsFunc(a.Spec.Ports, func(p v1.ServicePort) bool {
		return slices.ContainsFunc(b.Spec.Ports, func(q v1.ServicePort) bool {
			return p.Port == q.Port && orTCP(p.Protocol) == orTCP(q.Protocol)
		})
	})
}

func orTCP(protocol v1.Protocol) v1.Protocol { return cmp.Or(protocol, v1.ProtocolTCP) }

// nodePorts returns those of the given ports that are a node port of some Service: on every Node they
// lead to that one.
func nodePorts(services []*v1.Service, served map[servedPort]bool) []*backendv1.ReservedPorts {
	var reserved []*backendv1.ReservedPorts
	for _, service := range services {
		name := loadBalancerName(service)
		add := func(protocol v1.Protocol, port int32, what string) {
			if port == 0 || !served[servedPort{protocol, port}] {
				return
			}
			reserved = append(reserved, &backendv1.ReservedPorts{
				Protocol: protocols[protocol], FirstPort: port, Serves: []string{name},
				Purpose: "the " + what + " of the Service " + name,
			})
		}
		for _, port := range service.Spec.Ports {
			add(orTCP(port.Protocol), port.NodePort, "node port")
		}
		add(v1.ProtocolTCP, service.Spec.HealthCheckNodePort, "health check port")
	}
	slices.SortFunc(reserved, func(a, b *backendv1.ReservedPorts) int {
		return cmp.Or(cmp.Compare(a.GetFirstPort(), b.GetFirstPort()),
			cmp.Compare(a.GetPurpose(), b.GetPurpose()))
	})
	return reserved
}

// addUsedPorts tells candidates which of the given ports pods in the network of their Node use. Pods
// that a Service selects serve it themselves.
func addUsedPorts(
	list []*backendv1.Candidate, nodes []*v1.Node, pods []*v1.Pod, services []*v1.Service,
	served map[servedPort]bool,
) {
	byID := make(map[string]*backendv1.Candidate, len(list))
	for _, candidate := range list {
		byID[candidate.GetInstanceId()] = candidate
	}
	byNode := make(map[string]*backendv1.Candidate, len(nodes))
	for _, node := range nodes {
		if id, ok := provider.InstanceID(node); ok {
			byNode[node.Name] = byID[id]
		}
	}
	for _, pod := range pods {
		candidate := byNode[pod.Spec.NodeName]
		if candidate == nil || !pod.Spec.HostNetwork || pod.Status.Phase == v1.PodSucceeded ||
			pod.Status.Phase == v1.PodFailed {
			continue
		}
		for _, port := range containerPorts(pod) {
			if served[port] {
				candidate.UsedPorts = append(candidate.UsedPorts, &backendv1.UsedPort{
					Protocol: protocols[port.protocol], Port: port.port,
					Holder: "the pod " + pod.Namespace + "/" + pod.Name,
					Serves: servicesOf(pod, services),
				})
			}
		}
	}
	for _, candidate := range list {
		slices.SortFunc(candidate.GetUsedPorts(), func(a, b *backendv1.UsedPort) int {
			return cmp.Or(cmp.Compare(a.GetPort(), b.GetPort()),
				cmp.Compare(a.GetHolder(), b.GetHolder()))
		})
	}
}

// containerPorts returns the ports that a pod in its Node's network says it uses.
func containerPorts(pod *v1.Pod) []servedPort {
	var ports []servedPort
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, port := range container.Ports {
			ports = append(ports, servedPort{orTCP(port.Protocol), port.ContainerPort})
		}
	}
	return ports
}

// servicesOf returns the names of the load balancers whose Services select a pod.
func servicesOf(pod *v1.Pod, services []*v1.Service) []string {
	var names []string
	for _, service := range services {
		if wanted(service) && service.Namespace == pod.Namespace && len(service.Spec.Selector) > 0 &&
			labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			names = append(names, loadBalancerName(service))
		}
	}
	slices.Sort(names)
	return names
}
