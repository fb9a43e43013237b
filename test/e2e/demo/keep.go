// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// tellKept prints how to look around in what is left running, and how to end it.
func (d *demo) tellKept(ctx context.Context) error {
	request, err := d.dryRunRequest(ctx)
	if err != nil {
		return err
	}
	c := d.console
	c.title("It is left running. To look around (kubectl: any recent one)")
	c.line("export KUBECONFIG=%s", d.cluster.AdminKubeconfig)
	c.line("kubectl get nodes,services --all-namespaces --output wide")
	c.title("To ask the backend, from the root of the repository")
	socket := strings.TrimPrefix(d.ccm.Socket, "unix://")
	grpcurl := "go tool -modfile=tools/go.mod grpcurl -plaintext"
	c.line("%s -unix %s list", grpcurl, socket)
	c.line("%s -unix %s oxide.backend.v1.BackendService/GetInfo", grpcurl, socket)
	c.line("%s -unix %s oxide.backend.v1.InstanceService/ListInstances", grpcurl, socket)
	c.title("What would be done for one more Service? Nothing is changed by a dry run")
	c.line(`%s -d '%s' \`, grpcurl, request)
	c.line("  -unix %s oxide.backend.v1.LoadBalancerService/EnsureLoadBalancer", socket)
	c.title("To ask the simulated rack")
	c.line("curl --header 'Authorization: Bearer %s' '%s/v1/floating-ips?project=%s'",
		rack.Token, d.rack.URL, rack.Project)
	c.title("To end it")
	pids := make([]string, 0, 5)
	for _, p := range d.group.Running() {
		pids = append([]string{strconv.Itoa(p.PID())}, pids...)
	}
	c.line("kill %s; rm -r %s", strings.Join(pids, " "), d.dir)
	return nil
}

// dryRunRequest returns an EnsureLoadBalancerRequest in JSON with all Nodes as candidates.
func (d *demo) dryRunRequest(ctx context.Context) (string, error) {
	namespace, err := d.cluster.Client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem,
		metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("the namespace kube-system cannot be read: %w", err)
	}
	nodes, err := d.cluster.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", fmt.Errorf("the Nodes cannot be read: %w", err)
	}
	type object = map[string]any
	candidates := make([]object, 0, len(nodes.Items))
	for _, node := range nodes.Items {
		candidates = append(candidates, object{
			"instance_id": strings.TrimPrefix(node.Spec.ProviderID, "oxide://"),
			"health":      "CANDIDATE_HEALTH_HEALTHY",
		})
	}
	scope := string(namespace.UID)
	request, err := json.Marshal(object{
		"dry_run": true,
		"cluster": object{"scope": scope, "candidates": candidates},
		"load_balancer": object{
			"key":       object{"scope": scope, "name": "default/one-more"},
			"owner_uid": "00000000-0000-4000-8000-000000000001",
			"addresses": []object{{"family": "IP_FAMILY_IPV4", "floating_ip": object{}}},
			"ports":     []object{{"protocol": "PROTOCOL_TCP", "port": 8080}},
		},
	})
	return string(request), err
}
