// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// promise looks at API server and rack again and again, and notes where an address that a Service
// publishes is on a node whose private address the Service does not publish: traffic is lost there.
type promise struct {
	*environment
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	excepted map[string]bool
	looks    int
	broken   map[string]string
}

// lookInterval is how often the promise is looked at.
const lookInterval = 150 * time.Millisecond

// keepPromise begins to look.
func (e *environment) keepPromise() *promise {
	ctx, cancel := context.WithCancel(e.Context())
	p := &promise{
		environment: e, cancel: cancel, done: make(chan struct{}),
		excepted: map[string]bool{}, broken: map[string]string{},
	}
	go func() {
		defer close(p.done)
		for ctx.Err() == nil {
			p.look(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(lookInterval):
			}
		}
	}()
	return p
}

// exempt takes a Service out of the promise.
func (p *promise) exempt(service string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.excepted[service] = true
}

// check ends the looks and tells what they found.
func (p *promise) check() {
	p.Helper()
	p.cancel()
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Logf("the promise was looked at %d times", p.looks)
	for _, what := range p.broken {
		p.Error(what)
	}
}

// look compares the rack with the statuses before and after. What both of these lack was not there
// meanwhile either: no status changes to and fro within a moment.
func (p *promise) look(ctx context.Context) {
	before, err := p.published(ctx)
	if err != nil {
		return // the API server is not what is tested here
	}
	state, err := p.rack.State(ctx)
	if err != nil {
		return
	}
	after, err := p.published(ctx)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks++
	for address, service := range before {
		ip, _ := state.FloatingIP(address)
		now, still := after[address]
		instance, found := state.Instance(ip.Instance)
		if ip.AttachState != rack.Attached || !found || !still || p.excepted[service.Name] {
			continue
		}
		private := instance.PrivateIPs[version(address)]
		if !publishes(service, private) && !publishes(now, private) {
			p.broken[service.Name+" "+ip.Instance] = fmt.Sprintf("%s: the address %s of %s is on %s, "+
				"whose address %s is not in the status %v", time.Now().Format(time.TimeOnly), address,
				service.Name, ip.Instance, private, service.Status.LoadBalancer.Ingress)
		}
	}
}

// published returns Services by the addresses in their statuses.
func (p *promise) published(ctx context.Context) (map[string]*corev1.Service, error) {
	services, err := p.client.CoreV1().Services("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	all := map[string]*corev1.Service{}
	for i := range services.Items {
		for _, ingress := range services.Items[i].Status.LoadBalancer.Ingress {
			all[ingress.IP] = &services.Items[i]
		}
	}
	return all, nil
}

func publishes(service *corev1.Service, address string) bool {
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if ingress.IP == address {
			return true
		}
	}
	return false
}
