// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkThousandNodes reports which share of a processor it costs to probe 1,000 nodes that answer,
// the answers of their kernels included, for they are all on loopback. An operation is one second.
func BenchmarkThousandNodes(b *testing.B) {
	const nodes, carriers = 1000, 150
	var targets []Target
	for i := range nodes {
		_, address := listen(b, fmt.Sprintf("127.0.%d.%d", 1+i/250, 1+i%250))
		targets = append(targets, Target{Node: nameOf(i), Address: address, Carries: i < carriers})
	}
	prober := New(func(string) {})
	prober.SetTargets(targets)
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	asker := NewTCP()
	running.Go(func() {
		prober.Run(ctx, asker, func(context.Context, string) (Lease, error) {
			b.Error("a Lease was read")
			return Lease{}, nil
		})
	})
	defer running.Wait()
	defer cancel()
	for limit := time.Now().Add(time.Minute); ; {
		reachable := 0
		for _, target := range targets {
			if prober.Observe(target.Node).State == Reachable {
				reachable++
			}
		}
		if reachable == nodes {
			break
		}
		if time.Now().After(limit) {
			b.Fatalf("%d of %d nodes are reachable after a minute", reachable, nodes)
		}
		time.Sleep(100 * time.Millisecond)
	}

	b.ResetTimer()
	before := cpuTime(b)
	for range b.N {
		time.Sleep(time.Second) // what is measured is the rest of the process
	}
	b.StopTimer()
	spent := cpuTime(b) - before
	b.ReportMetric(100*spent.Seconds()/b.Elapsed().Seconds(), "core-%")
}

// cpuTime is the processor time that this process has spent, its kernel's included.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
