// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	cloudprovider "k8s.io/cloud-provider"
)

// clients makes clients for one API server.
type clients struct {
	cloudprovider.ControllerClientBuilder
	config *rest.Config
}

func (c clients) Client(string) (clientset.Interface, error) {
	return clientset.NewForConfig(c.config)
}

// newAPIServer answers reads of the namespace kube-system: with the UID, or 403 if that is empty.
func newAPIServer(t *testing.T, uid *atomic.Pointer[string]) (clients, *atomic.Int32) {
	t.Helper()
	var reads atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads.Add(1)
		if r.Method != http.MethodGet || r.URL.Path != "/api/v1/namespaces/kube-system" {
			http.NotFound(w, r)
			return
		}
		id := uid.Load()
		if id == nil {
			http.Error(w, "forbidden", http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(&v1.Namespace{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: types.UID(*id)},
		})
	}))
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return clients{config: &rest.Config{Host: server.URL, Transport: transport}}, &reads
}

func TestTheClusterIDIsReadOnceWhenItIsNeeded(t *testing.T) {
	var uid atomic.Pointer[string]
	builder, reads := newAPIServer(t, &uid)
	c := New(Config{Instances: unknownInstances()})
	c.UseClients(builder)
	if reads.Load() != 0 {
		t.Fatal("UseClients asked the API server: it must not wait for anything")
	}

	_, err := c.cluster.get(t.Context())
	if err == nil {
		t.Fatal("an id was made up")
	}
	for _, part := range []string{"kube-system", "--cluster-id"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %s: %v", part, err)
		}
	}

	id := scope
	uid.Store(&id)
	var wait sync.WaitGroup
	for range 5 {
		wait.Go(func() {
			if got, err := c.cluster.get(t.Context()); err != nil || got != scope {
				t.Errorf("get() = %q, %v after an error before; want %q", got, err, scope)
			}
		})
	}
	wait.Wait()
	before := reads.Load()
	other := "another"
	uid.Store(&other)
	if got, err := c.cluster.get(t.Context()); err != nil || got != scope {
		t.Errorf("get() = %q, %v; want %q for the life of the process", got, err, scope)
	}
	if reads.Load() != before {
		t.Error("the id was read again")
	}
}

func TestAGivenClusterIDAsksNobody(t *testing.T) {
	c := New(Config{ClusterID: "mine", Instances: unknownInstances()})
	if got, err := c.cluster.get(t.Context()); err != nil || got != "mine" {
		t.Errorf("get() = %q, %v", got, err)
	}
}

func TestNothingIsDoneForAnUnknownCluster(t *testing.T) {
	var uid atomic.Pointer[string]
	builder, _ := newAPIServer(t, &uid)
	for name, unknown := range map[string]*clusterID{
		"it cannot be read":                  {timeout: 5 * time.Second, clients: builder},
		"nobody was told how to read it yet": {timeout: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			b, c := newPeer(t, service())
			c.cluster = unknown
			if _, err := c.Ensure(t.Context(), service()); err == nil {
				t.Error("a load balancer was ensured")
			}
			if err := c.Release(t.Context(), service()); err == nil {
				t.Error("a load balancer was released")
			}
			if err := c.tellFullSet(t.Context()); err == nil {
				t.Error("a full set was told")
			}
			if _, n := b.last(); n != 0 {
				t.Errorf("the backend was called %d times", n)
			}
		})
	}
}
