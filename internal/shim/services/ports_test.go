// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func nodePort(port int32) func(*v1.Service) {
	return func(s *v1.Service) { s.Spec.Ports[0].NodePort = port }
}

func TestNodePortsThatALoadBalancerServesAreReserved(t *testing.T) {
	nodePortOnly := func(s *v1.Service) { s.Spec.Type = v1.ServiceTypeNodePort }
	udp := func(s *v1.Service) { s.Spec.Ports[0].Protocol = v1.ProtocolUDP }
	reservation := func(port int32, purpose, serves string) *backendv1.ReservedPorts {
		return &backendv1.ReservedPorts{
			Protocol: backendv1.Protocol_PROTOCOL_TCP, FirstPort: port, Purpose: purpose,
			Serves: []string{serves},
		}
	}
	for _, tt := range []struct {
		name     string
		services []*v1.Service
		want     []*backendv1.ReservedPorts
	}{
		{"node ports that no load balancer serves", []*v1.Service{service(), service(named("a", "b"))}, nil},
		{"a node port of another Service, of whichever type", []*v1.Service{
			service(port(30080)), service(named("a", "b"), nodePortOnly, nodePort(30080)),
		}, []*backendv1.ReservedPorts{reservation(30080, "the node port of the Service a/b", "a/b")}},
		{"a Service that serves its own node port", []*v1.Service{
			service(port(30080), nodePort(30080)),
		}, []*backendv1.ReservedPorts{
			reservation(30080, "the node port of the Service shop/web", "shop/web"),
		}},
		{"a health check port", []*v1.Service{
			service(port(31000)), service(named("a", "b"), func(s *v1.Service) {
				s.Spec.HealthCheckNodePort = 31000
			}),
		}, []*backendv1.ReservedPorts{
			reservation(31000, "the health check port of the Service a/b", "a/b"),
		}},
		{"a node port of another protocol", []*v1.Service{
			service(port(30080)), service(named("a", "b"), nodePortOnly, nodePort(30080), udp),
		}, nil},
		{"a load balancer of another class serves nothing of ours", []*v1.Service{
			service(port(30080), func(s *v1.Service) {
				class := "example.com/other"
				s.Spec.LoadBalancerClass = &class
			}), service(named("a", "b"), nodePortOnly, nodePort(30080)),
		}, nil},
		{"several, in order", []*v1.Service{
			service(port(30081, 30080)), service(named("z", "z"), nodePort(30080)),
			service(named("a", "b"), nodePort(30081)),
		}, []*backendv1.ReservedPorts{
			reservation(30080, "the node port of the Service z/z", "z/z"),
			reservation(30081, "the node port of the Service a/b", "a/b"),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := selection{}.portUseOf(tt.services).reserved
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("reserved (-want +got):\n%s", diff)
			}
		})
	}
}

// hostPod returns a pod in its Node's network, with these ports.
func hostPod(name, node string, ports ...int32) *v1.Pod {
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, Labels: map[string]string{"app": name},
		},
		Spec:   v1.PodSpec{NodeName: node, HostNetwork: true, Containers: []v1.Container{{Name: "c"}}},
		Status: v1.PodStatus{Phase: v1.PodRunning},
	}
	for _, port := range ports {
		pod.Spec.Containers[0].Ports = append(pod.Spec.Containers[0].Ports,
			v1.ContainerPort{ContainerPort: port})
	}
	return pod
}

