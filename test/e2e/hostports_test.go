// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
)

// hostNetworkPod makes a pod that runs in the network of a node.
func (e *environment) hostNetworkPod(name, node string, port int32) {
	e.Helper()
	e.pod(name, node, corev1.ContainerPort{ContainerPort: port, HostPort: port},
		func(spec *corev1.PodSpec) { spec.HostNetwork = true })
}

// pod makes a pod that runs on a node.
func (e *environment) pod(
	name, node string, port corev1.ContainerPort, change ...func(*corev1.PodSpec),
) {
	e.Helper()
	never := false
	core := e.client.CoreV1()
	// Nobody makes it here.
	_, err := core.ServiceAccounts("default").Create(e.Context(), &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
	}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		e.must(err)
	}
	spec := corev1.PodSpec{
		NodeName: node, AutomountServiceAccountToken: &never,
		Containers: []corev1.Container{{
			Name: "agent", Image: "agent", Ports: []corev1.ContainerPort{port},
		}},
	}
	for _, c := range change {
		c(&spec)
	}
	pod, err := core.Pods("default").Create(e.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "agent"}},
		Spec:       spec,
	}, metav1.CreateOptions{})
	e.must(err)
	pod.Status.Phase = corev1.PodRunning
	_, err = core.Pods("default").UpdateStatus(e.Context(), pod, metav1.UpdateOptions{})
	e.must(err)
}

// hostPort is a port of a pod with a network of its own that is forwarded on an address of its
// node.
func hostPort(port int32, hostIP string) corev1.ContainerPort {
	return corev1.ContainerPort{ContainerPort: 8080, HostPort: port, HostIP: hostIP}
}

// Invariant 4: a node on which a port leads to something else, in whichever way, gets no Service
// with that port: here node-a, whose private address is 172.30.0.11.
func TestAPortThatLeadsElsewhereOnANodeIsRefusedThere(t *testing.T) {
	const onNodeA = "172.30.0.11"
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	e.pod("forwarded", "node-a", hostPort(9200, ""))
	e.pod("loopback", "node-b", hostPort(9200, "127.0.0.1"))
	e.pod("every", "node-a", hostPort(9210, "0.0.0.0"))
	e.pod("this", "node-a", hostPort(9220, onNodeA))
	always := corev1.ContainerRestartPolicyAlways
	e.pod("sidecar", "node-a", corev1.ContainerPort{ContainerPort: 8080}, func(s *corev1.PodSpec) {
		s.InitContainers = []corev1.Container{{
			Name: "proxy", Image: "proxy", RestartPolicy: &always,
			Ports: []corev1.ContainerPort{hostPort(9230, "")},
		}}
	})
	external := objects.LoadBalancer("default", "external", objects.TCP(9240))
	external.Spec.Type, external.Spec.ExternalIPs = corev1.ServiceTypeClusterIP, []string{onNodeA}
	e.createService(external)
	class := "example.com/other"
	others := objects.LoadBalancer("default", "others", objects.TCP(9250))
	others.Spec.LoadBalancerClass = &class
	others.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: onNodeA}}
	e.createService(others)

	for name, tc := range map[string]struct {
		port int32
		says string
	}{
		"host-port":             {9200, "TCP 9200 is used by the pod default/forwarded"},
		"on-all-addresses":      {9210, "TCP 9210 is used by the pod default/every"},
		"on-the-node-s-address": {9220, "TCP 9220 is used by the pod default/this"},
		"of-a-sidecar":          {9230, "TCP 9230 is used by the pod default/sidecar"},
		"external-ips": {9240, "TCP 9240 is reserved for the externalIPs of the Service " +
			"default/external on " + onNodeA},
		"status": {9250, "TCP 9250 is reserved for the status of the Service default/others on " +
			onNodeA},
	} {
		t.Run(name, func(t *testing.T) {
			e := e.within(t)
			e.create(name, objects.TCP(tc.port))
			address := e.served(name)
			if node := e.nodeOf(address); node != "node-b" {
				t.Errorf("the address is on %s, where the port leads elsewhere", node)
			}
			// On the only node that is left there is no place.
			e.createWith("second-"+name, "node-selector", "kubernetes.io/hostname=node-a",
				objects.TCP(tc.port))
			refused := e.reserved("second-" + name)
			e.warned("second-"+name, portConflict, refused, tc.says)
		})
	}
}

// Invariant 4: what is attached already stays when its port is taken, and one event says so.
func TestAnAttachedAddressStaysWhenItsPortIsTaken(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80))
	address := e.served("web")
	node := e.nodeOf(address)
	e.unchanging("web", func() {
		e.pod("ingress", node, hostPort(80, ""))
		e.warned("web", "PortRefused", address, "TCP 80 is used by the pod default/ingress",
			"the address stays")
	})
	if now := e.nodeOf(address); now != node {
		t.Errorf("the address has moved from %s to %s", node, now)
	}
}
