// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// enough is how many answers each client has before and after what a test does.
	enough = 100
	// routed has a Service served by an external subnet.
	sourceAnnotation, routed = "oxide.computer/address-source", "external-subnet"
)

// source is a kind of address.
type source struct {
	name   string
	family corev1.IPFamily
	routed bool
	// short: `make e2e-datapath SHORT=1` has it.
	short bool
}

var sources = []source{
	{name: "floating IP, IPv4", family: corev1.IPv4Protocol, short: true},
	{name: "external subnet, IPv4", family: corev1.IPv4Protocol, routed: true},
	{name: "floating IP, IPv6", family: corev1.IPv6Protocol},
	{name: "external subnet, IPv6", family: corev1.IPv6Protocol, routed: true, short: true},
}

// wanted is a Service with an address of that kind.
func (k source) wanted(prefix string, port int32) wanted {
	w := wanted{prefix: prefix, first: port, family: k.family, udp: true}
	if k.routed {
		w.annotations = map[string]string{sourceAnnotation: routed}
	}
	return w
}

// TestADrainLosesNothingButTheMove: a node is cordoned and its pods are evicted, as by `kubectl
// drain`. No connection is refused, every request before the address leaves is answered, and so is
// every request after it has arrived. Clients in the cluster lose nothing at all: they are served by
// the proxy of their own node, wherever the address is.
func TestADrainLosesNothingButTheMove(t *testing.T) {
	for i, kind := range sources {
		t.Run(kind.name, func(t *testing.T) {
			s := newSceneIf(t, kind.short)
			s.keeps("clients in the cluster lose nothing while the address moves: " + kind.name)
			s.steadily(func(try int32) { s.drain(kind, 8500+int32(i)+1000*try) })
		})
	}
}

// drain drains the node that carries the address of a new Service, with clients outside and inside.
func (s *scene) drain(kind source, port int32) {
	s.Helper()
	ctx, cancel := s.within(limit)
	defer cancel()
	of := s.make(kind.wanted("drain", port))[0]
	clients, inside := s.call(clientNamespace, "", of, kinds...), s.callFromInside(ctx, of)
	for _, each := range append(inside, clients) {
		s.must(each.await(ctx, enough))
	}
	begun := time.Now()
	s.must(s.cordon(ctx, of.machine, true))
	s.setEndpoints(ctx, of, map[*machine]endpointState{of.machine: ending})
	move, err := s.crossing.moved(ctx, begun, of.address)
	s.must(err)
	s.must(clients.await(ctx, 3*enough))
	end(append(inside, clients)...)
	s.losesNothing("drain: "+kind.name, clients, move)
	for _, each := range inside {
		s.allAnswered(each)
	}
}

// callFromInside starts clients on the node that carries the address of a Service, in a pod there and
// in one elsewhere, once their proxies have it: a flow that they have not translated goes on so.
func (s *scene) callFromInside(ctx context.Context, of service) []*traffic {
	s.Helper()
	var first []*traffic
	for _, m := range []*machine{of.machine, s.another(of)} {
		first = append(first, s.call(m.podNamespace, "", of, newTCP, newUDP))
	}
	for _, clients := range first {
		s.must(clients.await(ctx, enough/10))
	}
	end(first...)
	for _, clients := range first {
		_, err := clients.stop()
		s.must(err)
	}
	return []*traffic{
		s.call(of.machine.name, "", of, newTCP),
		s.call(of.machine.podNamespace, "", of, keptUDP),
		s.call(s.another(of).podNamespace, "", of, newTCP, keptTCP),
	}
}

// TestARebalanceLosesNothingButTheMove, and nothing at all of the Services that stay.
func TestARebalanceLosesNothingButTheMove(t *testing.T) {
	s := newLongScene(t)
	s.keeps("a rebalance loses nothing of Services that stay")
	s.steadily(func(try int32) {
		ctx, cancel := s.within(2 * limit)
		defer cancel()
		services := s.crowded(wanted{prefix: "even", first: 8540 + 1000*try, count: 2, udp: true})
		var all []*traffic
		for _, of := range services {
			all = append(all, s.call(clientNamespace, "", of, kinds...))
		}
		for _, clients := range all {
			s.must(clients.await(ctx, enough))
		}
		begun := time.Now()
		s.must(s.rebalance(ctx))
		move, err := s.crossing.moved(ctx, begun, services[0].address, services[1].address)
		s.must(err)
		for _, clients := range all {
			s.must(clients.await(ctx, 3*enough))
		}
		end(all...)
		for i, of := range services {
			if of.address == move.address {
				s.losesNothing("rebalance: floating IP, IPv4", all[i], move)
			} else {
				s.allAnswered(all[i])
			}
		}
		s.remove(services[0].name, services[1].name)
		s.awaitNone()
	})
}

