// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// row is a test that shares a world with others, which run at the same time: it has Nodes of its
// own, so that all their waits are waited for at once.
type row struct {
	name string
	// pool is a short name of its own, and nodes is how many Nodes it has.
	pool  string
	nodes int
	test  func(p *pool)
}

// poolLabel says to which pool a Node belongs.
const poolLabel = "e2e.test/pool"

// pool is the part of a world that belongs to one test: Nodes, and Services that go nowhere else.
type pool struct {
	*environment
	name  string
	nodes []string
	// exempt takes a Service out of what is promised, for people do things to it.
	exempt func(service string)
}

// together runs tests in one world at the same time, and holds meanwhile what is promised of all
// Services at all times.
func together(t *testing.T, s settings, rows ...row) {
	t.Helper()
	var all []string
	pools := map[string][]string{}
	for _, r := range rows {
		for i := range r.nodes {
			name := fmt.Sprintf("%s-%d", r.pool, i+1)
			pools[r.pool] = append(pools[r.pool], name)
			all = append(all, name)
			s.machines = append(s.machines, rack.Machine{
				Name: name, NCPUs: 2, MemoryGiB: 8, IP: fmt.Sprintf("172.30.1.%d", 10+len(all)),
				DualStack: s.families[r.pool] == dual, IPv6Only: s.families[r.pool] == sixOnly,
			})
		}
	}
	s.sleds = len(all)
	e := newEnvironment(t, s)
	for _, r := range rows {
		for _, name := range pools[r.pool] {
			e.registerIn(r.pool, name)
		}
	}
	e.initialized(all...)
	promise := e.keepPromise()
	t.Run("together", func(t *testing.T) {
		for _, r := range rows {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				r.test(&pool{e.within(t), r.pool, pools[r.pool], promise.exempt})
			})
		}
	})
	promise.check()
}

// registerIn registers a Node in a pool.
func (e *environment) registerIn(pool, name string) {
	e.Helper()
	node := objects.Node(name)
	node.Labels[poolLabel] = pool
	_, err := e.client.CoreV1().Nodes().Create(e.Context(), node, metav1.CreateOptions{})
	e.must(err)
}

// make creates a Service of the pool and returns its name; the suffix distinguishes several.
func (p *pool) make(suffix string, edit func(*corev1.Service), ports ...corev1.ServicePort) string {
	p.Helper()
	name := p.name + suffix
	service := objects.LoadBalancer("default", name, ports...)
	service.Annotations = map[string]string{prefix + "node-selector": poolLabel + "=" + p.name}
	if edit != nil {
		edit(service)
	}
	p.createService(service)
	return name
}

// placed is a Service that has an address on a Node.
type placed struct {
	*pool
	key, address, id string
	// node carries the address at first, and other is a further one of the pool, if there is any.
	node, other string
}

// place creates a Service of the pool and waits until it is served.
func (p *pool) place(suffix string, ports ...corev1.ServicePort) *placed {
	p.Helper()
	return p.located(p.make(suffix, nil, ports...))
}

// located waits until a Service is served.
func (p *pool) located(service string) *placed {
	p.Helper()
	s := &placed{pool: p, key: service, address: p.served(service)}
	ip, _ := p.state().FloatingIP(s.address)
	s.id, s.node = ip.ID, ip.Instance
	for _, name := range p.nodes {
		if name != s.node {
			s.other = name
		}
	}
	return s
}

// moved waits until the Service is served by the other Node.
func (s *placed) moved() {
	s.Helper()
	s.movedTo(s.key, s.address, s.other)
}

// changes returns the requests that attach or detach the address, or change or delete it.
func (s *placed) changes() []rack.Request {
	s.Helper()
	log, err := s.rack.Log()
	s.must(err)
	return slices.DeleteFunc(log, func(q rack.Request) bool {
		return q.Subject != s.id || q.Operation == "floating_ip_view"
	})
}

