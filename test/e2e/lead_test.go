// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

const (
	// lead is how long a status is there before an address moves. It is a second; what is seen of a
	// status may be late.
	lead = 850 * time.Millisecond
	// atOnce is less than that.
	atOnce = 600 * time.Millisecond
	// stopping is more than an instance takes to stop here.
	stopping = 5 * time.Second
)

// The status leads: what will be true is published first, a second before an address moves where
// clients would be led astray, and what is not true any more is taken away last.
func TestTheStatusLeads(t *testing.T) {
	together(t, settings{},
		row{"a planned move", "planned", 2, func(p *pool) {
			s := p.place("", objects.TCP(80))
			j := p.journal(s.key)
			p.label(s.node, corev1.LabelNodeExcludeBalancers, "")
			s.led(j, lead, 2*time.Second)
		}},
		row{"a failover from a dead node, with a UDP port", "datagrams", 2, func(p *pool) {
			s := p.place("", objects.TCP(80), objects.UDP(81))
			j := p.journal(s.key)
			p.ready(corev1.ConditionUnknown, s.node)
			s.led(j, 0, atOnce)
			s.arrivedAfter(j, lead)
		}},
		row{"a failover from a dead node, TCP only: waiting would only be an outage", "streams", 2,
			func(p *pool) {
				s := p.place("", objects.TCP(80))
				j := p.journal(s.key)
				p.ready(corev1.ConditionUnknown, s.node)
				s.led(j, 0, atOnce)
			}},
		row{"a failover from a stopped instance, TCP only", "halted", 2, func(p *pool) {
			s := p.place("", objects.TCP(80))
			j := p.journal(s.key)
			p.must(p.rack.StopInstance(p.Context(), s.node))
			s.led(j, 0, stopping) // its next place is published when it begins to stop
		}},
		row{"a first attachment after an empty candidate set", "first", 1, func(p *pool) {
			firstAttachment(p, 0, objects.TCP(80))
		}},
		row{"the same with a UDP port", "firstudp", 1, func(p *pool) {
			firstAttachment(p, 0, objects.UDP(53))
		}},
		row{"another address is wanted", "another", 2, anotherAddress},
		row{"the node that it goes to is excluded before it goes", "detour", 3, detour},
		row{"many nodes fail at once", "many", 9, manyFail},
	)
}

// led waits until the address has moved, and checks in which order what happened: detached at least
// so long after the status told of both nodes, and at most.
func (s *placed) led(j *journal, least, most time.Duration) {
	s.Helper()
	s.moved()
	state := s.state()
	from, _ := state.Instance(s.node)
	to, _ := state.Instance(s.other)
	extended := j.first(time.Time{}, func(published []string) bool {
		return slices.Contains(published, to.PrivateIPs["v4"])
	})
	trimmed := j.first(extended, func(published []string) bool {
		return !slices.Contains(published, from.PrivateIPs["v4"])
	})
	changes := s.changes()
	if len(changes) != 3 || changes[1].Operation != "floating_ip_detach" ||
		changes[2].Operation != "floating_ip_attach" {
		s.Fatalf("the rack was asked %+v, want attach, detach, attach", changes)
	}
	detach, attach := changes[1], changes[2]
	s.Logf("the status told of both nodes, %s later the address was being detached, %s after that "+
		"it was attached, %s after that the status told of the new node only",
		detach.Began.Sub(extended), attach.Ended.Sub(detach.Began), trimmed.Sub(attach.Ended))
	switch led := detach.Began.Sub(extended); {
	case led < least && (least > 0 || !extended.Before(attach.Ended)):
		s.Errorf("the status told of both nodes %s before the detach, want %s", led, least)
	case led > most:
		s.Errorf("the detach was %s after the status told of both nodes, want %s", led, most)
	}
	if !trimmed.After(attach.Ended) {
		s.Errorf("the status lost the old node at %s, the address was attached at %s", trimmed,
			attach.Ended)
	}
}

// arrivedAfter checks that an address was attached to its new node a while after that was
// published: a client that sends datagrams before the proxies know the new node would be lost for
// good.
func (s *placed) arrivedAfter(j *journal, least time.Duration) {
	s.Helper()
	to, _ := s.state().Instance(s.other)
	extended := j.first(time.Time{}, func(published []string) bool {
		return slices.Contains(published, to.PrivateIPs["v4"])
	})
	changes := s.changes()
	if led := changes[2].Began.Sub(extended); led < least {
		s.Errorf("the address was being attached %s after its new node was published, want %s", led, least)
	}
}

func firstAttachment(p *pool, least time.Duration, port corev1.ServicePort) {
	p.ready(corev1.ConditionUnknown, p.nodes[0])
	p.settled()
	service := p.make("", nil, port)
	address := p.reserved(service)
	j := p.journal(service)
	p.ready(corev1.ConditionTrue, p.nodes[0])
	p.servedBy(service, address)
	s := p.located(service)
	published := j.first(time.Time{}, func(published []string) bool { return len(published) == 2 })
	changes := s.changes()
	if len(changes) != 1 {
		p.Fatalf("the rack was asked %+v, want to attach", changes)
	}
	led := changes[0].Began.Sub(published)
	p.Logf("the status was there %s before the address was being attached", led)
	if led < least && (least > 0 || !published.Before(changes[0].Ended)) {
		p.Errorf("the status was there %s before the address was being attached, want %s", led, least)
	}
}

