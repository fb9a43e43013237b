// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
)

// A kubelet's defaults: how long its Lease lasts, and how often it renews it, which is up to a
// twenty-fifth later. The status of its Node it writes when it starts and then, if nothing changes,
// every five minutes: no test lasts so long.
const (
	leaseDuration = 40 * time.Second
	renewInterval = leaseDuration / 4
	renewJitter   = 0.04
)

// kubelet does for a Node what the API server sees of a kubelet.
type kubelet struct {
	client kubernetes.Interface
	node   string
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	renewed time.Time
}

// startKubelet registers a Node, unless it is registered, and renews its Lease from then on.
func startKubelet(ctx context.Context, client kubernetes.Interface, node string) (*kubelet, error) {
	object := objects.Node(node)
	object.Status.DaemonEndpoints.KubeletEndpoint.Port = kubeletPort
	_, err := client.CoreV1().Nodes().Create(ctx, object, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("cannot register the node %s: %w", node, err)
	}
	k := &kubelet{client: client, node: node, ended: make(chan struct{})}
	if err := k.renew(ctx); err != nil {
		return nil, err
	}
	// It outlives the test that starts it.
	ctx, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go k.run(ctx)
	return k, nil
}

func (k *kubelet) run(ctx context.Context) {
	defer close(k.ended)
	for {
		jitter := time.Duration(rand.Float64() * renewJitter * float64(renewInterval))
		select {
		case <-ctx.Done():
			return
		case <-time.After(renewInterval + jitter):
		}
		if err := k.renew(ctx); err != nil && ctx.Err() == nil {
			fmt.Println("e2e-datapath:", err)
		}
	}
}

// stop ends it. A second time it does nothing.
func (k *kubelet) stop() {
	k.cancel()
	<-k.ended
}

// renew makes or renews the Lease.
func (k *kubelet) renew(ctx context.Context) error {
	leases := k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	seconds, now := int32(leaseDuration/time.Second), metav1.NowMicro()
	lease, err := leases.Get(ctx, k.node, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: k.node},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: &k.node, LeaseDurationSeconds: &seconds, RenewTime: &now,
			},
		}, metav1.CreateOptions{})
	case err == nil:
		lease.Spec.RenewTime = &now
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("cannot renew the Lease of the node %s: %w", k.node, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.renewed = now.Time
	return nil
}

// awaitAge waits until the Lease was renewed that long ago, less than renewInterval.
func (k *kubelet) awaitAge(ctx context.Context, age time.Duration) error {
	for {
		k.mu.Lock()
		wait := time.Until(k.renewed.Add(age))
		k.mu.Unlock()
		if wait <= 0 && -wait < time.Second/2 {
			return nil
		}
		if wait <= 0 {
			wait = time.Second / 10 // until it is renewed
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}
