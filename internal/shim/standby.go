// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/klog/v2"
)

const (
	// standbyTimeout is how long a replica may take to become the leader before it says why it does
	// not: a lease that nobody renews is free for the taking after 15 s.
	standbyTimeout = 20 * time.Second
	// standbyInterval is how often it reads who leads.
	standbyInterval = 15 * time.Second
)

// standby says why this process does nothing: another one holds the lease. Of two installations in
// one cluster the second stands by for ever, which nobody would understand without a word.
type standby struct {
	leases coordinationclient.LeaseInterface
	lease  string
}

// watch logs each new holder of the lease once, until this process leads or the context ends.
func (s standby) watch(ctx context.Context, leads <-chan struct{}) {
	reported := ""
	for wait := standbyTimeout; ; wait = standbyInterval {
		select {
		case <-leads:
			return
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		// What goes wrong with reading it, the election has reported already.
		lease, err := s.leases.Get(ctx, s.lease, metav1.GetOptions{})
		if err != nil || lease.Spec.HolderIdentity == nil {
			continue
		}
		holder := *lease.Spec.HolderIdentity
		if holder == "" || holder == reported {
			continue
		}
		reported = holder
		klog.InfoS("Standing by and changing nothing: another process holds the lease. It is another "+
			"replica, or another installation in this cluster, of which one is too many",
			"lease", lease.Namespace+"/"+lease.Name, "holder", holder)
	}
}
