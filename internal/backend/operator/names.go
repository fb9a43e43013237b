// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// names are what people call instances and load balancers.
type names struct {
	// scope is whose load balancers go by their names alone; those of others have their scope before them.
	scope string
	// instances are by id, as people know them; inOxide are as Oxide names them.
	instances, inOxide map[string]string
}

// readNames returns the names of all instances of the project, with those that the owners of some
// scopes, whose sessions are in the backend, know them by.
func readNames(ctx context.Context, c *connection, scope string, acting []string) (*names, error) {
	all, err := listInstances(ctx, c, &backendv1.ListInstancesRequest{
		View: backendv1.InstanceView_INSTANCE_VIEW_BASIC,
	})
	if err != nil {
		return nil, err
	}
	n := namesOfInstances(scope, all)
	for _, scope := range acting {
		plan, err := planOf(ctx, c, scope)
		if err != nil {
			return nil, err
		}
		n.learn(plan.GetCandidates()...)
	}
	return n, nil
}

func namesOfInstances(scope string, all []*backendv1.Instance) *names {
	n := &names{scope: scope, instances: make(map[string]string, len(all))}
	for _, instance := range all {
		n.instances[instance.GetId()] = instance.GetName()
	}
	n.inOxide = maps.Clone(n.instances)
	return n
}

// learn takes the names by which the owner of load balancers knows its candidates, which are better
// known than those in Oxide: for Kubernetes those of its Nodes.
func (n *names) learn(candidates ...*backendv1.PlannedCandidate) {
	for _, candidate := range candidates {
		name := cmp.Or(candidate.GetDisplayName(), candidate.GetInstanceName())
		if name != "" {
			n.instances[candidate.GetInstanceId()] = name
		}
	}
}

// instance returns the name of an instance, or its id where no name is known.
func (n *names) instance(id string) string { return cmp.Or(n.instances[id], id) }

// at returns the name of the instance that an address is attached to; empty: none.
func (n *names) at(attachment *backendv1.Attachment) string {
	return n.instance(attachment.GetInstanceId())
}

// loadBalancer returns the name that the owner of a load balancer knows it by.
func (n *names) loadBalancer(key *backendv1.LoadBalancerKey) string {
	if key.GetScope() == n.scope || key.GetScope() == "" {
		return key.GetName()
	}
	return key.GetName() + " of " + key.GetScope()
}

// find returns the id of the instance that somebody calls by a name or id.
func (n *names) find(called string) (string, error) {
	var all []string
	for _, known := range []map[string]string{n.instances, n.inOxide} {
		if _, ok := known[called]; ok {
			return called, nil
		}
		for _, id := range slices.Sorted(maps.Keys(known)) {
			if known[id] == called {
				return id, nil
			}
		}
		all = slices.AppendSeq(all, maps.Values(known))
	}
	return "", unknown("instance", called, all)
}

// unknown is the error for a name that nothing has. It offers the nearest ones.
func unknown(kind, name string, all []string) error {
	if near := nearest(name, all); len(near) > 0 {
		return usagef("there is no %s %.100q: do you mean %s?", kind, name, strings.Join(near, " or "))
	}
	return usagef("there is no %s %.100q", kind, name)
}

// maxOffered is how many names are offered instead of a wrong one.
const maxOffered = 3

// nearest returns the names that are most like another one, the nearest first; none that is unlike it.
func nearest(name string, all []string) []string {
	type near struct {
		name string
		far  int
	}
	var found []near
	for _, candidate := range all {
		far := distance(name, candidate)
		if len(name) >= 3 && strings.Contains(candidate, name) {
			far = min(far, 1)
		}
		if far <= max(len(name), len(candidate))/3 {
			found = append(found, near{candidate, far})
		}
	}
	slices.SortFunc(found, func(a, b near) int {
		return cmp.Or(a.far-b.far, strings.Compare(a.name, b.name))
	})
	offered := make([]string, 0, maxOffered)
	for _, f := range slices.Compact(found) {
		if len(offered) < maxOffered {
			offered = append(offered, f.name)
		}
	}
	return offered
}

// distance is how many bytes have to be inserted, removed or replaced to make one text another.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
