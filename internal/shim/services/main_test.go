// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/cloud-provider/api"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/events"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
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

// with returns the lines with a text in them that were logged so far.
func (l *log) with(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

const (
	scope = "cccccccc-0000-4000-8000-000000000001"

	id1 = "11111111-1111-4111-8111-111111111111"
	id2 = "22222222-2222-4222-8222-222222222222"
	id3 = "33333333-3333-4333-8333-333333333333"
)

// bare returns a controller that does not run, of a cluster that has the given Nodes and Services.
func bare(t *testing.T, objects ...metav1.Object) *Controller {
	t.Helper()
	c := New(Config{ClusterID: scope, Reporter: events.NewReporter(&backendtest.Events{})})
	c.scope, c.session = scope, client.NewSession(client.SessionConfig{})
	t.Cleanup(c.statuses.ShutDown)
	t.Cleanup(c.conditions.ShutDown)
	t.Cleanup(c.changed.ShutDown)
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
	return c
}

// peer is the other side of a session, as the API describes it. Of load balancers it knows what the
// test says.
type peer struct {
	backendv1.UnimplementedLoadBalancerServiceServer
	backendv1.UnimplementedBackendServiceServer

	mu sync.Mutex
	// answer returns what is sent for a load balancer; nil: nothing is.
	answer func(*backendv1.DesiredLoadBalancer) []*backendv1.SyncLoadBalancersResponse
	// refuse is what a new stream ends with; nil: it does not.
	refuse error
	// prepare is called with the controller before it runs.
	prepare func(*Controller)
	// classes runs the controller of classes, too.
	classes bool

	opened        []*backendv1.OpenSession
	candidates    map[string]*backendv1.Candidate
	reserved      []*backendv1.ReservedPorts
	loadBalancers map[string]*backendv1.DesiredLoadBalancer
	history       []*backendv1.DesiredLoadBalancer
	traceParent   string // of the last load balancer
	synced        bool
	out           chan *backendv1.SyncLoadBalancersResponse
	cut           context.CancelFunc
}

func (p *peer) register(s *grpc.Server) {
	backendv1.RegisterLoadBalancerServiceServer(s, p)
	backendv1.RegisterBackendServiceServer(s, p)
}

func (p *peer) GetInfo(context.Context, *backendv1.GetInfoRequest) (*backendv1.GetInfoResponse, error) {
	return &backendv1.GetInfoResponse{ApiRevision: backendv1.APIRevision}, nil
}

func (p *peer) SyncLoadBalancers(stream grpc.BidiStreamingServer[
	backendv1.SyncLoadBalancersRequest, backendv1.SyncLoadBalancersResponse],
) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	p.mu.Lock()
	p.candidates, p.loadBalancers = map[string]*backendv1.Candidate{}, map[string]*backendv1.DesiredLoadBalancer{}
	p.out, p.cut, p.synced = make(chan *backendv1.SyncLoadBalancersResponse, 1000), cancel, false
	out, refuse := p.out, p.refuse
	p.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	received := make(chan error, 1)
	go func() {
		for {
			request, err := stream.Recv()
			if err != nil {
				received <- err
				return
			}
			p.receive(request, out)
		}
	}()
	for {
		select {
		case event := <-out:
			if err := stream.Send(event); err != nil {
				return err
			}
		case err := <-received:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *peer) receive(
	request *backendv1.SyncLoadBalancersRequest, out chan<- *backendv1.SyncLoadBalancersResponse,
) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch item := request.GetItem().(type) {
	case *backendv1.SyncLoadBalancersRequest_Open:
		p.opened = append(p.opened, item.Open)
	case *backendv1.SyncLoadBalancersRequest_Candidate:
		p.candidates[item.Candidate.GetInstanceId()] = item.Candidate
	case *backendv1.SyncLoadBalancersRequest_CandidateRemoved:
		delete(p.candidates, item.CandidateRemoved.GetInstanceId())
	case *backendv1.SyncLoadBalancersRequest_ReservedPorts:
		p.reserved = item.ReservedPorts.GetPorts()
	case *backendv1.SyncLoadBalancersRequest_LoadBalancer:
		p.loadBalancers[item.LoadBalancer.GetKey().GetName()] = item.LoadBalancer
		p.history = append(p.history, item.LoadBalancer)
		p.traceParent = request.GetTraceParent()
		if p.answer != nil {
			for _, event := range p.answer(item.LoadBalancer) {
				out <- event
			}
		}
	case *backendv1.SyncLoadBalancersRequest_LoadBalancerRemoved:
		delete(p.loadBalancers, item.LoadBalancerRemoved.GetKey().GetName())
	case *backendv1.SyncLoadBalancersRequest_InSync:
		p.synced = true
		out <- &backendv1.SyncLoadBalancersResponse{
			Event: &backendv1.SyncLoadBalancersResponse_InSync{InSync: &backendv1.InSync{}},
		}
	}
}

// send sends an event on the present stream.
func (p *peer) send(event *backendv1.SyncLoadBalancersResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out <- event
}

// answers has each load balancer answered with a state, changed by a function, from now on, and
// answers those that are there.
func (p *peer) answers(change func(*backendv1.LoadBalancerState)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = func(d *backendv1.DesiredLoadBalancer) []*backendv1.SyncLoadBalancersResponse {
		return []*backendv1.SyncLoadBalancersResponse{stateEvent(d, change)}
	}
	for _, d := range p.loadBalancers {
		p.out <- stateEvent(d, change)
	}
}

func stateEvent(
	d *backendv1.DesiredLoadBalancer, change func(*backendv1.LoadBalancerState),
) *backendv1.SyncLoadBalancersResponse {
	state := &backendv1.LoadBalancerState{
		Key: d.GetKey(), OwnerUid: d.GetOwnerUid(), Generation: d.GetGeneration(),
		Phase: backendv1.Phase_PHASE_READY,
	}
	change(state)
	return &backendv1.SyncLoadBalancersResponse{
		Event: &backendv1.SyncLoadBalancersResponse_State{State: state},
	}
}

func releasedEvent(d *backendv1.DesiredLoadBalancer) *backendv1.SyncLoadBalancersResponse {
	return &backendv1.SyncLoadBalancersResponse{
		Event: &backendv1.SyncLoadBalancersResponse_Released{
			Released: &backendv1.LoadBalancerReleased{Key: d.GetKey(), OwnerUid: d.GetOwnerUid()},
		},
	}
}

// sent returns the latest item of a load balancer; nil: there is none.
func (p *peer) sent(key string) *backendv1.DesiredLoadBalancer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.loadBalancers[key]
}

