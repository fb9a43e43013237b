// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

// inMemory serves a peer without a socket, so that simulated time passes.
func inMemory(t *testing.T, p *peer) grpc.ClientConnInterface {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	p.register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///peer",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// What the API server refuses for as long as it likes is tried a bounded number of times.
func TestWritesThatAreRefusedAreFew(t *testing.T) {
	resource := schema.GroupResource{Resource: "services"}
	webhook := func() error {
		err := apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "web", nil)
		err.ErrStatus.Message = `admission webhook "policy.example.com" denied the request`
		return err
	}
	// Pauses double from firstRetry to lastRetry: ten of them, and then two a minute.
	const bound = 10 + 2*30
	for _, tc := range []struct {
		fault string
		err   error
		// applies: it is the condition that is refused, which is applied. Addresses are merged.
		applies bool
	}{
		{fault: "status, 403", err: apierrors.NewForbidden(resource, "web", nil)},
		{fault: "status, 422 of a webhook", err: webhook()},
		{fault: "status, conflict", err: apierrors.NewConflict(resource, "web", nil)},
		{fault: "status, 500", err: apierrors.NewInternalError(context.DeadlineExceeded)},
		{fault: "condition, 403", applies: true, err: apierrors.NewForbidden(resource, "web", nil)},
		{fault: "condition, 422 of a webhook", applies: true, err: webhook()},
		{fault: "condition, conflict", applies: true, err: apierrors.NewConflict(resource, "web", nil)},
	} {
		t.Run(tc.fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := fake.NewClientset(service(finalized), node("worker-1", id1))
				var writes atomic.Int32
				client.PrependReactor("patch", "services", func(a ktesting.Action) (bool, runtime.Object, error) {
					applies := a.(ktesting.PatchAction).GetPatchType() == "application/apply-patch+yaml"
					if applies != tc.applies {
						return false, nil, nil
					}
					writes.Add(1)
					return true, nil, tc.err
				})
				p := &peer{}
				e := runWith(t, client, p, Config{Conn: inMemory(t, p)})
				e.inSync()
				e.peer.answers(toPublish("198.51.100.9"))
				time.Sleep(30 * time.Minute)
				if got := writes.Load(); got == 0 || got > bound {
					t.Errorf("%d writes in 30 minutes, want at most %d", got, bound)
				} else {
					t.Logf("%d writes in 30 minutes", got)
				}
				e.stop()
			})
		})
	}
}

func TestTheClusterIDIsTriedOnceAMinuteAtLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		var reads atomic.Int32
		client.PrependReactor("get", "namespaces", func(ktesting.Action) (bool, runtime.Object, error) {
			reads.Add(1)
			return true, nil, apierrors.NewForbidden(v1.Resource("namespaces"), "kube-system", nil)
		})
		c := bare(t)
		c.scope, c.config.ClusterID, c.client = "", "", client
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		if err := c.readScope(ctx); err == nil {
			t.Error("an id was made up")
		}
		if got := reads.Load(); got < 20 || got > 35 {
			t.Errorf("%d reads in 30 minutes", got)
		}
		synctest.Wait()
	})
}
