// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/cloud-provider/api"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/events"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/instances/instancestest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestMain(m *testing.M) {
	// Once for all tests: what still ends after one of them may log.
	klog.SetLogger(funcr.New(logged.note, funcr.Options{}))
	// The logger's flush daemon lives as long as the program.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// logged is what was logged so far.
var logged log

type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) note(_, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

// since returns the lines with a text in them that were logged after so many, and how many there are
// altogether.
func (l *log) since(mark int, text string) ([]string, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for _, line := range l.lines[mark:] {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found, len(l.lines)
}

const (
	scope = "cccccccc-0000-4000-8000-000000000001"

	id1 = "11111111-1111-4111-8111-111111111111"
	id2 = "22222222-2222-4222-8222-222222222222"
	id3 = "33333333-3333-4333-8333-333333333333"
)

// peer is a backend as its API describes one. Of load balancers it knows what the test answers.
type peer struct {
	backendv1.UnsafeLoadBalancerServiceServer

	// failure is the answer to every call, if it is set.
	failure error

	// failures are the answers to the first calls.
	failures []error

	// needsSet: it was not told the full set, and wants to be before it changes anything. If it
	// forgets, it does so once it was told.
	needsSet, forgets bool

	lb      *backendv1.LoadBalancer
	actions []*backendv1.Action
	orphans []*backendv1.LoadBalancer

	// looks answer dry runs of ReconcileLoadBalancers, and changes the others.
	looks, changes func(*backendv1.ReconcileLoadBalancersRequest) *backendv1.ReconcileLoadBalancersResponse
	events         *backendtest.Events

	// instances knows nothing of any instance.
	instances *instances.Follower

	mu       sync.Mutex
	requests []proto.Message
}

// newPeer starts a backend on a socket, and returns a controller that talks to it, of a cluster that
// has the given Nodes and Services.
func newPeer(t *testing.T, objects ...metav1.Object) (*peer, *Controller) {
	t.Helper()
	b := &peer{events: &backendtest.Events{}, instances: unknownInstances()}
	conn := backendtest.Serve(t, func(s *grpc.Server) {
		backendv1.RegisterLoadBalancerServiceServer(s, b)
	})
	c := New(Config{
		Backend: backendv1.NewLoadBalancerServiceClient(conn), ClusterID: scope,
		Instances: b.instances, Reporter: events.NewReporter(b.events),
		Pace: Pace{Interval: time.Hour, Retry: time.Millisecond},
	})
	list(t, c, objects...)
	return b, c
}

// unknownInstances follows no instances, so that Nodes are judged by what they say themselves.
func unknownInstances() *instances.Follower { return instances.New(instancestest.NewPeer(), false) }

// factsOf returns what the caches would say of these Nodes and Services.
func factsOf(nodes []*v1.Node, services ...*v1.Service) facts {
	f := facts{
		scope: scope, nodes: nodes, services: services,
		endpoints: func(*v1.Service) (map[string]bool, error) { return nil, errEndpointsUnknown },
	}
	f.verdicts, f.next = (&healthJudge{instances: unknownInstances()}).judge(nodes)
	return f
}

// list makes these the Nodes and Services of the cluster.
func list(t *testing.T, c *Controller, objects ...metav1.Object) {
	t.Helper()
	nodes := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	services := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{
		cache.NamespaceIndex: cache.MetaNamespaceIndexFunc,
	})
	for _, object := range objects {
		indexer := services
		if _, ok := object.(*v1.Node); ok {
			indexer = nodes
		}
		if err := indexer.Add(object); err != nil {
			t.Fatal(err)
		}
	}
	c.nodes, c.services = corelisters.NewNodeLister(nodes), corelisters.NewServiceLister(services)
}

func retryInfo(d time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(d)}
}

// checkRetry checks how the service controller would retry after an error; 0: with its own delays.
func checkRetry(t *testing.T, err error, want time.Duration) {
	t.Helper()
	var retry *api.RetryError
	switch found := errors.As(err, &retry); {
	case found && want == 0:
		t.Errorf("retried after %s, want the framework's own delays", retry.RetryAfter())
	case !found && want > 0:
		t.Errorf("retried with the framework's own delays, want after %s", want)
	case found && retry.RetryAfter() != want:
		t.Errorf("retried after %s, want after %s", retry.RetryAfter(), want)
	}
}

