// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	cloudproviderapi "k8s.io/cloud-provider/api"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/events"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestMain(m *testing.M) {
	// The logger's flush daemon lives as long as the program.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

const (
	silo    = "aaaaaaaa-0000-4000-8000-000000000001"
	project = "bbbbbbbb-0000-4000-8000-000000000001"

	id1 = "11111111-1111-4111-8111-111111111111"
	id2 = "22222222-2222-4222-8222-222222222222"
	id3 = "33333333-3333-4333-8333-333333333333"
)

// peer is a backend as its API describes one, which knows the instances that a test gives it.
type peer struct {
	backendv1.UnsafeInstanceServiceServer

	silo, project string
	instances     []*backendv1.Instance
	// others are in every answer that has an instance.
	others []*backendv1.OtherInstance
	// failure is the answer to every call, if it is set.
	failure error
	// meanwhile is called during each call, if it is set.
	meanwhile func()
	// live are the Nodes that the API server has.
	live   *liveNodes
	events *backendtest.Events

	mu       sync.Mutex
	requests []proto.Message
}

// newPeer starts a backend on a socket, and returns a provider that talks to it.
func newPeer(t *testing.T, instances ...*backendv1.Instance) (*peer, *Provider) {
	t.Helper()
	b := &peer{
		silo: silo, project: project, instances: instances, events: &backendtest.Events{},
		live: &liveNodes{byName: make(map[string]*v1.Node)},
	}
	conn := backendtest.Serve(t, func(s *grpc.Server) { backendv1.RegisterInstanceServiceServer(s, b) })
	return b, New(Config{
		Instances: backendv1.NewInstanceServiceClient(conn),
		Nodes:     b.live,
		Reporter:  events.NewReporter(b.events),
		// So long that nothing is removed beyond what may go at once.
		RemovalInterval: time.Hour,
	})
}

func (b *peer) received(request proto.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests = append(b.requests, request)
	return b.failure
}

// last returns the last request, and how many there were.
func (b *peer) last() (proto.Message, int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.requests) == 0 {
		return nil, 0
	}
	return b.requests[len(b.requests)-1], len(b.requests)
}

func (b *peer) GetInstance(_ context.Context, r *backendv1.GetInstanceRequest,
) (*backendv1.GetInstanceResponse, error) {
	if err := b.received(r); err != nil {
		return nil, err
	}
	if b.meanwhile != nil {
		b.meanwhile()
	}
	find := func(match func(*backendv1.Instance) bool) *backendv1.Instance {
		if i := slices.IndexFunc(b.instances, match); i >= 0 {
			return b.instances[i]
		}
		return nil
	}
	byID := func(id string) *backendv1.Instance {
		return find(func(i *backendv1.Instance) bool { return i.GetId() == id })
	}
	machine := r.GetMachine()
	if machine == nil {
		return nil, backendtest.Fail(codes.InvalidArgument,
			backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "the provider asks by machine")
	}
	var found *backendv1.Instance
	by := backendv1.IdentifiedBy_IDENTIFIED_BY_ID
	reported := byID(machine.GetSystemUuid())
	switch {
	case machine.GetId() != "":
		found = byID(machine.GetId())
	case reported != nil:
		found, by = reported, backendv1.IdentifiedBy_IDENTIFIED_BY_SYSTEM_UUID
	default:
		by = backendv1.IdentifiedBy_IDENTIFIED_BY_NAME
		found = find(func(i *backendv1.Instance) bool { return i.GetName() == machine.GetName() })
	}
	switch {
	case found != nil:
		return &backendv1.GetInstanceResponse{
			Instance: found, IdentifiedBy: by, OtherInstances: b.others,
		}, nil
	case machine.GetId() == "":
		return nil, backendtest.Fail(codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_IDENTIFIED, "no instance is this machine")
	case reported != nil:
		return nil, backendtest.Fail(codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_INSTANCE_REPLACED, "it reports the system UUID of another")
	}
	if proof := r.GetAbsenceProof(); proof != nil {
		seen := slices.ContainsFunc(proof.GetWitnessInstanceIds(), func(id string) bool {
			return id != machine.GetId() && byID(id) != nil
		})
		if proof.GetSiloId() != b.silo || proof.GetProjectId() != b.project || !seen {
			return nil, backendtest.Fail(codes.FailedPrecondition,
				backendv1.ErrorReason_ERROR_REASON_ABSENCE_NOT_PROVEN, "absence is not proven")
		}
	}
	return nil, backendtest.Fail(codes.NotFound, backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND,
		"there is no such instance")
}

