// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package objects

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
)

// UninitializedTaint is the key of the taint with which a kubelet registers a Node that a cloud
// controller manager has to initialize.
const UninitializedTaint = "node.cloudprovider.kubernetes.io/uninitialized"

// ReadyCondition is the type of the condition in which a Service says whether it is served.
const ReadyCondition = "oxide.computer/LoadBalancerReady"

// Node returns a Node as a kubelet registers it with --cloud-provider=external: tainted, without a
// provider ID, its host name its only address. It is Ready already.
func Node(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:   name,
			Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelOSStable: "linux"},
		},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{{
			Key: UninitializedTaint, Value: "true", Effect: corev1.TaintEffectNoSchedule,
		}}},
		Status: corev1.NodeStatus{
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}},
			Conditions: []corev1.NodeCondition{ready(corev1.ConditionTrue)},
		},
	}
}

// ready returns the condition that a kubelet, or the controller that misses it, reports.
func ready(status corev1.ConditionStatus) corev1.NodeCondition {
	now := metav1.NewTime(time.Now())
	condition := corev1.NodeCondition{
		Type: corev1.NodeReady, Status: status, LastHeartbeatTime: now, LastTransitionTime: now,
		Reason: "KubeletReady", Message: "kubelet is posting ready status",
	}
	switch status {
	case corev1.ConditionFalse:
		condition.Reason, condition.Message = "KubeletNotReady", "kubelet is not ready"
	case corev1.ConditionUnknown:
		condition.Reason, condition.Message = "NodeStatusUnknown", "kubelet stopped posting status"
	}
	return condition
}

// SetReady changes the Ready condition of a Node, as a kubelet or its absence would.
func SetReady(
	ctx context.Context, client kubernetes.Interface, name string, status corev1.ConditionStatus,
) error {
	nodes := client.CoreV1().Nodes()
	err := Change(ctx, name, nodes.Get, nodes.UpdateStatus, func(node *corev1.Node) {
		others := make([]corev1.NodeCondition, 0, len(node.Status.Conditions))
		for _, condition := range node.Status.Conditions {
			if condition.Type != corev1.NodeReady {
				others = append(others, condition)
			}
		}
		node.Status.Conditions = append(others, ready(status))
	})
	if err != nil {
		return fmt.Errorf("cannot set Ready=%s on node %s: %w", status, name, err)
	}
	return nil
}

// Change reads an object, changes it and writes it, and begins again where somebody else has written
// it in between. Get and write are methods of one client of client-go, such as Get and UpdateStatus.
func Change[T any](
	ctx context.Context, name string,
	get func(context.Context, string, metav1.GetOptions) (T, error),
	write func(context.Context, T, metav1.UpdateOptions) (T, error),
	change func(T),
) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		object, err := get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(object)
		_, err = write(ctx, object, metav1.UpdateOptions{})
		return err
	})
}

// HasTaint tells whether a Node has a taint with this key.
func HasTaint(node *corev1.Node, key string) bool {
	for _, taint := range node.Spec.Taints {
		if taint.Key == key {
			return true
		}
	}
	return false
}

// EventsOf returns the events on this very Node, with the given reason.
func EventsOf(
	ctx context.Context, client kubernetes.Interface, node *corev1.Node, reason string,
) ([]corev1.Event, error) {
	list, err := client.CoreV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.uid=" + string(node.UID) + ",reason=" + reason,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the events on node %s: %w", node.Name, err)
	}
	return list.Items, nil
}

// LoadBalancer returns a Service of type LoadBalancer, single-stack IPv4, for these ports.
func LoadBalancer(namespace, name string, ports ...corev1.ServicePort) *corev1.Service {
	policy := corev1.IPFamilyPolicySingleStack
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Ports: ports,
			Selector:       map[string]string{"app": name},
			IPFamilies:     []corev1.IPFamily{corev1.IPv4Protocol},
			IPFamilyPolicy: &policy,
		},
	}
}

// TCP returns a service port.
func TCP(port int32) corev1.ServicePort { return servicePort(corev1.ProtocolTCP, port) }

// UDP returns a service port.
func UDP(port int32) corev1.ServicePort { return servicePort(corev1.ProtocolUDP, port) }

func servicePort(protocol corev1.Protocol, port int32) corev1.ServicePort {
	return corev1.ServicePort{
		Name:     fmt.Sprintf("port-%d", port),
		Protocol: protocol, Port: port, TargetPort: intstr.FromInt32(8000 + port%1000),
	}
}