// The plan may be another one after the second in which the status led.
func detour(p *pool) {
	s := p.place("", objects.TCP(80))
	j := p.journal(s.key)
	p.label(s.node, corev1.LabelNodeExcludeBalancers, "")
	s.awaitBothPublished()
	state := p.state()
	for _, ingress := range p.service(s.key).Status.LoadBalancer.Ingress[2:] {
		for _, name := range p.nodes {
			if instance, _ := state.Instance(name); instance.PrivateIPs["v4"] == ingress.IP {
				p.label(name, corev1.LabelNodeExcludeBalancers, "")
			}
		}
	}
	s.arrived(j)
}

// Where an address goes depends on where others go, and these are on their way at the same time.
func manyFail(p *pool) {
	const services = 9
	all, journals := make([]*placed, services), make([]*journal, services)
	for i := range all {
		port := objects.TCP(int32(8000 + i))
		if i%3 == 0 {
			port = objects.UDP(int32(8000 + i))
		}
		all[i] = p.place(fmt.Sprintf("-%d", i), port)
		journals[i] = p.journal(all[i].key)
	}
	failing := p.nodes[:5]
	for i, name := range failing {
		switch i % 3 {
		case 0:
			p.label(name, corev1.LabelNodeExcludeBalancers, "")
		case 1:
			p.must(p.rack.SetRunState(p.Context(), name, "stopped"))
		case 2:
			p.ready(corev1.ConditionUnknown, name)
		}
	}
	for i, s := range all {
		if slices.Contains(failing, s.node) {
			s.arrived(journals[i], failing...)
		}
	}
}

// arrived waits until the address is served elsewhere, and checks that the status showed the place
// before it was there, and that it went there at once, or over nodes that failed after its own.
func (s *placed) arrived(j *journal, failing ...string) {
	s.Helper()
	s.eventually(func(ctx context.Context) (string, error) {
		state, err := s.rack.State(ctx)
		ip, _ := state.FloatingIP(s.address)
		if err == nil && (ip.Instance == s.node || ip.AttachState != rack.Attached) {
			return "the move of " + s.address, nil
		}
		return "", err
	})
	s.servedBy(s.key, s.address)
	changes := s.changes()
	attach := changes[len(changes)-1]
	to, _ := s.state().Instance(s.nodeOf(s.address))
	published := j.first(time.Time{}, func(published []string) bool {
		return slices.Contains(published, to.PrivateIPs["v4"])
	})
	detours := 0
	for _, name := range failing {
		via, _ := s.state().Instance(name)
		if name != s.node && j.published(via.PrivateIPs["v4"]) {
			detours++
		}
	}
	if n, _ := asked(changes, "floating_ip_attach"); n < 2 || n > 2+detours {
		s.Errorf("the address was attached %d times, want 2 and %d at most: %+v", n, 2+detours, changes)
	}
	if !published.Before(attach.Ended) {
		s.Errorf("the status told of %s at %s, and the address was there at %s", to.Name,
			published.Format(time.StampMilli), attach.Ended.Format(time.StampMilli))
	}
}

// Invariant 2 as well: the new address is secured and serves before the old one is let go.
func anotherAddress(p *pool) {
	const wanted = "198.51.100.240"
	s := p.place("", objects.TCP(80))
	j := p.journal(s.key)
	p.annotate(s.key, "floating-ip", wanted)
	p.servedBy(s.key, wanted)
	next := p.located(s.key)
	both := j.first(time.Time{}, func(published []string) bool {
		return slices.Contains(published, wanted) && slices.Contains(published, s.address)
	})
	without := j.first(both, func(published []string) bool {
		return !slices.Contains(published, s.address)
	})
	var attached, detached rack.Request
	for _, q := range next.changes() {
		attached = q
	}
	for _, q := range s.changes() {
		if q.Operation == "floating_ip_detach" {
			detached = q
		}
	}
	for i, pair := range [][2]time.Time{
		{both, attached.Ended}, {attached.Ended, detached.Began}, {detached.Ended, without},
	} {
		if pair[0].Sub(pair[1]) > rack.LogPrecision {
			p.Errorf("step %d: the status told of both addresses at %s, the new one was attached at "+
				"%s, the old one detached at %s, the status without it at %s", i, both,
				attached.Ended, detached.Ended, without)
		}
	}
}

// journal notes what the status of a Service says, and when, as the API server tells it.
type journal struct {
	*pool
	mu    sync.Mutex
	notes []note
}

type note struct {
	at        time.Time
	published []string
}

// journal begins to note.
func (p *pool) journal(service string) *journal {
	p.Helper()
	now := p.service(service)
	watcher, err := p.client.CoreV1().Services("default").Watch(p.Context(), metav1.ListOptions{
		FieldSelector: "metadata.name=" + service, ResourceVersion: now.ResourceVersion,
	})
	p.must(err)
	p.Cleanup(watcher.Stop)
	j := &journal{pool: p}
	go func() {
		for event := range watcher.ResultChan() {
			service, ok := event.Object.(*corev1.Service)
			if !ok {
				return
			}
			one := note{at: time.Now()}
			for _, ingress := range service.Status.LoadBalancer.Ingress {
				one.published = append(one.published, ingress.IP)
			}
			j.mu.Lock()
			j.notes = append(j.notes, one)
			j.mu.Unlock()
		}
	}()
	return j
}

// published reports whether an address was published at any time.
func (j *journal) published(addr string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.notes, func(n note) bool { return slices.Contains(n.published, addr) })
}

// first returns when the status first was such, after a time.
func (j *journal) first(after time.Time, such func(published []string) bool) time.Time {
	j.Helper()
	var at time.Time
	j.eventually(func(context.Context) (string, error) {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, n := range j.notes {
			if n.at.After(after) && such(n.published) {
				at = n.at
				return "", nil
			}
		}
		return "a status that never was", nil
	})
	return at
}