// The provider does not call the rest.

func (b *peer) ListInstances(context.Context, *backendv1.ListInstancesRequest,
) (*backendv1.ListInstancesResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not here")
}

func (b *peer) BatchGetInstances(context.Context, *backendv1.BatchGetInstancesRequest,
) (*backendv1.BatchGetInstancesResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not here")
}

func (b *peer) WatchInstances(*backendv1.WatchInstancesRequest,
	grpc.ServerStreamingServer[backendv1.WatchInstancesResponse],
) error {
	return status.Error(codes.Unimplemented, "not here")
}

// instance returns a running instance with one private address.
func instance(id, name, address string) *backendv1.Instance {
	return &backendv1.Instance{
		Id: id, Name: name, Hostname: name, SiloId: silo, ProjectId: project, ProjectName: "prod",
		RunState: backendv1.RunState_RUN_STATE_RUNNING, RunStateText: "running",
		CpuCount: 4, MemoryBytes: 16 << 30,
		NetworkInterfaces: []*backendv1.NetworkInterface{{
			Name: "net0", Primary: true, Addresses: []string{address},
		}},
	}
}

// node returns an initialized, ready node of the instance with the given id; empty: without one.
func node(name, id string) *v1.Node {
	n := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID("uid-of-" + name), Labels: map[string]string{LabelSiloID: silo, LabelProjectID: project},
		},
		Status: v1.NodeStatus{Conditions: []v1.NodeCondition{
			{Type: v1.NodeReady, Status: v1.ConditionTrue},
		}},
	}
	if id != "" {
		n.Spec.ProviderID = "oxide://" + id
	}
	return n
}

// joining gives a node the taint of one that is not initialized, and takes its stamp.
func joining(n *v1.Node) *v1.Node {
	n.Labels = nil
	n.Spec.Taints = append(n.Spec.Taints, v1.Taint{
		Key: cloudproviderapi.TaintExternalCloudProvider, Value: "true",
		Effect: v1.TaintEffectNoSchedule,
	})
	return n
}

// notReady makes a node not ready.
func notReady(n *v1.Node) *v1.Node {
	n.Status.Conditions[0].Status = v1.ConditionUnknown
	return n
}

// liveNodes are the Nodes that the API server has, which counts how often they are read.
type liveNodes struct {
	byName map[string]*v1.Node
	err    error
	reads  int
}

// Get implements NodeReader.
func (l *liveNodes) Get(_ context.Context, name string, options metav1.GetOptions) (*v1.Node, error) {
	l.reads++
	switch n := l.byName[name]; {
	case l.err != nil:
		return nil, l.err
	case n == nil || options.ResourceVersion != "":
		return nil, apierrors.NewNotFound(v1.Resource("nodes"), name)
	default:
		return n, nil
	}
}

// listNodes makes these the nodes of the cluster.
func listNodes(t *testing.T, p *Provider, nodes ...*v1.Node) {
	t.Helper()
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	for _, n := range nodes {
		if err := indexer.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	p.nodes = corelisters.NewNodeLister(indexer)
	live := p.kube.(*liveNodes)
	live.byName = make(map[string]*v1.Node)
	for _, n := range nodes {
		live.byName[n.Name] = n
	}
}
