// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// tellKept prints how to look around in what is left running, and how to end it.
func (d *demo) tellKept(ctx context.Context) error {
	request, err := d.planRequest(ctx)
	if err != nil {
		return err
	}
	file := filepath.Join(d.dir, "plan.json")
	if err := os.WriteFile(file, request, 0o600); err != nil {
		return fmt.Errorf("cannot write an example for grpcurl: %w", err)
	}
	c := d.console
	c.title("It is left running; to look around (with any recent kubectl):")
	c.line("export KUBECONFIG=%s", d.cluster.AdminKubeconfig)
	c.line("kubectl get nodes,services --all-namespaces --output wide")

	c.title("To ask the backend, from the root of the repository:")
	const grpcurl = "GOWORK=off go tool -modfile=tools/go.mod grpcurl -plaintext -unix"
	const api = "oxide.backend.v1"
	socket := strings.TrimPrefix(d.ccm.Socket, "unix://")
	c.line("export SOCKET=%s OXIDE_BACKEND_SOCKET=%s", socket, socket)
	c.line("%s status", d.programs.Backend)
	c.line("%s $SOCKET list", grpcurl)
	c.line("%s $SOCKET %s.BackendService/GetInfo", grpcurl, api)
	c.line("%s $SOCKET %s.InstanceService/ListInstances", grpcurl, api)

	c.title("What would it do for one more Service? A plan writes nothing:")
	c.line(`%s -d @ $SOCKET \`, grpcurl)
	c.line("  %s.LoadBalancerService/PlanLoadBalancers < %s", api, file)

	c.title("To ask the simulated rack:")
	c.line(`curl --header "Authorization: Bearer %s" \`, rack.Token)
	c.line(`  "%s/v1/floating-ips?project=%s"`, d.rack.URL, rack.Project)

	c.title("To end it:")
	var pids []string
	for _, p := range slices.Backward(d.group.Running()) {
		pids = append(pids, strconv.Itoa(p.PID()))
	}
	// Asked to end while etcd ends, kube-apiserver would go on for a while.
	c.line("kill -9 %s; rm -r %s", strings.Join(pids, " "), d.dir)
	return nil
}

// readiness returns the Readiness of the API for what a Node's conditions say.
func readiness(conditions []corev1.NodeCondition) string {
	for _, condition := range conditions {
		if condition.Type != corev1.NodeReady {
			continue
		}
		switch condition.Status {
		case corev1.ConditionTrue:
			return "READINESS_READY"
		case corev1.ConditionFalse:
			return "READINESS_NOT_READY"
		case corev1.ConditionUnknown:
		}
	}
	return "READINESS_UNKNOWN"
}

// planRequest returns a PlanLoadBalancersRequest in JSON: a set of one load balancer, with all Nodes as
// candidates.
func (d *demo) planRequest(ctx context.Context) ([]byte, error) {
	namespace, err := d.cluster.Client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem,
		metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("the namespace kube-system cannot be read: %w", err)
	}
	nodes, err := d.cluster.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("the Nodes cannot be read: %w", err)
	}
	type object = map[string]any
	candidates := make([]object, 0, len(nodes.Items))
	for _, node := range nodes.Items {
		candidates = append(candidates, object{
			"instance_id":  strings.TrimPrefix(node.Spec.ProviderID, "oxide://"),
			"display_name": node.Name,
			"readiness":    readiness(node.Status.Conditions),
		})
	}
	const name = "default/one-more"
	scope := string(namespace.UID)
	return json.MarshalIndent(object{
		"set": object{
			"open":       object{"scope": scope},
			"candidates": candidates,
			"load_balancers": []object{{
				"key":        object{"scope": scope, "name": name},
				"owner_uid":  "00000000-0000-4000-8000-000000000001",
				"generation": 1,
				"addresses":  []object{{"family": "IP_FAMILY_IPV4", "floating_ip": object{}}},
				"ports":      []object{{"protocol": "PROTOCOL_TCP", "port": 8080}},
			}},
		},
		"explain_names": []string{name},
	}, "", "  ")
}
