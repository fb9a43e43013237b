// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

const (
	// callInterval is how often each client makes a request, and callLimit how long it waits for the
	// answer.
	callInterval, callLimit = 2 * time.Millisecond, time.Second
	// onTheWay is how long a request may have been on its way when the address left, and was lost with
	// it. The requests before that have to be answered.
	onTheWay = 50 * time.Millisecond
	// stallLimit is for how long a process may not be run: beyond it nothing is measured but that.
	stallLimit, stallTick = 250 * time.Millisecond, 20 * time.Millisecond
	// tries is how often something is measured until the machine is not too busy.
	tries = 3
)

// kinds are those of all clients.
var kinds = []string{newTCP, keptTCP, newUDP, keptUDP}

// traffic is clients in a process of their own, in one network namespace.
type traffic struct {
	orders  []order
	stdin   io.Closer
	cmd     *exec.Cmd
	reading sync.WaitGroup

	mu       sync.Mutex
	requests []request
	counts   []int // of answers, by order
	// steady is since when all clients are answered: the proxies have their Service.
	steady  time.Time
	stalled time.Duration
}

// call starts clients of a Service in a network namespace, one of each kind.
func (s *scene) call(namespace, source string, of service, kinds ...string) *traffic {
	s.Helper()
	at := net.JoinHostPort(of.address, strconv.Itoa(int(of.port)))
	var orders []order
	for _, kind := range kinds {
		orders = append(orders, order{
			Kind: kind, Address: at, Source: source, Interval: callInterval, Limit: callLimit,
		})
	}
	t, err := startTraffic(namespace, orders)
	s.must(err)
	s.Cleanup(func() { _, _ = t.stop() })
	return t
}

func startTraffic(namespace string, orders []order) (*traffic, error) {
	text, err := json.Marshal(orders)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("ip", "netns", "exec", namespace, self)
	cmd.Env = append(os.Environ(), clientVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	t := &traffic{orders: orders, stdin: stdin, cmd: cmd, counts: make([]int, len(orders))}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t.reading.Go(func() {
		decoder := json.NewDecoder(stdout)
		for {
			var r request
			if decoder.Decode(&r) != nil {
				return
			}
			t.mu.Lock()
			switch {
			case r.Order == notRun:
				t.stalled = max(t.stalled, r.Ended.Sub(r.Began))
			case r.Outcome == answered:
				t.counts[r.Order]++
				fallthrough
			default:
				t.requests = append(t.requests, r)
			}
			t.mu.Unlock()
		}
	})
	return t, nil
}

// await waits until each client has had that many further answers.
func (t *traffic) await(ctx context.Context, more int) error {
	t.mu.Lock()
	before := slices.Clone(t.counts)
	t.mu.Unlock()
	err := process.Await(ctx, func(context.Context) (bool, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		for i, count := range t.counts {
			if count < before[i]+more {
				return false, nil
			}
		}
		if t.steady.IsZero() {
			t.steady = time.Now()
		}
		return true, nil
	})
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		for i, o := range t.orders {
			err = fmt.Errorf("%w; %s at %s: %d answers", err, o.Kind, o.Address, t.counts[i]-before[i])
		}
	}
	return err
}

// end lets clients make no further requests. stop waits for their last ones.
func end(all ...*traffic) {
	for _, t := range all {
		t.stdin.Close()
	}
}

// stop ends the clients when their last requests are over, and returns those that began since all of
// them were answered; all, if that was not awaited.
func (t *traffic) stop() ([]request, error) {
	t.stdin.Close()
	t.reading.Wait()
	var err error
	if t.cmd.ProcessState == nil {
		err = t.cmd.Wait()
	}
	all := make([]request, 0, len(t.requests))
	for _, r := range t.requests {
		if !r.Began.Before(t.steady) {
			all = append(all, r)
		}
	}
	return all, err
}

// tally is what became of the requests of one client.
type tally struct {
	Requests int
	// Before, Between and After are those that were not answered: of an address that moves, before it
	// left, until it arrived, and afterwards.
	Before, Between, After int
	// Refused are those of all of them that were refused, at whatever time.
	Refused int
	// First are some of those that should have been answered, for people.
	First []string
}

// count judges requests: those of one client, or of all if order is negative.
func count(requests []request, order int, moves ...gap) tally {
	var t tally
	for _, r := range requests {
		if order >= 0 && r.Order != order {
			continue
		}
		t.Requests++
		if r.Outcome == answered {
			continue
		}
		if r.Outcome == refused {
			t.Refused++
		}
		place := &t.After
		for _, move := range moves {
			switch {
			case r.Began.Before(move.left.Add(-onTheWay)):
				place = &t.Before
			case r.Began.Before(move.arrived):
				place = &t.Between
			}
		}
		if *place++; place != &t.Between && len(t.First) < 5 {
			t.First = append(t.First, fmt.Sprintf("%s %s after %s", r.Began.Format("15:04:05.000"),
				r.Outcome, r.Ended.Sub(r.Began).Round(time.Millisecond)))
		}
	}
	return t
}

func (t tally) add(other tally) tally {
	return tally{
		Requests: t.Requests + other.Requests, Before: t.Before + other.Before,
		Between: t.Between + other.Between, After: t.After + other.After,
		Refused: t.Refused + other.Refused,
	}
}

// greeted returns who has answered.
func greeted(requests []request) map[greeting]int {
	all := map[greeting]int{}
	for _, r := range requests {
		if r.Outcome == answered {
			all[r.Greeting]++
		}
	}
	return all
}