// rebalance has the addresses spread evenly, by the command for it.
func (s *scene) rebalance(ctx context.Context) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, s.prepared.Programs.Backend, "rebalance", "--yes",
		"--socket="+strings.TrimPrefix(s.ccm.Socket, "unix://"))
	cmd.Env, cmd.Stdout, cmd.Stderr = os.Environ(), &out, &out
	err := cmd.Run()
	s.Logf("%s", out.String())
	return err
}

// losesNothing ends clients of an address that has moved, and checks that they have lost nothing but
// what they sent while it was nowhere.
func (s *scene) losesNothing(what string, clients *traffic, move gap) []request {
	s.Helper()
	requests, err := clients.stop()
	s.must(err)
	s.stalled = max(s.stalled, clients.stalled)
	var sum tally
	for i, o := range clients.orders {
		seen := count(requests, i, move)
		s.Logf("%s: %s: %d requests; lost %d before, %d in %.2f s between, %d after; %d refused",
			what, o.Kind, seen.Requests, seen.Before, seen.Between, move.lasted().Seconds(), seen.After,
			seen.Refused)
		if seen.Before+seen.After+seen.Refused > 0 {
			s.fault("%s: %s lost what it must not: left %s, arrived %s; %s", what, o.Kind,
				move.left.Format("15:04:05.000"), move.arrived.Format("15:04:05.000"),
				strings.Join(seen.First, "; "))
		}
		sum = sum.add(seen)
	}
	if goal := goals["move_gap_seconds"]; move.lasted().Seconds() > goal {
		s.fault("%s: the address was nowhere for %s, want at most %g s", what, move.lasted(), goal)
	}
	s.moves = append(s.moves, moved{what, move.lasted().Seconds(), sum})
	return requests
}

// fault is something that must not be, unless the machine was too busy to measure it.
func (s *scene) fault(format string, args ...any) {
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// steadily measures something, again if it went wrong while the machine was so busy that the clients
// themselves were not run.
func (s *scene) steadily(do func(try int32)) {
	s.Helper()
	for try := range int32(tries) {
		s.faults, s.moves, s.stalled = nil, nil, 0
		do(try)
		if len(s.faults) == 0 || s.stalled == 0 {
			break
		}
		s.Logf("the machine is too busy: clients were not run for %s", s.stalled)
		for _, m := range s.machines {
			ctx, cancel := s.within(limit)
			s.must(s.cordon(ctx, m, false))
			s.must(s.label(ctx, m.name, crowdLabel, ""))
			cancel()
		}
	}
	for _, fault := range s.faults {
		s.Error(fault)
	}
	for _, m := range s.moves {
		s.figures.move(m)
	}
}

// allAnswered ends clients, and checks that all their requests were answered.
func (s *scene) allAnswered(clients *traffic) map[greeting]int {
	s.Helper()
	requests, err := clients.stop()
	s.must(err)
	s.stalled = max(s.stalled, clients.stalled)
	for i, o := range clients.orders {
		if seen := count(requests, i); seen.After > 0 {
			s.fault("%s at %s: %d of %d not answered: %s", o.Kind, o.Address, seen.After, seen.Requests,
				strings.Join(seen.First, "; "))
		}
	}
	return greeted(requests)
}

// another is a machine that does not carry the address of a Service.
func (s *scene) another(of service) *machine {
	if of.machine == s.machines[0] {
		return s.machines[1]
	}
	return s.machines[0]
}

// crowded makes Services that are all on one machine, and that any may carry from then on.
func (s *scene) crowded(w wanted) []service {
	s.Helper()
	ctx, cancel := s.within(limit)
	defer cancel()
	host := s.machines[1]
	s.must(s.label(ctx, host.name, crowdLabel, "true"))
	w.annotations = map[string]string{"oxide.computer/node-selector": crowdLabel + "=true"}
	services := s.make(w)
	for _, of := range services {
		if of.machine != host {
			s.Fatalf("%s is on %s, want %s", of.name, of.machine.name, host.name)
		}
	}
	for _, m := range s.machines[2:] {
		s.must(s.label(ctx, m.name, crowdLabel, "true"))
	}
	return services
}