// received notes a request; mutation says that it may need the full set.
func (b *peer) received(request proto.Message, mutation bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests = append(b.requests, request)
	if len(b.failures) > 0 {
		err := b.failures[0]
		b.failures = b.failures[1:]
		return err
	}
	if b.failure == nil && b.needsSet && mutation {
		return backendtest.Fail(codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_FULL_SET_REQUIRED, "the full set is not known")
	}
	return b.failure
}

// all returns the requests so far.
func (b *peer) all() []proto.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.requests)
}

// last returns the last request, and how many there were.
func (b *peer) last() (proto.Message, int) {
	all := b.all()
	if len(all) == 0 {
		return nil, 0
	}
	return all[len(all)-1], len(all)
}

// answer makes the backend answer with this state of a load balancer.
func (b *peer) answer(addresses []*backendv1.LoadBalancerAddress,
	conditions ...*backendv1.Condition,
) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lb = &backendv1.LoadBalancer{Addresses: addresses, Conditions: conditions}
}

func (b *peer) EnsureLoadBalancer(_ context.Context, r *backendv1.EnsureLoadBalancerRequest,
) (*backendv1.EnsureLoadBalancerResponse, error) {
	if err := b.received(r, true); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return &backendv1.EnsureLoadBalancerResponse{LoadBalancer: b.lb, Actions: b.actions}, nil
}

func (b *peer) DeleteLoadBalancer(_ context.Context, r *backendv1.DeleteLoadBalancerRequest,
) (*backendv1.DeleteLoadBalancerResponse, error) {
	if err := b.received(r, true); err != nil {
		return nil, err
	}
	return &backendv1.DeleteLoadBalancerResponse{Actions: b.actions}, nil
}

func (b *peer) ReconcileLoadBalancers(_ context.Context, r *backendv1.ReconcileLoadBalancersRequest,
) (*backendv1.ReconcileLoadBalancersResponse, error) {
	if err := b.received(r, false); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.needsSet = b.forgets
	if answer := map[bool]func(*backendv1.ReconcileLoadBalancersRequest,
	) *backendv1.ReconcileLoadBalancersResponse{true: b.looks, false: b.changes}[r.GetDryRun()]; answer != nil {
		return answer(r), nil
	}
	return &backendv1.ReconcileLoadBalancersResponse{Orphans: b.orphans}, nil
}

// The controller does not call the rest.

func (b *peer) GetLoadBalancer(context.Context, *backendv1.GetLoadBalancerRequest,
) (*backendv1.GetLoadBalancerResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not here")
}

func (b *peer) RebalanceLoadBalancers(context.Context, *backendv1.RebalanceLoadBalancersRequest,
) (*backendv1.RebalanceLoadBalancersResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not here")
}

func (b *peer) ListLoadBalancers(context.Context, *backendv1.ListLoadBalancersRequest,
) (*backendv1.ListLoadBalancersResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not here")
}

// node returns an initialized, ready node of the instance with the given id; empty: without one.
func node(name, id string, change ...func(*v1.Node)) *v1.Node {
	n := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-of-" + name)},
		Status: v1.NodeStatus{Conditions: []v1.NodeCondition{
			{Type: v1.NodeReady, Status: v1.ConditionTrue},
		}},
	}
	if id != "" {
		n.Spec.ProviderID = "oxide://" + id
	}
	for _, c := range change {
		c(n)
	}
	return n
}

func unready(n *v1.Node) { n.Status.Conditions[0].Status = v1.ConditionUnknown }

// uninitialized gives a node the taint with which kubelet registers it.
func uninitialized(n *v1.Node) { tainted(api.TaintExternalCloudProvider)(n) }

func tainted(key string) func(*v1.Node) {
	return func(n *v1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, v1.Taint{Key: key, Effect: v1.TaintEffectNoSchedule})
	}
}

func labelled(key, value string) func(*v1.Node) {
	return func(n *v1.Node) { metav1.SetMetaDataLabel(&n.ObjectMeta, key, value) }
}

func of(providerID string) func(*v1.Node) {
	return func(n *v1.Node) { n.Spec.ProviderID = providerID }
}
