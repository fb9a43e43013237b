// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// driftLimit is how long what people did by hand may go unnoticed: nothing in Kubernetes tells of
// it, so it is found by the look that comes once a minute.
const driftLimit = 90 * time.Second

// What people do to addresses by hand is repaired or told of, although nothing in Kubernetes
// changes.
func TestDriftIsFound(t *testing.T) {
	q := &quiet{}
	q.rows.Add(6)
	together(t, settings{},
		row{"detached", "detached", 2, func(p *pool) {
			s := p.drifting(q)
			p.must(p.rack.Detach(p.Context(), s.ip()))
			s.repaired("another place", func(ip rack.FloatingIP) bool { return ip.Instance != "" })
			p.servedBy(s.key, s.address)
		}},
		row{"moved to another Node", "moved", 2, func(p *pool) {
			s := p.drifting(q)
			p.must(p.rack.Detach(p.Context(), s.ip()))
			p.must(p.rack.Attach(p.Context(), s.ip(), s.other))
			s.within(driftLimit, "the status of the new place", func() bool {
				_, missing := wrongStatus(p.service(s.key), p.state())
				return missing == ""
			})
			if node := p.nodeOf(s.address); node != s.other {
				p.Errorf("the address was moved back to %s: a place that does is as good", node)
			}
		}},
		row{"moved to an instance that is no Node", "abroad", 2, func(p *pool) {
			p.addMachine("stranger", "172.30.2.20")
			s := p.drifting(q)
			p.must(p.rack.Detach(p.Context(), s.ip()))
			p.must(p.rack.Attach(p.Context(), s.ip(), "stranger"))
			before := len(s.changes())
			s.within(driftLimit, "an event that tells of it", func() bool {
				events, err := p.eventsOn(p.Context(), p.service(s.key), ",reason=ForeignAttachment",
					s.address, "stranger")
				p.must(err)
				return len(events) == 1
			})
			if changes := s.changes()[before:]; len(changes) > 0 {
				p.Errorf("the address is another cluster's to move, and the rack was asked %+v", changes)
			}
		}},
		row{"described anew", "described", 2, func(p *pool) {
			s := p.drifting(q)
			before := s.ip().Description
			p.must(p.rack.Describe(p.Context(), s.ip(), "our web shop"))
			s.repaired("its marker", func(ip rack.FloatingIP) bool {
				return strings.Contains(ip.Description, before) &&
					strings.Contains(ip.Description, "our web shop")
			})
			p.servedBy(s.key, s.address)
		}},
		row{"renamed", "renamed", 2, func(p *pool) {
			s := p.drifting(q)
			before := len(s.changes())
			p.must(p.rack.Rename(p.Context(), s.ip(), "web-shop"))
			p.must(p.rack.Detach(p.Context(), s.ip()))
			s.repaired("another place", func(ip rack.FloatingIP) bool { return ip.Instance != "" })
			p.servedBy(s.key, s.address)
			if name := s.ip().Name; name != "web-shop" {
				p.Errorf("the address was renamed back to %s", name)
			}
			p.told(s.key, "AddressRenamed", s.address, "web-shop")
			p.Logf("%d requests", len(s.changes())-before)
		}},
		row{"deleted", "deleted", 2, func(p *pool) {
			s := p.drifting(q)
			p.must(p.rack.Detach(p.Context(), s.ip()))
			p.must(p.rack.Delete(p.Context(), s.ip()))
			// There is no way to get it back for sure: the Service has another one, and says so.
			s.within(driftLimit, "another address", func() bool {
				address, missing := wrongStatus(p.service(s.key), p.state())
				return missing == "" && address != ""
			})
			p.told(s.key, "AddressReplaced", s.address)
		}},
	)
}

// quietTime is longer than a new instance goes unnoticed.
const quietTime = 6 * time.Second

// quiet is the time after all that there is to do was done, and before anything is done by hand.
type quiet struct {
	rows sync.WaitGroup
}

// drifting is a Service to which people will do things, once nothing happens any more.
func (p *pool) drifting(q *quiet) *placed {
	p.Helper()
	arrived := sync.OnceFunc(q.rows.Done)
	p.Cleanup(arrived) // nobody waits for a test that failed
	s := p.place("", objects.TCP(80))
	p.exempt(s.key)
	arrived()
	q.rows.Wait()
	p.eventually(func(context.Context) (string, error) {
		log, err := p.rack.Log()
		lists := slices.DeleteFunc(log, func(q rack.Request) bool {
			return q.Operation != "floating_ip_list"
		})
		if err == nil && time.Since(lists[len(lists)-1].Began) < quietTime {
			return quietTime.String() + " without a look", nil
		}
		return "", err
	})
	return s
}

// ip returns the address as it is on the rack.
func (s *placed) ip() rack.FloatingIP {
	s.Helper()
	ip, found := s.state().FloatingIP(s.address)
	if !found {
		s.Fatalf("the rack has no floating IP %s", s.address)
	}
	return ip
}

// repaired waits until the address is as it should be.
func (s *placed) repaired(what string, is func(rack.FloatingIP) bool) {
	s.Helper()
	s.within(driftLimit, what, func() bool {
		ip, found := s.state().FloatingIP(s.address)
		return found && ip.AttachState == rack.Attached && is(ip)
	})
}

// within waits for something for a while.
func (s *placed) within(limit time.Duration, what string, holds func() bool) {
	s.Helper()
	began := time.Now()
	s.eventuallyWithin(limit, func(context.Context) (string, error) {
		if holds() {
			return "", nil
		}
		return fmt.Sprintf("%s for the address %s of %s", what, s.address, s.key), nil
	})
	s.Logf("%s: after %s", what, time.Since(began).Round(time.Millisecond))
}
