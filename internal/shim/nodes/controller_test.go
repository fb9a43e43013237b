// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	cloudproviderapi "k8s.io/cloud-provider/api"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
)

// world is a controller that runs against client-go's API server in memory.
type world struct {
	*testing.T
	client *fake.Clientset
	peer   *peer
	stream *instanceStream
}

// newWorld starts a controller in a cluster with these nodes, and tells it of no instance yet.
func newWorld(t *testing.T, config Config, nodes ...runtime.Object) *world {
	t.Helper()
	w := &world{T: t, client: fake.NewClientset(nodes...), peer: newPeer()}
	factory := informers.NewSharedInformerFactory(w.client, 0)
	config.Instances = w.peer
	config.Nodes = w.client.CoreV1().Nodes()
	config.Informer = factory.Core().V1().Nodes()
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		c.Run(ctx)
		close(ended)
	}()
	factory.Start(ctx.Done())
	w.stream = <-w.peer.opened
	synctest.Wait() // until it knows the Nodes, and rests
	t.Cleanup(func() {
		cancel()
		<-ended
		factory.Shutdown()
	})
	return w
}

// patches returns the labels in each patch so far.
func (w *world) patches() []map[string]any {
	w.Helper()
	synctest.Wait()
	var all []map[string]any
	for _, action := range w.client.Actions() {
		if patch, ok := action.(clienttesting.PatchAction); ok {
			var content struct {
				Metadata struct {
					UID             string         `json:"uid"`
					ResourceVersion string         `json:"resourceVersion"`
					Labels          map[string]any `json:"labels"`
				} `json:"metadata"`
			}
			if err := json.Unmarshal(patch.GetPatch(), &content); err != nil {
				w.Fatal(err)
			}
			if content.Metadata.UID == "" || content.Metadata.ResourceVersion == "" {
				w.Errorf("the patch %s fits any Node of the name, in any state", patch.GetPatch())
			}
			all = append(all, content.Metadata.Labels)
		}
	}
	return all
}

// labels returns those of a Node.
func (w *world) labels(name string) map[string]string {
	w.Helper()
	synctest.Wait()
	node, err := w.client.CoreV1().Nodes().Get(w.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return node.Labels
}

// update changes a Node as somebody else.
func (w *world) update(name string, change func(*v1.Node)) {
	w.Helper()
	synctest.Wait()
	nodes := w.client.CoreV1().Nodes()
	node, err := nodes.Get(w.Context(), name, metav1.GetOptions{})
	if err == nil {
		change(node)
		_, err = nodes.Update(w.Context(), node, metav1.UpdateOptions{})
	}
	if err != nil {
		w.Fatal(err)
	}
}

func node(name, providerID string, labels map[string]string) *v1.Node {
	return &v1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID("uid-of-" + name), ResourceVersion: "1",
			Labels: maps.Clone(labels),
		},
		Spec: v1.NodeSpec{ProviderID: providerID},
	}
}

func TestStampsAreRestoredByOnePatchAndThenNothingIsPatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{}, node("a", "oxide://"+id1, nil),
			node("b", "oxide://"+id2, labelled("b", nil)))
		w.stream.send(machine(id1, "a"), machine(id2, "b"))
		w.stream.complete()
		if got := w.patches(); len(got) != 1 {
			t.Fatalf("%d patches, want one: %v", len(got), got)
		}
		want := labelled("a", map[string]string{"kubernetes.io/hostname": "absent"})
		if diff := cmp.Diff(want, w.labels("a")); diff != "" {
			t.Errorf("labels (-want +got):\n%s", diff)
		}
		for i := range 10 {
			w.stream.send(machine(id1, "a"), machine(id2, "b"))
			w.update("a", func(n *v1.Node) {
				n.Annotations = map[string]string{"heartbeat": strconv.Itoa(i)}
			})
		}
		if got := w.patches(); len(got) != 1 {
			t.Errorf("patches although nothing changed: %v", got[1:])
		}

		// Somebody takes the stamp away: the Node itself brings it back.
		w.update("a", func(n *v1.Node) { delete(n.Labels, "oxide.computer/silo-id") })
		if diff := cmp.Diff(want, w.labels("a")); diff != "" {
			t.Errorf("labels (-want +got):\n%s", diff)
		}
		if got := w.patches(); len(got) != 2 {
			t.Errorf("%d patches, want two: %v", len(got), got)
		}
	})
}

