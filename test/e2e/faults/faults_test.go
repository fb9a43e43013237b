// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package faults

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

const (
	// lanes is how many rows run side by side: they wait more than they work.
	lanes = 3
	// fullLength is how long a fault lasts, and sampleLength in the sample.
	fullLength, sampleLength = time.Minute, 15 * time.Second
	// rowLimit is how long a row may take besides.
	rowLimit = 6 * time.Minute
)

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", strconv.Itoa(lanes)); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// selected returns the rows to run, and how long each fault lasts.
func selected(t *testing.T) (chosen []row, lasts time.Duration) {
	t.Helper()
	pattern, all := os.Getenv("FAULTS_RUN"), os.Getenv("FAULTS") == "all"
	matches, err := regexp.Compile(pattern)
	if err != nil {
		t.Fatalf("RUN is no regular expression: %v", err)
	}
	for _, r := range rows() {
		if matches.MatchString(r.name) && (all || r.sample) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		t.Fatalf("no fault matches RUN=%q", pattern)
	}
	lasts = fullLength
	if !all {
		lasts = sampleLength
	}
	if text := os.Getenv("FAULTS_LENGTH"); text != "" {
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatalf("LENGTH: %v", err)
		}
	}
	return chosen, lasts
}

// Whatever fails between the rack, the programs and kube-apiserver: no Node is deleted, no address is
// touched, Services are left alone, the backend stays live and says why it is not ready, everything is as
// before within 30 s, and the logs and the events are bounded.
func TestFaultsHarmNothing(t *testing.T) {
	chosen, lasts := selected(t)
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	programs, err := stack.Build(t.Context(), root, progress.ForTest("faults"))
	if err != nil {
		t.Fatal(err)
	}
	results := make([]*figures, len(chosen))
	free := make(chan *lane, lanes)
	for range min(lanes, len(chosen)) {
		free <- nil // to be started by who takes it
	}
	var mu sync.Mutex
	t.Run("rows", func(t *testing.T) {
		for i, r := range chosen {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				l := <-free
				defer func() { free <- l }()
				if l == nil {
					var err error
					if l, err = newLane(t.Context(), programs); err != nil {
						if l != nil {
							err = errors.Join(err, l.close())
							l = nil
						}
						t.Fatal(err)
					}
				}
				f := run(t, l, r, lasts)
				mu.Lock()
				defer mu.Unlock()
				results[i] = f
			})
		}
	})
	for range min(lanes, len(chosen)) {
		if l := <-free; l != nil {
			if err := l.close(); err != nil {
				t.Error(err)
			}
		}
	}
	fmt.Print(table(results))
}

// run runs one row.
func run(t *testing.T, l *lane, r row, lasts time.Duration) *figures {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rowLimit+lasts)
	defer cancel()
	unready := r.unready
	if unready == 0 {
		unready = 3
	}
	w, err := newWorld(ctx, l, unready, r.addresses)
	f := &figures{row: r}
	if err == nil {
		f, err = w.play(ctx, r, lasts)
	}
	if errors.Is(err, errSkipped) {
		f.skipped, err = err, nil
	}
	f.failed = err
	keep := err != nil || len(f.broken) > 0
	if w != nil {
		if err := w.close(context.WithoutCancel(ctx), keep); err != nil {
			f.failed = errors.Join(f.failed, err)
		}
	}
	if f.failed != nil {
		t.Error(f.failed)
	}
	for _, broken := range f.broken {
		t.Error(broken)
	}
	if t.Failed() {
		t.Logf("repeat: make faults RUN='^%s$'; the logs are in %s", regexp.QuoteMeta(r.name), f.logs)
	}
	fmt.Printf("faults: %s: %s\n", r.name, f.verdict())
	return f
}