// stayed checks that the address was attached once, and nothing else done to it.
func (s *placed) stayed() {
	s.Helper()
	s.settled()
	if changes := s.changes(); len(changes) != 1 {
		s.Errorf("the address had to stay on %s, and the rack was asked: %+v", s.node, changes)
	}
	if node := s.nodeOf(s.address); node != s.node {
		s.Errorf("the address had to stay on %s, and is on %s", s.node, node)
	}
	s.servedBy(s.key, s.address)
}

// settled waits until the controller knows what was done before, and has begun what it has to do
// about it. It is woken several times: a list may have begun with what was known before, and ended
// after.
func (p *pool) settled() {
	p.Helper()
	for range 3 {
		touched := time.Now()
		p.wake()
		p.eventually(func(context.Context) (string, error) {
			log, err := p.rack.Log()
			if err != nil || slices.ContainsFunc(log, func(q rack.Request) bool {
				return q.Operation == "floating_ip_list" && q.Began.After(touched)
			}) {
				return "", err
			}
			return "a list of the floating IPs", nil
		})
	}
}

// wake gives the controller a reason to read the rack: a Service of the pool that is served by no
// Node, the bell, changes in what the backend is sent of it.
func (p *pool) wake() {
	p.Helper()
	name := p.name + "-bell"
	services := p.client.CoreV1().Services("default")
	bell, err := services.Get(p.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		bell = objects.LoadBalancer("default", name, objects.TCP(7))
		bell.Annotations = map[string]string{prefix + "node-selector": "e2e.test/bell=" + p.name}
		p.createService(bell)
		p.reserved(name)
		bell = p.service(name)
	} else {
		p.must(err)
	}
	retain := "true"
	if bell.Annotations[prefix+"retain-address"] == retain {
		retain = "false"
	}
	p.annotate(name, "retain-address", retain)
}

// told waits until a Service has an event, a warning or not, with these words.
func (p *pool) told(service, reason string, words ...string) string {
	p.Helper()
	text := ""
	now := p.service(service)
	p.eventually(func(ctx context.Context) (string, error) {
		events, err := p.eventsOn(ctx, now, ",reason="+reason, words...)
		if err != nil || len(events) > 0 {
			text = ""
			if len(events) > 0 {
				text = events[0].Message
			}
			return "", err
		}
		others, err := p.eventsOn(ctx, now, "")
		return fmt.Sprintf("an event %s on %s that says %q, got %q", reason, service, words,
			messages(others)), err
	})
	p.Logf("%s: %s: %s", service, reason, text)
	return text
}

// asked counts the requests of an operation that were answered, and how.
func asked(changes []rack.Request, operation string) (n, refused int) {
	for _, q := range changes {
		if q.Operation == operation {
			n++
			if !q.OK() {
				refused++
			}
		}
	}
	return n, refused
}

// runs waits until an instance runs.
func (p *pool) runs(name string) {
	p.Helper()
	p.eventually(func(ctx context.Context) (string, error) {
		state, err := p.rack.State(ctx)
		if instance, _ := state.Instance(name); err == nil && instance.RunState != "running" {
			return "a running instance " + name + ", it is " + instance.RunState, nil
		}
		return "", err
	})
}

// sees waits until the programs have seen the state of an instance: its Node says it, with the next
// list of instances.
func (p *pool) sees(name, state string) {
	p.Helper()
	changed := time.Now()
	lists := 0
	p.eventually(func(context.Context) (string, error) {
		log, err := p.rack.Log()
		lists = 0
		for _, q := range log {
			if q.Operation == "instance_list" && q.Began.After(changed) {
				lists++
			}
		}
		if lists < 2 {
			return "a list that shows " + name + " as " + state, err
		}
		return "", err
	})
}

// addMachine adds an instance to the rack.
func (p *pool) addMachine(name, ip string) {
	p.Helper()
	p.must(p.rack.AddMachines(p.Context(), rack.Machine{Name: name, NCPUs: 2, MemoryGiB: 8, IP: ip}))
}

func (p *pool) deleteNode(name string) {
	p.Helper()
	p.must(p.client.CoreV1().Nodes().Delete(p.Context(), name, metav1.DeleteOptions{}))
}