func TestPortsOfPodsInTheirNodesNetworkAreUsed(t *testing.T) {
	phase := func(pod *v1.Pod, phase v1.PodPhase) *v1.Pod {
		pod.Status.Phase = phase
		return pod
	}
	used := func(port int32, holder string, serves ...string) *backendv1.UsedPort {
		return &backendv1.UsedPort{
			Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: port, Holder: holder, Serves: serves,
		}
	}
	selecting := func(labels map[string]string) func(*v1.Service) {
		return func(s *v1.Service) { s.Spec.Selector = labels }
	}
	proxy := map[string]string{"app": "proxy"}
	podNetwork := hostPod("proxy", "worker-1", 80)
	podNetwork.Spec.HostNetwork = false
	hostPorted := hostPod("proxy", "worker-1", 80)
	hostPorted.Spec.HostNetwork = false
	hostPorted.Spec.Containers[0].Ports[0].HostPort = 443
	udp := hostPod("proxy", "worker-1", 80)
	udp.Spec.Containers[0].Ports[0].Protocol = v1.ProtocolUDP
	first := hostPod("proxy", "worker-1", 443)
	first.Spec.InitContainers, first.Spec.Containers = first.Spec.Containers, nil
	sidecar := first.DeepCopy()
	sidecar.Spec.InitContainers[0].RestartPolicy = new(v1.ContainerRestartPolicyAlways)
	leaving := hostPod("proxy", "worker-1", 443)
	leaving.DeletionTimestamp = &metav1.Time{}
	for _, tt := range []struct {
		name     string
		services []*v1.Service
		pods     []*v1.Pod
		want     []*backendv1.UsedPort
	}{
		{"none", nil, nil, nil},
		{"only ports that a load balancer serves are sent", nil,
			[]*v1.Pod{hostPod("proxy", "worker-1", 80, 443, 8080)},
			[]*backendv1.UsedPort{used(80, "the pod shop/proxy"), used(443, "the pod shop/proxy")}},
		{"of containers that begin before the others and stay", nil, []*v1.Pod{sidecar},
			[]*backendv1.UsedPort{used(443, "the pod shop/proxy")}},
		{"not of containers that end before the others begin", nil, []*v1.Pod{first}, nil},
		{"a pod that is about to end", nil, []*v1.Pod{leaving},
			[]*backendv1.UsedPort{used(443, "the pod shop/proxy")}},
		{"several pods, in order", nil,
			[]*v1.Pod{hostPod("z", "worker-1", 443), hostPod("y", "worker-1", 80), hostPod("a", "worker-1", 80)},
			[]*backendv1.UsedPort{used(80, "the pod shop/a"), used(80, "the pod shop/y"),
				used(443, "the pod shop/z")}},
		{"a pod with a network of its own", nil, []*v1.Pod{podNetwork}, nil},
		{"another protocol", nil, []*v1.Pod{udp}, nil},
		{"a host port of a pod with a network of its own", nil, []*v1.Pod{hostPorted},
			[]*backendv1.UsedPort{used(443, "the pod shop/proxy")}},
		{"a pod on another node, or on none yet", nil,
			[]*v1.Pod{hostPod("proxy", "worker-2", 80), hostPod("proxy", "", 80)}, nil},
		{"pods that have finished", nil, []*v1.Pod{
			phase(hostPod("a", "worker-1", 80), v1.PodSucceeded),
			phase(hostPod("b", "worker-1", 80), v1.PodFailed),
		}, nil},
		{"a pod that is not running yet", nil,
			[]*v1.Pod{phase(hostPod("a", "worker-1", 80), v1.PodPending)},
			[]*backendv1.UsedPort{used(80, "the pod shop/a")}},
		{"a pod that Services select serves them", []*v1.Service{
			service(named("shop", "tls"), selecting(proxy), port(443)),
			service(named("shop", "all"), selecting(proxy)),
			service(named("shop", "others"), selecting(map[string]string{"app": "x"})),
			service(named("shop", "nothing"), selecting(nil)),
			service(named("else", "where"), selecting(proxy)),
			service(named("shop", "internal"), selecting(proxy), func(s *v1.Service) {
				s.Spec.Type = v1.ServiceTypeClusterIP
			}),
		}, []*v1.Pod{hostPod("proxy", "worker-1", 80)},
			[]*backendv1.UsedPort{used(80, "the pod shop/proxy", "shop/all", "shop/tls")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			services := append(tt.services, service(named("else", "both"), port(80, 443)))
			use := selection{}.portUseOf(services)
			pods := make(map[string][]*v1.Pod)
			for _, pod := range tt.pods {
				trimmed, err := trimPod(pod.DeepCopy())
				if err != nil {
					t.Fatal(err)
				}
				kept := trimmed.(*v1.Pod)
				pods[kept.Spec.NodeName] = append(pods[kept.Spec.NodeName], kept)
			}
			got := use.of([]*v1.Node{node("worker-1", id1)}, pods)
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("used ports (-want +got):\n%s", diff)
			}
			if got := use.of([]*v1.Node{node("worker-3", id3)}, pods); got != nil {
				t.Errorf("another node's used ports are %v", got)
			}
		})
	}
}

