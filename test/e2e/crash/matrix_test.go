// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package crash

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// worlds is how many run side by side: most of the time is waited.
const worlds = 4

// matrix is what the worlds share.
type matrix struct {
	programs  stack.Programs
	starting  sync.Mutex
	survived  atomic.Int32
	mu        sync.Mutex
	points    []point
	unreached []string
}

// Whoever is gone at whichever request, what is desired comes about: no address is lost, leaked or
// doubled, statuses, markers and rules are right, and other Services and other people's things are as
// they were.
func TestEveryPointIsSurvived(t *testing.T) {
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	m := &matrix{}
	if m.programs, err = stack.Build(t.Context(), root, progress.ForTest("crash")); err != nil {
		t.Fatal(err)
	}
	began, wanted := time.Now(), selected()
	dry := make(chan *operation, len(operations))
	for _, o := range operations {
		if wanted.concerns(o) {
			dry <- o
		}
	}
	close(dry)
	if len(dry) == 0 {
		t.Fatalf("no operation of %q: they are in operations_test.go", wanted.names)
	}
	var planned sync.WaitGroup
	planned.Add(worlds)
	queue := make(chan point)
	go func() {
		planned.Wait()
		for _, p := range m.points {
			queue <- p
		}
		close(queue)
	}()
	t.Run("worlds", func(t *testing.T) {
		for i := range worlds {
			t.Run("world "+strconv.Itoa(i+1), func(t *testing.T) {
				t.Parallel()
				m.work(t, dry, queue, wanted, &planned)
			})
		}
	})
	for _, text := range m.unreached {
		fmt.Printf("crash: %s was not reached: that request was not sent this time\n", text)
	}
	if len(m.points) == 0 {
		t.Errorf("no point of %q", wanted.names)
	}
	fmt.Printf("crash: %d points in %s\n", len(m.points), time.Since(began).Round(time.Second))
	fmt.Printf("crash: %d points, %d survived\n", len(m.points), m.survived.Load())
}

// newWorld starts a world, one at a time: several kube-apiservers that start at once need a minute.
func (m *matrix) newWorld(t *testing.T) *world {
	t.Helper()
	m.starting.Lock()
	defer m.starting.Unlock()
	return newWorld(t, m.programs)
}

// work makes dry runs, and then points, in a world, which is a new one after each that does not survive.
func (m *matrix) work(
	t *testing.T, dry <-chan *operation, queue <-chan point, wanted selection, planned *sync.WaitGroup,
) {
	var w *world
	in := func(name string, do func()) bool {
		if w == nil {
			w = m.newWorld(t)
		}
		parent := w.T
		ok := t.Run(name, func(t *testing.T) {
			w.T = t
			do()
		})
		if w.T = parent; !ok {
			w = nil // its end is awaited at the end of the test, for its logs
		}
		return ok
	}
	func() {
		defer planned.Done()
		for o := range dry {
			in(o.name, func() {
				points := wanted.of(pointsOf(o, callsOf(w.dryRun(o), w.pair.proxy.changes)))
				m.mu.Lock()
				defer m.mu.Unlock()
				m.points = append(m.points, points...)
			})
		}
	}()
	for p := range queue {
		reached, began := false, time.Now()
		ok := in(p.String(), func() { reached = w.run(p) })
		switch {
		case ok && reached:
			m.survived.Add(1)
			fmt.Printf("crash: %s survived, %s\n", p, time.Since(began).Round(time.Millisecond))
		case ok:
			m.mu.Lock()
			m.unreached = append(m.unreached, p.String())
			m.mu.Unlock()
			t.Errorf("%s was not reached", p)
		default:
			fmt.Printf("crash: %s FAILED; repeat: make crash POINT=%s\n", p, p)
		}
	}
}

// begin makes what is there before an operation, and returns the name of its Service.
func (w *world) begin(o *operation) string {
	w.Helper()
	w.points++
	name := fmt.Sprintf("p%d", w.points)
	o.prepare(w, name)
	return name
}

// finish waits until everything is as it has to be, and makes it as it was before.
func (w *world) finish(o *operation, name string) {
	w.Helper()
	w.settle()
	if o.check != nil {
		w.await(settleLimit, func(context.Context) (string, error) { return o.check(w, name) })
	}
	w.settleForGood()
	if o.undo != nil {
		o.undo(w)
		clear(w.unfit)
		w.mayStay = false
	}
	w.clear()
}

// dryRun makes an operation at which nothing happens, and returns the requests of it.
func (w *world) dryRun(o *operation) []string {
	w.Helper()
	name := w.begin(o)
	w.pair.proxy.arm(nil)
	w.must(o.act(w, name))
	w.settle()
	calls := w.pair.proxy.disarm()
	w.finish(o, name)
	fmt.Printf("crash: %s: %s\n", o.name, strings.Join(calls, " "))
	return calls
}

// moment is what happens at a request.
type moment struct {
	// come is closed when the programs are killed, resumed when they run again, and over when the rack
	// has nothing left to do of the request.
	come, resumed, over chan struct{}
}

// run makes an operation at which something happens; false if the request did not come.
func (w *world) run(p point) (reached bool) {
	w.Helper()
	name := w.begin(p.operation)
	at := moment{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	old := w.pair
	old.proxy.arm(w.trapFor(p, old, at))
	acted := make(chan error, 1)
	go func() { acted <- p.operation.act(w, name) }()
	select {
	case <-at.come:
		reached = true
	case <-time.After(reachLimit):
		old.proxy.disarm()
	}
	if !reached || p.who == shim || p.who == both {
		err := <-acted
		acted <- nil
		if !reached {
			w.must(err)
		}
	}
	if reached {
		w.mayStay = p.operation.unseen && (p.who == shim || p.who == both)
		w.react(p, old)
		close(at.resumed)
		<-at.over
		<-acted
		if p.who == leaders {
			w.settle()
			w.kill(old, both)
			old.proxy.end()
		}
	}
	w.finish(p.operation, name)
	return reached
}

// react does what happens after the moment.
func (w *world) react(p point, old *pair) {
	w.Helper()
	switch p.who {
	case backend, shim, both:
		w.restart(old, p.who)
	case leaders:
		next, err := w.startPair(w.Context())
		w.must(err)
		w.pair = next
		w.await(settleLimit, func(context.Context) (string, error) {
			if next.proxy.listed() == 0 {
				return "that the second leader acts", nil
			}
			return "", nil
		})
	}
}

// trapFor returns what happens at a request.
func (w *world) trapFor(p point, on *pair, at moment) *trap {
	spring := func(forward func() *answer) *answer {
		defer close(at.over)
		var got *answer
		if p.when == after {
			got = forward()
		}
		listed := on.proxy.listed()
		if p.who == backend || p.who == shim || p.who == both {
			w.kill(on, p.who)
		}
		close(at.come)
		switch {
		case p.who == leaders:
			<-at.resumed
			if p.when == before {
				got = forward()
			}
		case p.when == late:
			<-at.resumed
			on.proxy.awaitList(listed)
			forward()
			return nil
		case p.who == shim && p.when == before:
			got = forward()
		case p.who != shim:
			return nil
		}
		return got
	}
	return &trap{p.call.operation, p.call.nth, spring}
}

// awaitList waits until addresses were listed more often than that.
func (p *proxy) awaitList(than int) {
	for deadline := time.Now().Add(reachLimit); p.listed() <= than && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}
