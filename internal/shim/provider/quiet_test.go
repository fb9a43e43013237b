// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/events"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// However many nodes are not ready while Oxide is away, and however often they are checked, what is
// logged does not grow.
func TestLinesAboutKeptNodesDoNotGrowWithTheNodes(t *testing.T) {
	for _, count := range []int{1, 30, 100} {
		synctest.Test(t, func(t *testing.T) {
			logged := capture(t)
			var kept keptNodes
			away := fmt.Errorf("away: %w", errUnread)
			for range 60 { // five minutes
				for i := range count {
					kept.add(numbered(i), away)
				}
				time.Sleep(5 * time.Second)
			}
			lines := logged()
			if len(lines) != 1 || !strings.Contains(lines[0], fmt.Sprintf(`"count"=%d`, count)) ||
				!strings.Contains(lines[0], "node-000") || strings.Contains(lines[0], "node-003") {
				t.Errorf("of %d nodes is logged %q, want one line that names three", count, lines)
			}
			// They are ready again, or gone: nobody checks them.
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			if lines = logged(); len(lines) != 2 || !strings.Contains(lines[1], "any more") {
				t.Errorf("logged is %q, want the end as well", lines)
			}
		})
	}
}

// What changes is logged, once a minute at most, one line for each reason.
func TestKeptNodesAreLoggedWhenTheyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logged := capture(t)
		var kept keptNodes
		for i := range 24 { // two minutes
			kept.add(numbered(i), errUnread)
			kept.add(numbered(1000+i), errLastNode)
			time.Sleep(5 * time.Second)
		}
		if lines := logged(); len(lines) != 4 {
			t.Errorf("logged is %q, want two lines a minute", lines)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
	})
}

// The framework never gets an error of a check, at which it would log a line for each node, and never an
// answer on doubt at which it would do something. Gone is gone.
func TestInvariant1TheFrameworkIsAnsweredThatKeptNodesExist(t *testing.T) {
	b, p := newPeer(t, instance(id2, "worker-2", "172.30.0.12"))
	framework, ok := p.InstancesV2()
	if !ok {
		t.Fatal("InstancesV2 is not supported")
	}
	gone := node("worker-1", id1)
	listNodes(t, p, gone, node("worker-2", id2))
	defer func() {
		p.kept.mu.Lock()
		defer p.kept.mu.Unlock()
		p.kept.timer.Stop()
	}()
	b.failure = backendtest.Fail(codes.Unavailable,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE, "Oxide is away")
	for range 3 {
		if exists, err := framework.InstanceExists(t.Context(), gone); !exists || err != nil {
			t.Errorf("while Oxide is away InstanceExists() = %v, %v; want true", exists, err)
		}
		_, asked := b.last()
		if off, err := framework.InstanceShutdown(t.Context(), gone); off || err != nil {
			t.Errorf("while Oxide is away InstanceShutdown() = %v, %v; want false", off, err)
		}
		if _, again := b.last(); again != asked {
			t.Error("the backend is asked whether an instance is shut down that may not exist")
		}
	}
	if sent := b.events.Sent(); len(sent) != 1 || !strings.Contains(sent[0], "NodeKept") {
		t.Errorf("the events are %q, want one that says why the Node is kept", sent)
	}
	b.failure = nil
	if exists, err := framework.InstanceExists(t.Context(), gone); exists || err != nil {
		t.Errorf("of an instance that is gone InstanceExists() = %v, %v; want false", exists, err)
	}
}

// A node that joins while Oxide is away is initialized soon after that is back, however long it was away;
// one that has no instance is left to the framework.
func TestANodeThatJoinsInAnOutageIsInitializedSoonAfter(t *testing.T) {
	for _, tt := range []struct {
		name   string
		reason backendv1.ErrorReason
		waits  bool
	}{
		{"away", backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE, true},
		{"500", backendv1.ErrorReason_ERROR_REASON_OXIDE_BAD_RESPONSE, true},
		{"no instance", backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_IDENTIFIED, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				away := &outage{reason: tt.reason, until: began.Add(4 * time.Minute)}
				p := New(Config{Instances: away, Reporter: events.NewReporter(&backendtest.Events{})})
				n := joining(node("worker-1", ""))
				listed(t, p, n)
				framework, _ := p.InstancesV2()
				metadata, err := framework.InstanceMetadata(t.Context(), n)
				took := time.Since(began)
				if tt.waits && (err != nil || took > 4*time.Minute+joiningRetry) {
					t.Errorf("after %s: %v, %v; want it within %s of the end", took, metadata, err, joiningRetry)
				}
				if !tt.waits && (err == nil || took > 0) {
					t.Errorf("after %s: %v, %v; want the error at once", took, metadata, err)
				}
			})
		})
	}
}

// Invariant 1, of joining: while it is waited another Node may have got the name, of another machine.
func TestAJoiningNodeThatWasReplacedIsNotInitializedAsTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := &outage{
			reason: backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE, until: time.Now().Add(time.Minute),
		}
		p := New(Config{Instances: away, Reporter: events.NewReporter(&backendtest.Events{})})
		first, second := joining(node("worker-1", "")), joining(node("worker-1", ""))
		first.UID, second.UID = "first", "second"
		listed(t, p, second)
		framework, _ := p.InstancesV2()
		if metadata, err := framework.InstanceMetadata(t.Context(), first); err == nil {
			t.Errorf("the first Node gets %v, want an error", metadata)
		}
	})
}

// outage is a backend whose Oxide is away until a time; a stand-in for the connection, which no bubble
// of synctest may have.
type outage struct {
	backendv1.InstanceServiceClient
	reason backendv1.ErrorReason
	until  time.Time
}

func (o *outage) GetInstance(context.Context, *backendv1.GetInstanceRequest, ...grpc.CallOption,
) (*backendv1.GetInstanceResponse, error) {
	if time.Now().Before(o.until) {
		return nil, client.AsError(backendtest.Fail(codes.Unavailable, o.reason, "not now"))
	}
	return &backendv1.GetInstanceResponse{
		Instance:     instance(id1, "worker-1", "172.30.0.11"),
		IdentifiedBy: backendv1.IdentifiedBy_IDENTIFIED_BY_NAME,
	}, nil
}

// listed gives a provider a lister of nodes.
func listed(t *testing.T, p *Provider, nodes ...*v1.Node) {
	t.Helper()
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	for _, n := range nodes {
		if err := indexer.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	p.nodes = corelisters.NewNodeLister(indexer)
}

// capture returns a function that returns what was logged since.
func capture(t *testing.T) func() []string {
	t.Helper()
	var (
		mu    sync.Mutex
		lines []string
	)
	klog.SetLogger(funcr.New(func(_, args string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, args)
	}, funcr.Options{}))
	t.Cleanup(klog.ClearLogger)
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), lines...)
	}
}

// numbered returns a node that has a UID.
func numbered(i int) *v1.Node {
	n := node(fmt.Sprintf("node-%03d", i), id1)
	n.UID = types.UID(n.Name)
	return n
}
