// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The logger's flush daemon lives as long as the program.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// asked is that an address was asked.
type asked struct {
	address netip.AddrPort
	at      time.Time
}

// cluster is nodes that answer as they are made to, and their Leases. It is the Asker of a Prober
// that runs.
type cluster struct {
	*Prober
	stop func()

	mu        sync.Mutex
	targets   []Target
	answers   map[netip.AddrPort]Answer
	renewed   map[string]time.Time
	leaseErr  error
	questions []asked
	reads     map[string]int
	kept      map[netip.AddrPort]bool
	// noRoute makes silence known at once, as where a host does not answer ARP.
	noRoute bool
	// slow is how long each answer takes.
	slow      time.Duration
	announced []string
	inFlight  int
	mostAtOnce,
	readsInFlight, mostReadsAtOnce int
}

// newCluster runs a Prober on so many nodes, the first of which it is on, in a bubble of synctest.
// All answer, and renew their Leases until they are made not to.
func newCluster(t *testing.T, nodes int) *cluster {
	c := &cluster{
		answers: make(map[netip.AddrPort]Answer), renewed: make(map[string]time.Time),
		reads: make(map[string]int), kept: make(map[netip.AddrPort]bool),
	}
	c.Prober = New(func(node string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.announced = append(c.announced, node)
	})
	for i := range nodes {
		c.targets = append(c.targets, Target{Node: nameOf(i), Address: addressOf(i), Self: i == 0})
	}
	c.SetTargets(c.targets)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx, c, c.lease) })
	c.stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(c.stop)
	return c
}

// inBubble runs a test on a cluster whose nodes have all had the time to answer.
func inBubble(t *testing.T, nodes int, test func(t *testing.T, c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nodes)
		defer c.stop()
		after(3 * time.Second)
		test(t, c)
	})
}

// after lets so much time pass, and all that follows from it.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func nameOf(i int) string { return fmt.Sprintf("node-%d", i) }

func addressOf(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 10250)
}

// Ask implements Asker.
func (c *cluster) Ask(ctx context.Context, addresses []netip.AddrPort, report func(i int, answer Answer)) {
	var answers sync.WaitGroup
	defer answers.Wait()
	for i, address := range addresses {
		answers.Go(func() { report(i, c.ask(ctx, address)) })
	}
}

func (c *cluster) ask(ctx context.Context, address netip.AddrPort) Answer {
	c.mu.Lock()
	c.questions = append(c.questions, asked{address, time.Now()})
	c.kept[address] = true
	c.inFlight++
	c.mostAtOnce = max(c.mostAtOnce, c.inFlight)
	answer, set := c.answers[address]
	noRoute, slow := c.noRoute, c.slow
	c.mu.Unlock()
	if !set {
		answer = Answered
	}
	deadline, _ := ctx.Deadline()
	switch {
	case answer == Silent && !noRoute, slow >= time.Until(deadline):
		answer = c.beSilent(ctx)
	case slow > 0:
		time.Sleep(slow)
	}
	c.mu.Lock()
	c.inFlight--
	c.mu.Unlock()
	return answer
}

// beSilent waits until just before the deadline: the race detector crashes after some ten thousands
// of contexts that expire in one bubble.
func (c *cluster) beSilent(ctx context.Context) Answer {
	deadline, _ := ctx.Deadline()
	timer := time.NewTimer(time.Until(deadline) - time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return Silent
	case <-ctx.Done():
		return Inconclusive
	}
}

// Forget implements Asker.
func (c *cluster) Forget(address netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.kept, address)
}

var errHangs = errors.New("the API server does not answer")

// lease is the Lease of a node: it is renewed all the time but where fail stopped it.
func (c *cluster) lease(ctx context.Context, node string) (Lease, error) {
	c.mu.Lock()
	c.reads[node]++
	c.readsInFlight++
	c.mostReadsAtOnce = max(c.mostReadsAtOnce, c.readsInFlight)
	renewed, stopped := c.renewed[node]
	err := c.leaseErr
	c.mu.Unlock()
	if errors.Is(err, errHangs) {
		<-ctx.Done()
	}
	c.mu.Lock()
	c.readsInFlight--
	c.mu.Unlock()
	if !stopped {
		renewed = time.Now()
	}
	return Lease{time.Since(renewed), limitOf(nil)}, err
}

// become makes nodes answer in some way.
func (c *cluster) become(answer Answer, nodes ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range nodes {
		c.answers[addressOf(i)] = answer
	}
}

// stopRenewing makes nodes have renewed their Leases last so long ago.
func (c *cluster) stopRenewing(ago time.Duration, nodes ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range nodes {
		c.renewed[nameOf(i)] = time.Now().Add(-ago)
	}
}

// die makes nodes silent that renewed their Leases last so long ago.
func (c *cluster) die(ago time.Duration, nodes ...int) {
	c.become(Silent, nodes...)
	c.stopRenewing(ago, nodes...)
}

// live makes nodes answer and renew their Leases again.
func (c *cluster) live(nodes ...int) {
	c.become(Answered, nodes...)
	c.renewAgain(nodes...)
}

func (c *cluster) renewAgain(nodes ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range nodes {
		delete(c.renewed, nameOf(i))
	}
}

// answerAfter makes each answer take so long.
func (c *cluster) answerAfter(slow time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slow = slow
}

func (c *cluster) failLeases(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaseErr = err
}

// observed returns the state of a node.
func (c *cluster) observed(i int) State { return c.Observe(nameOf(i)).State }

// within waits until a condition holds, and returns how long that took; it fails the test after the
// limit.
func (c *cluster) within(t *testing.T, limit time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !holds() {
		if time.Since(begin) > limit {
			t.Fatalf("not within %s: %s", limit, what)
		}
		after(10 * time.Millisecond)
	}
	return time.Since(begin)
}

// never fails the test if a condition holds at some time within the limit.
func (c *cluster) never(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < limit; after(10 * time.Millisecond) {
		if holds() {
			t.Fatalf("after %s: %s", time.Since(begin), what)
		}
	}
}

// isJudged says whether one of some nodes is unreachable beyond doubt.
func (c *cluster) isJudged(nodes ...int) func() bool {
	return func() bool {
		return slices.ContainsFunc(nodes, func(i int) bool {
			now := c.Observe(nameOf(i))
			return now.State == Unreachable && !now.InDoubt
		})
	}
}

func (c *cluster) isUnreachable(i int) func() bool {
	return func() bool { return c.observed(i) == Unreachable }
}

// takeAnnounced returns the nodes that were announced since the last call until the end of the next
// tick, each once.
func (c *cluster) takeAnnounced() []string {
	after(tick)
	c.mu.Lock()
	defer c.mu.Unlock()
	names := c.announced
	c.announced = nil
	slices.Sort(names)
	return slices.Compact(names)
}

// takeQuestions returns what was asked since the last call.
func (c *cluster) takeQuestions() []asked {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.questions
	c.questions = nil
	return taken
}

func (c *cluster) allReads() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := 0
	for _, n := range c.reads {
		sum += n
	}
	return sum
}

func (c *cluster) readsOf(i int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads[nameOf(i)]
}