func TestAGroupThatHasNoLabelIsToldOnce(t *testing.T) {
	lines := 0
	klog.SetLogger(funcr.New(func(_, args string) {
		if strings.Contains(args, "does not fit into a label") {
			lines++
		}
	}, funcr.Options{}))
	defer klog.ClearLogger()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{}, node("a", "oxide://"+id1, nil), node("b", "oxide://"+id2, nil))
		a, b := machine(id1, "a"), machine(id2, "b")
		a.AntiAffinityGroups = []string{strings.Repeat("x", 44)}
		b.AntiAffinityGroups = a.AntiAffinityGroups
		w.stream.send(a, b)
		w.stream.complete()
		synctest.Wait()
		w.stream.send(a)
		if got := w.patches(); len(got) != 2 {
			t.Errorf("%d patches, want two: %v", len(got), got)
		}
		if lines != 1 {
			t.Errorf("told %d times, want once", lines)
		}
	})
}

func TestRacksAreAskedForOnlyIfTheyAreTheZone(t *testing.T) {
	for _, want := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{Topology: provider.Topology{ZoneFromRack: want}},
				node("a", "oxide://"+id1, nil))
			if got := w.stream.req.GetIncludeRack(); got != want {
				t.Errorf("asked for racks: %t, want %t", got, want)
			}
		})
	}
}

func TestAResizedInstanceIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{}, node("a", "oxide://"+id1, labelled("a", nil)))
		w.stream.send(machine(id1, "a"))
		w.stream.complete()
		// Or the first sync finds it already, and a second one comes before the cache shows the patch.
		synctest.Wait()
		bigger := machine(id1, "a")
		bigger.CpuCount, bigger.MemoryBytes = 8, 32<<30
		w.stream.send(bigger)
		want := []map[string]any{{
			"beta.kubernetes.io/instance-type": "8-32", "node.kubernetes.io/instance-type": "8-32",
		}}
		if diff := cmp.Diff(want, w.patches()); diff != "" {
			t.Errorf("patches (-want +got):\n%s", diff)
		}
	})
}

func TestWhatIsNotOursIsLeftAlone(t *testing.T) {
	joining := node("joining", "oxide://"+id1, nil)
	joining.Spec.Taints = []v1.Taint{{Key: cloudproviderapi.TaintExternalCloudProvider}}
	leaving := node("leaving", "oxide://"+id1, nil)
	leaving.DeletionTimestamp = &metav1.Time{Time: time.Unix(1e9, 0)}
	leaving.Finalizers = []string{"example.com/f"}
	for _, n := range []*v1.Node{
		joining, leaving, node("foreign", "aws:///us-east-1/i-0123456789", nil),
		node("malformed", "oxide://x", nil), node("new", "", nil),
		node("unknown", "oxide://"+id2, nil),
	} {
		t.Run(n.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{}, n)
				w.stream.send(machine(id1, n.Name))
				w.stream.complete()
				if got := w.patches(); len(got) != 0 {
					t.Errorf("patches: %v", got)
				}
			})
		})
	}
}

func TestAPatchThatFailsIsTriedAgain(t *testing.T) {
	for name, failure := range map[string]error{
		"conflict": apierrors.NewConflict(v1.Resource("nodes"), "a", errors.New("it changed")),
		"error":    apierrors.NewInternalError(errors.New("etcd has no leader")),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{}, node("a", "oxide://"+id1, nil))
				failures := 3
				w.client.PrependReactor("patch", "nodes",
					func(clienttesting.Action) (bool, runtime.Object, error) {
						failures--
						return failures >= 0, nil, failure
					})
				w.stream.send(machine(id1, "a"))
				time.Sleep(time.Second)
				if got := len(w.patches()); got != 4 {
					t.Errorf("%d patches, want 3 that fail and one that does not", got)
				}
				if got := w.labels("a")["oxide.computer/silo-id"]; got != silo {
					t.Errorf("the stamp is %q", got)
				}
			})
		})
	}
}

func TestAWorkerThatHangsIsUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Controller
		if err := c.Check(nil); err != nil {
			t.Errorf("at rest: %v", err)
		}
		c.busySince[3].Store(time.Now().UnixNano())
		time.Sleep(stuckAfter)
		if err := c.Check(nil); err != nil {
			t.Errorf("at work: %v", err)
		}
		time.Sleep(time.Second)
		if err := c.Check(nil); err == nil {
			t.Error("a worker hangs, and nothing is said")
		}
	})
}
