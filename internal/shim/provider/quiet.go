// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// quiet is the Provider as the framework has it. The framework logs a line for each error and each node
// that is not ready, at each of its checks, every five seconds: in a large cluster whose rack is away
// those are thousands of lines a minute. So it is not given the errors of these checks, but an answer at
// which it does nothing: the instance exists, and is not shut down. The errors are logged here, for all
// nodes together; the events on the Nodes are the Provider's.
type quiet struct {
	*Provider
	kept *keptNodes
}

var _ cloudprovider.InstancesV2 = quiet{}

// InstanceExists implements cloudprovider.InstancesV2. False is the Provider's answer alone.
func (q quiet) InstanceExists(ctx context.Context, node *v1.Node) (bool, error) {
	exists, err := q.Provider.InstanceExists(ctx, node)
	if err != nil {
		q.kept.add(node, err)
		return true, nil
	}
	q.kept.remove(node.UID)
	return exists, nil
}

// InstanceShutdown implements cloudprovider.InstancesV2. The framework asks it after InstanceExists, in
// the same check: of a node of which that was not known nothing is asked.
func (q quiet) InstanceShutdown(ctx context.Context, node *v1.Node) (bool, error) {
	if q.kept.has(node.UID) {
		return false, nil
	}
	shutdown, err := q.Provider.InstanceShutdown(ctx, node)
	if err != nil {
		q.kept.add(node, fmt.Errorf("whether its instance is shut down is not known: %w", err))
		return false, nil
	}
	return shutdown, nil
}

const (
	// joiningRetry is how often it is tried to initialize a node while no node can be.
	joiningRetry = 5 * time.Second
	// joiningWait is how long the framework is kept waiting for one node.
	joiningWait = 5 * time.Minute
)

// InstanceMetadata implements cloudprovider.InstancesV2. The framework tries again after pauses
// that double, with two lines in the log each time: after an outage of ten minutes a node that
// joined in it would wait for ten more. So what fails for a reason that concerns all nodes is tried
// again here, of the Node as it is then.
func (q quiet) InstanceMetadata(ctx context.Context, node *v1.Node,
) (*cloudprovider.InstanceMetadata, error) {
	for began := time.Now(); ; {
		metadata, err := q.Provider.InstanceMetadata(ctx, node)
		if err == nil || !IsJoining(node) || !concernsAllNodes(err) || time.Since(began) >= joiningWait {
			return metadata, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(joiningRetry):
		}
		now, changed := q.nodes.Get(node.Name)
		if changed != nil || now.UID != node.UID {
			return nil, err
		}
		node = now
	}
}

// concernsAllNodes reports whether a call failed for a reason that is not about one instance.
func concernsAllNodes(err error) bool {
	var be *client.Error
	if !errors.As(err, &be) {
		return false
	}
	switch be.Reason {
	case backendv1.ErrorReason_ERROR_REASON_UNSPECIFIED: // the backend itself is away
		return be.Code == codes.Unavailable || be.Code == codes.DeadlineExceeded
	case backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_CREDENTIALS_REJECTED,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_FORBIDDEN,
		backendv1.ErrorReason_ERROR_REASON_PROJECT_NOT_FOUND,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_API_VERSION_UNSUPPORTED,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_BAD_RESPONSE,
		backendv1.ErrorReason_ERROR_REASON_CALL_ENDED,
		backendv1.ErrorReason_ERROR_REASON_BACKEND_STOPPING:
		return true
	}
	return false
}

const (
	// keptDelay is how long the nodes of one check are gathered until they are logged.
	keptDelay = 2 * time.Second
	// keptInterval is how often they are logged at most. A node that was not checked for so long, since it
	// is ready or gone, is not among them any more.
	keptInterval = time.Minute
	// keptNamed is how many of them are named.
	keptNamed = 3
)

// keptNodes are the nodes that are not ready, and are kept because it could not be found out whether
// their instances exist. It logs them, one line for each reason, when they or the reasons change, and
// once a minute at most. Its methods may be called by any goroutine.
type keptNodes struct {
	mu    sync.Mutex
	nodes map[types.UID]keptNode
	// timer is set while there are nodes; logged is what was logged last, at loggedAt.
	timer    *time.Timer
	logged   string
	loggedAt time.Time
}

// keptNode is a node, and why it is kept.
type keptNode struct {
	name, key, why string
	checked        time.Time
}

// add records that a node is kept.
func (k *keptNodes) add(node *v1.Node, why error) {
	klog.V(4).InfoS("Kept a node that is not ready", "node", node.Name, "why", client.OneLine(why.Error()))
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.nodes == nil {
		k.nodes = make(map[types.UID]keptNode)
	}
	k.nodes[node.UID] = keptNode{node.Name, dedupKey(why), client.OneLine(why.Error()), time.Now()}
	if k.timer == nil {
		k.timer = time.AfterFunc(max(keptDelay, time.Until(k.loggedAt.Add(keptInterval))), k.log)
	}
}

// remove records that a node is no longer kept on doubt.
func (k *keptNodes) remove(uid types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.nodes, uid)
}

// has reports whether a node is kept.
func (k *keptNodes) has(uid types.UID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.nodes[uid]
	return ok
}

// log logs the nodes if something has changed, and does so again later while there are any.
func (k *keptNodes) log() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(k.nodes, func(_ types.UID, n keptNode) bool {
		return now.Sub(n.checked) >= keptInterval
	})
	groups := make(map[string][]keptNode)
	for _, each := range k.nodes {
		groups[each.key] = append(groups[each.key], each)
	}
	var state strings.Builder
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		slices.SortFunc(groups[key], func(a, b keptNode) int { return cmp.Compare(a.name, b.name) })
		fmt.Fprint(&state, key, names(groups[key], len(groups[key])), ";")
	}
	k.timer = nil
	if len(k.nodes) > 0 {
		k.timer = time.AfterFunc(keptInterval, k.log)
	}
	if state.String() == k.logged {
		return
	}
	k.logged, k.loggedAt = state.String(), now
	if len(groups) == 0 {
		klog.InfoS("No node that is not ready is kept on doubt any more")
	}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		group := groups[key]
		klog.ErrorS(nil, "Nodes that are not ready are kept", "count", len(group),
			"nodes", names(group, keptNamed), "why", group[0].why)
	}
}

// names names some nodes, and says how many others there are.
func names(nodes []keptNode, most int) string {
	all := make([]string, 0, most+1)
	for _, each := range nodes[:min(most, len(nodes))] {
		all = append(all, each.name)
	}
	if more := len(nodes) - most; more > 0 {
		all = append(all, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, ", ")
}
