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

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// nodes are the candidates of a plan, by what people call them.
type nodes struct {
	*names
	// ids are the ids by each name of a candidate: the one that its owner knows, and that in Oxide.
	ids map[string]string
}

// nodesOf returns the candidates of a plan, and the names of all instances that it has to do with. Those
// of instances that are no candidates are read.
func nodesOf(
	ctx context.Context, c *connection, scope string, planned *backendv1.PlanLoadBalancersResponse,
) (*nodes, error) {
	n := &nodes{names: namesOfInstances(scope, nil), ids: make(map[string]string)}
	candidates := planned.GetCandidates()
	for _, candidate := range candidates {
		name := cmp.Or(candidate.GetDisplayName(), candidate.GetInstanceName())
		n.instances[candidate.GetInstanceId()] = name
	}
	if len(candidates) == 0 || mentionsOthers(planned, n.instances) {
		all, err := readNames(ctx, c, scope, nil)
		if err != nil {
			return nil, err
		}
		maps.Copy(all.instances, n.instances)
		if n.names = all; len(candidates) == 0 { // as from a backend before revision 8 of the API
			for id, name := range all.instances {
				n.ids[name] = id
			}
		}
	}
	for _, candidate := range candidates {
		n.ids[candidate.GetInstanceName()] = candidate.GetInstanceId()
	}
	for _, candidate := range candidates { // this is the better name, where one node has that of another
		n.ids[candidate.GetDisplayName()] = candidate.GetInstanceId()
	}
	delete(n.ids, "")
	return n, nil
}

// mentionsOthers reports whether a plan has to do with an instance that is not among some.
func mentionsOthers(planned *backendv1.PlanLoadBalancersResponse, known map[string]string) bool {
	isOther := func(id string) bool { return id != "" && known[id] == "" }
	for _, action := range planned.GetActions() {
		if isOther(action.GetInstanceId()) {
			return true
		}
	}
	for _, lb := range planned.GetLoadBalancers() {
		for _, address := range lb.GetLoadBalancer().GetAddresses() {
			if isOther(address.GetAttachment().GetInstanceId()) {
				return true
			}
		}
	}
	return false
}

// find returns the id of the node that somebody calls by a name or id.
func (n *nodes) find(called string) (string, error) {
	if id, ok := n.ids[called]; ok {
		return id, nil
	}
	names := slices.Sorted(maps.Keys(n.ids))
	for _, name := range names {
		if n.ids[name] == called {
			return called, nil
		}
	}
	switch {
	case len(names) == 0:
		return "", usagef("there is no node %.100q, nor any other", called)
	case len(nearest(called, names)) == 0:
		return "", usagef("there is no node %.100q: the nodes are %s", called, shortList(names))
	}
	return "", unknown("node", called, names)
}

// findAll returns the ids of the nodes that a flag names, or all that is wrong with it.
func (n *nodes) findAll(flag string, called []string) (map[string]bool, error) {
	ids := make(map[string]bool, len(called))
	var wrong []error
	for _, name := range called {
		id, err := n.find(strings.TrimSpace(name))
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		ids[id] = true
	}
	if len(wrong) > 0 {
		usage := new(process.UsageError)
		for _, err := range wrong {
			usage.Errs = append(usage.Errs, prefixed(flag, err))
		}
		return nil, usage
	}
	return ids, nil
}
