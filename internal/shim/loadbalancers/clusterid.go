// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cloudprovider "k8s.io/cloud-provider"
)

// clusterID is the scope under which the cluster owns its addresses in Oxide: the UID of the
// namespace kube-system, which lives as long as the cluster and which no other cluster has.
type clusterID struct {
	// fixed is the value that the user gave; empty: none.
	fixed string

	clients cloudprovider.ControllerClientBuilder
	timeout time.Duration
	known   atomic.Pointer[string]
}

// get returns the id. It is read on first use and then kept; a failure is not.
func (c *clusterID) get(ctx context.Context) (string, error) {
	if c.fixed != "" {
		return c.fixed, nil
	}
	if id := c.known.Load(); id != nil {
		return *id, nil
	}
	if c.clients == nil {
		return "", errors.New("the cluster's id is asked for before the provider is initialized")
	}
	client, err := c.clients.Client("oxide-cluster-id")
	if err != nil {
		return "", fmt.Errorf("a Kubernetes client to read the cluster's id: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	namespace, err := client.CoreV1().Namespaces().
		Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("the cluster's id, the UID of the namespace %s, could not be read: "+
			"%w: allow \"get\" on that namespace, or set --cluster-id", metav1.NamespaceSystem, err)
	}
	id := string(namespace.UID)
	if id == "" {
		return "", fmt.Errorf("the namespace %s has no UID: set --cluster-id",
			metav1.NamespaceSystem)
	}
	c.known.Store(&id)
	return id, nil
}
