// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// maxSessionBytes bounds all items that a session holds at a time, about as they are in memory.
const maxSessionBytes = 128 << 20

// What parts of an item take in memory, in bytes, beyond what they take on the wire: an entry of
// two bytes becomes a string of its own.
const (
	weightOfItem   = 1024
	weightOfEntry  = 128
	weightOfString = 32
)

// weigh returns about how much memory an item takes.
func weigh(req *backendv1.SyncLoadBalancersRequest) int {
	weight := weightOfItem + proto.Size(req)
	for _, used := range req.GetCandidate().GetUsedPorts() {
		weight += weightOfEntry + weightOfString*len(used.GetServes())
	}
	for _, reserved := range req.GetReservedPorts().GetPorts() {
		weight += weightOfEntry + weightOfString*len(reserved.GetServes())
	}
	lb := req.GetLoadBalancer()
	return weight + weightOfEntry*(len(lb.GetAddresses())+len(lb.GetPorts())+
		len(lb.GetEligibleInstances().GetInstances())+len(lb.GetPublishedAddresses()))
}

// ledger counts the items that a session holds, so that no client can make it hold ever more.
type ledger struct {
	mu         sync.Mutex
	candidates map[string]int
	balancers  map[ownership.Key]ledgerEntry
	reserved   int
	// bytes is the size of them all.
	bytes int
}

type ledgerEntry struct {
	ownerUID string
	size     int
}

func newLedger() *ledger {
	return &ledger{
		candidates: make(map[string]int), balancers: make(map[ownership.Key]ledgerEntry),
	}
}

func (l *ledger) addCandidate(id string, size int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, known := l.candidates[id]
	if !known && len(l.candidates) >= maxCandidates {
		return invalidf("candidate", "is one more than the %d that a session may have", maxCandidates)
	}
	l.candidates[id] = size
	return l.grow("candidate", size-before)
}

func (l *ledger) removeCandidate(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes -= l.candidates[id]
	delete(l.candidates, id)
}

func (l *ledger) setReserved(size int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.reserved
	l.reserved = size
	return l.grow("reserved_ports", size-before)
}

func (l *ledger) add(key ownership.Key, ownerUID string, size int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, known := l.balancers[key]
	if !known && len(l.balancers) >= maxLoadBalancers {
		return invalidf("load_balancer", "is one more than the %d that a session may have",
			maxLoadBalancers)
	}
	l.balancers[key] = ledgerEntry{ownerUID: ownerUID, size: size}
	return l.grow("load_balancer", size-before.size)
}

// remove takes a load balancer out, unless it has another owner by now.
func (l *ledger) remove(key ownership.Key, ownerUID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before, known := l.balancers[key]; known && before.ownerUID == ownerUID {
		l.bytes -= before.size
		delete(l.balancers, key)
	}
}

func (l *ledger) grow(field string, by int) error {
	l.bytes += by
	if l.bytes > maxSessionBytes {
		return invalidf(field, "makes the session larger than the %d MiB that it may have",
			maxSessionBytes>>20)
	}
	return nil
}