// Where a pod uses its port is said, and whether that is in the way is the backend's business.
func TestTheAddressOfAHostPortIsSent(t *testing.T) {
	for _, tt := range []struct {
		hostIP      string
		hostNetwork bool
		want        string
	}{
		{"", false, ""}, {"", true, ""}, {"0.0.0.0", false, "0.0.0.0"}, {"0.0.0.0", true, "0.0.0.0"},
		{"::", false, "::"}, {"::", true, ""}, {"127.0.0.1", false, "127.0.0.1"},
		{"127.0.0.1", true, "127.0.0.1"}, {"172.30.0.11", false, "172.30.0.11"},
		{"FD00:0::1", false, "fd00::1"}, {"::ffff:172.30.0.11", false, "172.30.0.11"}, {"x", false, ""},
	} {
		pod := hostPod("proxy", "worker-1", 80)
		pod.Spec.HostNetwork = tt.hostNetwork
		pod.Spec.Containers[0].Ports[0].HostIP, pod.Spec.Containers[0].Ports[0].HostPort = tt.hostIP, 80
		trimmed, err := trimPod(pod)
		if err != nil {
			t.Fatal(err)
		}
		used := selection{}.portUseOf([]*v1.Service{service()}).of([]*v1.Node{node("worker-1", id1)},
			map[string][]*v1.Pod{"worker-1": {trimmed.(*v1.Pod)}})
		if len(used) != 1 || used[0].GetAddress() != tt.want {
			t.Errorf("with the host IP %q in the Node's network: %t, %v are used", tt.hostIP,
				tt.hostNetwork, used)
		}
	}
}

// What leads to a Service on an address of a Node would not reach the load balancer there.
func TestAddressesThatServicesCaptureAreReserved(t *testing.T) {
	const address, sixth = "172.30.0.11", "fd00::b"
	at := func(s *v1.Service) { s.Status.LoadBalancer = *statusOf([]string{address}) }
	class := func(s *v1.Service) { s.Spec.LoadBalancerClass = new("example.com/other") }
	external := func(addresses ...string) func(s *v1.Service) {
		return func(s *v1.Service) {
			s.Spec.Type, s.Spec.ExternalIPs = v1.ServiceTypeClusterIP, addresses
		}
	}
	reserved := func(holder string, addresses ...string) (all []*backendv1.ReservedPorts) {
		for _, address := range addresses {
			all = append(all, &backendv1.ReservedPorts{
				Protocol: backendv1.Protocol_PROTOCOL_TCP, FirstPort: 80, Address: address,
				Purpose: "the " + holder + " of the Service a/b", Serves: []string{"a/b"},
			})
		}
		return all
	}
	for _, tt := range []struct {
		name    string
		service *v1.Service
		want    []*backendv1.ReservedPorts
	}{
		{"externalIPs", service(named("a", "b"), external(address)), reserved("externalIPs", address)},
		{"externalIPs of both IP families", service(named("a", "b"), external(sixth, address)),
			reserved("externalIPs", address, sixth)},
		{"externalIPs that are none", service(named("a", "b"), external("x", "fe80::1%eth0")), nil},
		{"externalIPs of one of ours", service(named("a", "b"), func(s *v1.Service) {
			s.Spec.ExternalIPs = []string{address}
		}), reserved("externalIPs", address)},
		{"the node port of one with externalIPs, too", service(named("a", "b"), external(address),
			nodePort(80)), append(reserved("node port", ""), reserved("externalIPs", address)...)},
		{"the status of another class", service(named("a", "b"), class, at), reserved("status", address)},
		{"a status that only a proxy outside serves", service(named("a", "b"), class, at, func(s *v1.Service) {
			s.Status.LoadBalancer.Ingress[0].IPMode = new(v1.LoadBalancerIPModeProxy)
		}), nil},
		{"a status with a name", service(named("a", "b"), class, func(s *v1.Service) {
			s.Status.LoadBalancer.Ingress = []v1.LoadBalancerIngress{{Hostname: "lb.example.com"}}
		}), nil},
		{"a status of ours", service(named("a", "b"), at), nil},
		{"a status of ours that is ending", service(named("a", "b"), at, finalized, class), nil},
		{"another port", service(named("a", "b"), external(address), port(443)), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := selection{}.portUseOf([]*v1.Service{service(), tt.service}).reserved
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("reserved (-want +got):\n%s", diff)
			}
		})
	}
}
