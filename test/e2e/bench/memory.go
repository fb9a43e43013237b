// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

const (
	// memoryNodes is how many nodes a cluster of the usual size has, and memoryServices its Services.
	memoryNodes, memoryServices = 20, 10
	// clockTick is the unit of the kernel's figures of CPU time, on every architecture that Go runs on.
	clockTick = 10 * time.Millisecond
)

// measureMemory measures what both programs hold at rest in a cluster of the usual size, and what they
// use of a core then.
func (f *fleet) measureMemory(ctx context.Context, found figures) error {
	if err := f.join(ctx); err != nil {
		return err
	}
	if err := f.serve(ctx, memoryServices); err != nil {
		return err
	}
	if err := rest(ctx, idle); err != nil {
		return err
	}
	before, err := f.cpuSeconds()
	if err != nil {
		return err
	}
	if err := rest(ctx, time.Minute); err != nil {
		return err
	}
	after, err := f.cpuSeconds()
	if err != nil {
		return err
	}
	for name := range after {
		found["cpu_percent_"+name+"_20"] = (after[name] - before[name]) / time.Minute.Seconds() * 100
	}
	for _, p := range f.processes() {
		mb, err := residentMB(p.process.PID())
		if err != nil {
			return err
		}
		found[fmt.Sprintf("rss_%s_20_mb", p.name)] = mb
		found["rss_both_20_mb"] += mb
		// What is mapped of the program's file is shared, and is dropped when memory is short.
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.process.PID()))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "RssAnon:") || strings.HasPrefix(line, "RssFile:") {
				fmt.Fprintln(os.Stderr, "bench:", p.name, strings.Join(strings.Fields(line), " "))
			}
		}
	}
	return nil
}

type named struct {
	name    string
	process *process.Process
}

// processes are both programs, with their names in figures.
func (f *fleet) processes() []named {
	return []named{{"backend", f.ccm.Backend}, {"shim", f.ccm.Shim}}
}

// cpuSeconds returns what both programs have used of the CPUs so far, by their names in figures.
func (f *fleet) cpuSeconds() (map[string]float64, error) {
	used := map[string]float64{}
	for _, p := range f.processes() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.process.PID()))
		if err != nil {
			return nil, err
		}
		// The second field is the name, in parentheses; user and system time are the 14th and 15th.
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 13 {
			return nil, fmt.Errorf("process %d has no CPU time", p.process.PID())
		}
		for _, field := range fields[11:13] {
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return nil, err
			}
			used[p.name] += (time.Duration(ticks) * clockTick).Seconds()
		}
	}
	return used, nil
}