// cluster is a controller that runs against a peer and an API server.
type cluster struct {
	*testing.T
	c      *Controller
	peer   *peer
	client *fake.Clientset
	events *backendtest.Events
	// classes is the controller of classes; nil: it does not run.
	classes *ClassController
	stop    func()
}

// run runs a controller until the test ends.
func run(t *testing.T, config Config, objects ...runtime.Object) *cluster {
	t.Helper()
	return runWith(t, fake.NewClientset(objects...), &peer{}, config)
}

func runWith(t *testing.T, client *fake.Clientset, p *peer, config Config) *cluster {
	t.Helper()
	e := &cluster{T: t, client: client, peer: p, events: &backendtest.Events{}}
	if config.Conn == nil {
		config.Conn = backendtest.Serve(t, p.register)
	}
	config.Reporter = events.NewReporter(e.events)
	if config.ClusterID == "" {
		config.ClusterID = scope
	}
	e.c = New(config)
	if p.prepare != nil {
		p.prepare(e.c)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	e.c.SetInformers(factory)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	if p.classes {
		classes, err := NewClassController(e.c, client, factory.Core().V1().Services(), 2)
		if err != nil {
			t.Fatal(err)
		}
		e.classes = classes
		running.Go(func() { classes.Run(ctx) })
	}
	factory.Start(ctx.Done())
	running.Go(func() { e.c.Run(ctx, client) })
	e.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		factory.Shutdown()
	})
	t.Cleanup(e.stop)
	return e
}

// await waits until something is so.
func (e *cluster) await(what string, is func() bool) {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), 20*time.Second)
	defer cancel()
	for !is() {
		select {
		case <-ctx.Done():
			e.Fatalf("it did not come about: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// inSync waits until the peer has received the snapshot.
func (e *cluster) inSync() {
	e.Helper()
	e.await("the session is in sync", func() bool {
		e.peer.mu.Lock()
		defer e.peer.mu.Unlock()
		return e.peer.synced
	})
}

// item waits until the item of a load balancer is as it should be, and returns it.
func (e *cluster) item(
	key string, is func(*backendv1.DesiredLoadBalancer) bool,
) (item *backendv1.DesiredLoadBalancer) {
	e.Helper()
	e.await("the item of "+key, func() bool {
		item = e.peer.sent(key)
		return item != nil && is(item)
	})
	return item
}

// change changes a Service in the API server.
func (e *cluster) change(key string, change func(*v1.Service)) {
	e.Helper()
	namespace, name, _ := strings.Cut(key, "/")
	services := e.client.CoreV1().Services(namespace)
	service, err := services.Get(e.Context(), name, metav1.GetOptions{})
	if err != nil {
		e.Fatal(err)
	}
	change(service)
	if _, err := services.Update(e.Context(), service, metav1.UpdateOptions{}); err != nil {
		e.Fatal(err)
	}
}

// status waits until a Service publishes addresses.
func (e *cluster) status(key string, addresses ...string) {
	e.Helper()
	e.await("the status "+strings.Join(addresses, ", "), func() bool { return e.publishes(key, addresses...) })
}

// publishes reports whether a Service publishes just these addresses.
func (e *cluster) publishes(key string, addresses ...string) bool {
	namespace, name, _ := strings.Cut(key, "/")
	service, err := e.client.CoreV1().Services(namespace).Get(e.Context(), name, metav1.GetOptions{})
	return err == nil && shows(&service.Status.LoadBalancer, addresses)
}

// recorded waits until there is an event with a text in it.
func (e *cluster) recorded(text string) {
	e.Helper()
	e.await("the event "+text+" among "+strings.Join(e.events.Sent(), "; "), func() bool {
		return e.hasRecorded(text)
	})
}

// hasRecorded reports whether there is an event with a text in it.
func (e *cluster) hasRecorded(text string) bool {
	return slices.ContainsFunc(e.events.Sent(), func(s string) bool { return strings.Contains(s, text) })
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
