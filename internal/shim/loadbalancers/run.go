// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"time"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Name is the name of the controller under --controllers, and of its Kubernetes client.
const Name = "oxide-load-balancer-controller"

// firstSetRetry is how long Run waits before it tells the full set again after a failure.
const firstSetRetry = 5 * time.Second

// Run follows the pods, and tells the backend all load balancers when leading begins: before that it
// attaches nothing. Later the backend asks when it has to be told again.
func (c *Controller) Run(ctx context.Context, client kubernetes.Interface) {
	defer utilruntime.HandleCrashWithContext(ctx)
	c.pods.follow(ctx, client)
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return
	}
	for ctx.Err() == nil {
		err := c.tellFullSet(ctx)
		if err == nil {
			return
		}
		klog.ErrorS(err, "Could not tell the backend all load balancers", "retry_in", c.setRetry)
		select {
		case <-ctx.Done():
		case <-time.After(c.setRetry):
		}
	}
}

// Name returns the controller's name; the framework asks for it.
func (c *Controller) Name() string { return Name }
