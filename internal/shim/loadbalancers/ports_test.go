// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// isReserved tells whether a port is in one of the ranges, and what the first of them says of it.
func isReserved(reserved []*backendv1.ReservedPorts, port int32) (purpose string, is bool) {
	for _, r := range reserved {
		if r.GetFirstPort() <= port && port <= max(r.GetFirstPort(), r.GetLastPort()) {
			return r.GetPurpose(), true
		}
	}
	return "", false
}

func TestTheDefaultReservedPorts(t *testing.T) {
	reserved, err := ParseReservedPorts(DefaultReservedPorts)
	if err != nil {
		t.Fatal(err)
	}
	want := map[int32]string{
		22: "SSH", 2379: "etcd", 2380: "etcd", 6443: "the API server", 10250: "the kubelet",
		10256: "kube-proxy", 10257: "kube-controller-manager",
		10258: "the cloud controller manager", 10259: "kube-scheduler",
	}
	got := make(map[int32]string)
	for port := int32(1); port <= maxPort; port++ {
		if purpose, is := isReserved(reserved, port); is {
			got[port] = purpose
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reserved (-want +got):\n%s", diff)
	}
}

func TestListsOfPorts(t *testing.T) {
	for _, tt := range []struct {
		name, list string
		// in and out are ports that are reserved and that are not; an error has wantErr in it.
		in, out []int32
		wantErr string
	}{
		{"nothing", "", nil, []int32{1, 22, 65535}, ""},
		{"commas and spaces", " , 80 ,, 443 ", []int32{80, 443}, []int32{81}, ""},
		{"one port", "8080", []int32{8080}, []int32{8079, 8081}, ""},
		{"a range", "8000-8002", []int32{8000, 8001, 8002}, []int32{7999, 8003}, ""},
		{"a range of one", "8000-8000", []int32{8000}, []int32{8001}, ""},
		{"everything", "1-65535", []int32{1, 22, 65535}, nil, ""},
		{"ranges that overlap", "80-90,85-95", []int32{80, 95}, []int32{96}, ""},
		{"no port", "ssh", nil, nil, `"ssh"`},
		{"zero", "22,0", nil, nil, `"0"`},
		{"too high", "65536", nil, nil, `"65536"`},
		{"far too high", "99999999999999999999", nil, nil, "99999999999999999999"},
		{"negative", "-1", nil, nil, `"-1"`},
		{"signed", "+22", nil, nil, `"+22"`},
		{"backwards", "90-80", nil, nil, `"90-80"`},
		{"a range without an end", "80-", nil, nil, `"80-"`},
		{"a range of three", "80-85-90", nil, nil, `"80-85-90"`},
		{"with a protocol", "80/TCP", nil, nil, `"80/TCP"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reserved, err := ParseReservedPorts(tt.list)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) ||
					!strings.Contains(err.Error(), "2379-2380") {
					t.Errorf("the error is %v, want %s and an example in it", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, port := range tt.in {
				if _, is := isReserved(reserved, port); !is {
					t.Errorf("%d is not reserved", port)
				}
			}
			for _, port := range tt.out {
				if _, is := isReserved(reserved, port); is {
					t.Errorf("%d is reserved", port)
				}
			}
		})
	}
}

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
			got := nodePorts(tt.services, servedPorts(tt.services))
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
	udp := hostPod("proxy", "worker-1", 80)
	udp.Spec.Containers[0].Ports[0].Protocol = v1.ProtocolUDP
	sidecar := hostPod("proxy", "worker-1", 443)
	sidecar.Spec.InitContainers, sidecar.Spec.Containers = sidecar.Spec.Containers, nil
	for _, tt := range []struct {
		name     string
		services []*v1.Service
		pods     []*v1.Pod
		want     []*backendv1.UsedPort
	}{
		{"none", nil, nil, nil},
		{"only ports that a load balancer serves are told", nil,
			[]*v1.Pod{hostPod("proxy", "worker-1", 80, 443, 8080)},
			[]*backendv1.UsedPort{used(80, "the pod shop/proxy"), used(443, "the pod shop/proxy")}},
		{"of containers that begin before the others, too", nil, []*v1.Pod{sidecar},
			[]*backendv1.UsedPort{used(443, "the pod shop/proxy")}},
		{"several pods, in order", nil,
			[]*v1.Pod{hostPod("z", "worker-1", 443), hostPod("y", "worker-1", 80), hostPod("a", "worker-1", 80)},
			[]*backendv1.UsedPort{used(80, "the pod shop/a"), used(80, "the pod shop/y"),
				used(443, "the pod shop/z")}},
		{"a pod with a network of its own", nil, []*v1.Pod{podNetwork}, nil},
		{"another protocol", nil, []*v1.Pod{udp}, nil},
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
			nodes := []*v1.Node{node("worker-1", id1), node("worker-3", id3), node("worker-2", "")}
			services := append(tt.services, service(named("else", "both"), port(80, 443)))
			list := candidates(nodes, nil, "")
			addUsedPorts(list, nodes, tt.pods, services, servedPorts(services))
			if diff := cmp.Diff(tt.want, list[0].GetUsedPorts(), protocmp.Transform()); diff != "" {
				t.Errorf("used ports (-want +got):\n%s", diff)
			}
			if got := list[1].GetUsedPorts(); got != nil {
				t.Errorf("another node's used ports are %v", got)
			}
		})
	}
}
