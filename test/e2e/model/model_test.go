// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// seeds are those of every run, unless MODEL_SEED or MODEL_OPERATIONS say otherwise.
var seeds = []uint64{1, 2, 3, 4}

// operationCount is how many operations all seeds together make by default.
const operationCount = 1000

// The worlds wait more than they work, so more of them run at once than there are processors.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", strconv.Itoa(len(seeds))); err != nil {
		fmt.Fprintln(os.Stderr, "model:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// plan returns the seeds, and the operations for each. With MODEL_SEED there is this one alone; with
// MODEL_OPERATIONS, so many in all, and seeds that were never there.
func plan(t *testing.T) (chosen []uint64, each int) {
	t.Helper()
	chosen, total := seeds, operationCount
	number := func(name string) (uint64, bool) {
		text := os.Getenv(name)
		if text == "" {
			return 0, false
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n, true
	}
	seed, one := number("MODEL_SEED")
	count, counted := number("MODEL_OPERATIONS")
	switch {
	case one:
		chosen, total = []uint64{seed}, operationCount/len(seeds)
	case counted:
		chosen = make([]uint64, len(seeds))
		for i := range chosen {
			chosen[i] = rand.Uint64N(1_000_000)
		}
	}
	if counted {
		total = int(count)
	}
	return chosen, (total + len(chosen) - 1) / len(chosen)
}

// Invariants 1 to 8, whatever happens.
func TestInvariantsHoldWhateverHappens(t *testing.T) {
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	programs, err := stack.Build(t.Context(), root, progress.ForTest("model"))
	if err != nil {
		t.Fatal(err)
	}
	chosen, each := plan(t)
	fmt.Printf("model: seeds %d, %d operations each\n", chosen, each)
	began := time.Now()
	t.Run("worlds", func(t *testing.T) {
		for _, seed := range chosen {
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
				t.Parallel()
				newWorld(t, programs, seed).play(each)
			})
		}
	})
	if !t.Failed() {
		fmt.Printf("model: %d operations in %s, and every invariant held after each\n",
			each*len(chosen), time.Since(began).Round(time.Second))
	}
}

// firstNodes are joined before anything else happens.
const firstNodes = 3

// play makes operations happen, and checks the invariants after each.
func (w *world) play(operations int) {
	ctx := w.Context()
	before, missing, err := w.settle(ctx)
	w.settled(before, missing, err)
	w.adopt(before)
	began := time.Now()
	held, slowest, slowestText := 0, time.Duration(0), ""
	for i := range operations {
		o := w.next()
		if i < firstNodes {
			for !strings.HasPrefix(o.text, "join") {
				o = w.next()
			}
		}
		w.done = append(w.done, o.text)
		at := time.Now()
		st := step{
			before: before, replaced: make(map[string]bool), moved: make(map[string]bool),
			edited: make(map[string][]corev1.ServicePort),
			steady: func(n *node) bool {
				return !n.fitSince.IsZero() && at.Sub(n.fitSince) > steadyAfter
			},
		}
		w.isRewritten = false
		w.must(w.happen(ctx, o, before, &st))
		st.now, missing, err = w.settle(ctx)
		w.settled(st.now, missing, err)
		broken, stayed := w.broken(st)
		held += stayed
		if len(broken) > 0 {
			w.fail(fmt.Sprintf("broken by the operation %d, %s: %v", i+1, o.text, broken), st.now)
		}
		w.adopt(st.now)
		before = st.now
		if took := time.Since(at); took > slowest {
			slowest, slowestText = took, o.text
		}
		if os.Getenv("MODEL_VERBOSE") != "" {
			fmt.Printf("model: seed %d: %d: %s: %s\n", w.seed, i+1, o.text, time.Since(at))
		}
	}
	w.checkEvents(ctx)
	fmt.Printf("model: seed %d: %d operations in %s, the slowest %s (%s); %d times an address was "+
		"held to stay where it was; %d times the lease was lost\n", w.seed, operations,
		time.Since(began).Round(time.Second), slowest.Round(time.Millisecond), slowestText, held,
		w.ended)
}

func (w *world) happen(ctx context.Context, o operation, before snapshot, st *step) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	if err := o.run(ctx, before, st); err != nil {
		return fmt.Errorf("%s: %w", o.text, err)
	}
	return nil
}

// settled fails the test unless everything is as it has to be.
func (w *world) settled(s snapshot, missing problems, err error) {
	w.Helper()
	if err != nil {
		w.fail(err.Error(), s)
	}
	if len(missing) > 0 {
		w.fail(fmt.Sprintf("not settled: %v", missing), s)
	}
}

// checkEvents holds that what is told to people is one line.
func (w *world) checkEvents(ctx context.Context) {
	w.Helper()
	list, err := w.cluster.Client.CoreV1().Events(metav1.NamespaceAll).List(ctx,
		metav1.ListOptions{})
	w.must(err)
	for _, event := range list.Items {
		if event.Source.Component == "ccm-shim" && strings.Contains(event.Message, "\n") {
			w.Errorf("an event has more than one line: %q", event.Message)
		}
	}
	if len(list.Items) == 0 {
		w.Error("there is no event at all")
	}
}
