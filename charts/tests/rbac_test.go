// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// need is one thing that the shim asks of the API server, and which part of it asks.
type need struct {
	verb, group, resource, name string
	usedBy                      string
}

var clusterNeeds = []need{
	{"get", "", "nodes", "", "the framework's label and taint helpers, before each patch"},
	{"list", "", "nodes", "", "the shared informers"},
	{"watch", "", "nodes", "", "the shared informers"},
	{"patch", "", "nodes", "", "the framework's label and taint helpers, and the labels"},
	{"update", "", "nodes", "", "the node controller: provider ID, taint, labels"},
	{"delete", "", "nodes", "", "the node lifecycle controller"},
	{"patch", "", "nodes/status", "", "the node controller: addresses"},
	{"list", "", "services", "", "the shared informers"},
	{"watch", "", "services", "", "the shared informers"},
	{"patch", "", "services/status", "", "the controllers of Services: finalizers and addresses"},
	{"list", "", "pods", "", "the load balancer controller: ports of their nodes that pods use"},
	{"watch", "", "pods", "", "the load balancer controller: ports of their nodes that pods use"},
	{"list", "discovery.k8s.io", "endpointslices", "", "Services with externalTrafficPolicy Local"},
	{"watch", "discovery.k8s.io", "endpointslices", "", "Services with externalTrafficPolicy Local"},
	{"create", "", "events", "", "the event recorder"},
	{"patch", "", "events", "", "the event recorder: repeated events"},
	{"create", "authentication.k8s.io", "tokenreviews", "", "/metrics: who asks"},
	{"create", "authorization.k8s.io", "subjectaccessreviews", "", "/metrics: whether they may"},
}

var kubeSystemNeeds = []need{
	{"get", "", "namespaces", "kube-system", "the cluster's id"},
	{"create", "coordination.k8s.io", "leases", "", "leader election"},
	{"get", "coordination.k8s.io", "leases", "cloud-controller-manager", "leader election"},
	{"update", "coordination.k8s.io", "leases", "cloud-controller-manager", "leader election"},
}

var nodeLeaseNeeds = []need{
	{"get", "coordination.k8s.io", "leases", "", "the probes: whether a kubelet renews its lease"},
}

// forServices are the resources that only load balancers need.
var forServices = []string{"services", "services/status", "pods", "endpointslices", "namespaces"}

// withoutServices are the needs that remain where load balancers are off.
func withoutServices(needs []need) []need {
	return slices.DeleteFunc(slices.Clone(needs), func(n need) bool {
		return slices.Contains(forServices, n.resource)
	})
}

func TestRightsAreExactlyWhatIsUsed(t *testing.T) {
	all, classed := render(t, ""), render(t, "loadBalancers: {classedOnly: true}")
	nodes := render(t, noLoadBalancers)
	tests := []struct {
		name  string
		rules []rbacv1.PolicyRule
		needs []need
	}{
		{"in the whole cluster", all.clusterRole.Rules, clusterNeeds},
		{"in kube-system", all.role.Rules, kubeSystemNeeds},
		{"in kube-node-lease", all.leaseRole.Rules, nodeLeaseNeeds},
		{"in the whole cluster, for classes alone", classed.clusterRole.Rules, clusterNeeds},
		{"in the whole cluster, for nodes alone", nodes.clusterRole.Rules, withoutServices(clusterNeeds)},
		{"in kube-system, for nodes alone", nodes.role.Rules, withoutServices(kubeSystemNeeds)},
	}
	if nodes.leaseRole != nil {
		t.Errorf("for nodes alone there is a role in kube-node-lease: %v", nodes.leaseRole.Rules)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, missing := range lacking(test.rules, test.needs) {
				t.Errorf("not allowed: %s", missing)
			}
			var wanted []rbacv1.PolicyRule
			for _, need := range test.needs {
				wanted = append(wanted, need.rule())
			}
			if ok, extra := validation.Covers(wanted, test.rules); !ok {
				t.Errorf("allowed, but used by nothing: %v", extra)
			}
		})
	}
}

func TestEveryRuleIsNeeded(t *testing.T) {
	all := render(t, "")
	check := func(t *testing.T, rules []rbacv1.PolicyRule, needs []need) {
		for i := range rules {
			if len(lacking(slices.Delete(slices.Clone(rules), i, i+1), needs)) == 0 {
				t.Errorf("nothing is lost without the rule %v", rules[i])
			}
		}
	}
	check(t, all.clusterRole.Rules, clusterNeeds)
	check(t, all.role.Rules, kubeSystemNeeds)
	check(t, all.leaseRole.Rules, nodeLeaseNeeds)
}

func TestNoRightIsAWildcard(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			all := render(t, variant.values, variant.args...)
			for _, rule := range all.rules() {
				for _, names := range [][]string{
					rule.Verbs, rule.APIGroups, rule.Resources, rule.NonResourceURLs,
				} {
					if slices.ContainsFunc(names, hasStar) {
						t.Errorf("wildcard in %v", rule)
					}
				}
			}
		})
	}
}

func TestRightsGoToTheShimsServiceAccountOnly(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			all := render(t, variant.values, variant.args...)
			account := all.deployment.Spec.Template.Spec.ServiceAccountName
			if account == "" || account != all.serviceAccount.Name {
				t.Errorf("the pod runs as %q, the chart makes %q", account, all.serviceAccount.Name)
			}
			want := []rbacv1.Subject{{
				Kind: rbacv1.ServiceAccountKind, Name: account, Namespace: namespace,
			}}
			type binding struct {
				Namespace, Kind, Role string
				Subjects              []rbacv1.Subject
			}
			got := []binding{{
				"", all.clusterRoleBinding.RoleRef.Kind, all.clusterRoleBinding.RoleRef.Name,
				all.clusterRoleBinding.Subjects,
			}}
			for _, each := range all.roleBindings {
				got = append(got, binding{
					each.Namespace, each.RoleRef.Kind, each.RoleRef.Name, each.Subjects,
				})
			}
			bindings := []binding{
				{"", "ClusterRole", all.clusterRole.Name, want},
				{"kube-system", "Role", "extension-apiserver-authentication-reader", want},
			}
			if all.role != nil {
				bindings = append(bindings, binding{"kube-system", "Role", all.role.Name, want})
			}
			if all.constraintRole != nil {
				bindings = append(bindings, binding{namespace, "Role", all.constraintRole.Name, want})
			}
			if all.leaseRole != nil {
				bindings = append(bindings, binding{"kube-node-lease", "Role", all.leaseRole.Name, want})
			}
			sort := cmpopts.SortSlices(func(a, b binding) bool {
				return a.Namespace+a.Role < b.Namespace+b.Role
			})
			if diff := cmp.Diff(bindings, got, sort); diff != "" {
				t.Errorf("bindings (-want +got):\n%s", diff)
			}
		})
	}
}

// The lease and the cluster's identity are kube-system's, wherever the release is.
func TestAnotherNamespaceKeepsLeaseAndIdentityInKubeSystem(t *testing.T) {
	all := render(t, "", "--namespace", "oxide")
	if got := all.deployment.Namespace; got != "oxide" {
		t.Errorf("the Deployment is in %q", got)
	}
	if got := all.role.Namespace; got != "kube-system" {
		t.Errorf("the Role is in %q", got)
	}
	where := map[string]int{}
	for _, binding := range all.roleBindings {
		where[binding.Namespace]++
		if binding.Subjects[0].Namespace != "oxide" {
			t.Errorf("RoleBinding %s in %q is for an account in %q",
				binding.Name, binding.Namespace, binding.Subjects[0].Namespace)
		}
	}
	if diff := cmp.Diff(map[string]int{"kube-system": 2, "kube-node-lease": 1}, where); diff != "" {
		t.Errorf("bindings by namespace (-want +got):\n%s", diff)
	}
}

func (n need) rule() rbacv1.PolicyRule {
	rule := rbacv1.PolicyRule{
		Verbs: []string{n.verb}, APIGroups: []string{n.group}, Resources: []string{n.resource},
	}
	if n.name != "" {
		rule.ResourceNames = []string{n.name}
	}
	return rule
}

func (n need) String() string {
	return n.verb + " " + n.resource + " " + n.name + " (for " + n.usedBy + ")"
}

// lacking returns the needs that the rules do not cover.
func lacking(rules []rbacv1.PolicyRule, needs []need) []need {
	var all []need
	for _, each := range needs {
		if ok, _ := validation.Covers(rules, []rbacv1.PolicyRule{each.rule()}); !ok {
			all = append(all, each)
		}
	}
	return all
}

func hasStar(s string) bool { return slices.Contains([]byte(s), '*') }
