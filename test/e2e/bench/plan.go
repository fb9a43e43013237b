// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
)

// planRuns is how often each plan is measured; the median counts.
const planRuns = "5"

// planFigures are the figures by the names of the planner's benchmarks.
func planFigures() map[string]string {
	return map[string]string{
		"Plan1000Attached": "plan_1000_ms", "Plan1000Moving": "plan_1000_moving_ms",
		"Plan5000Attached": "plan_5000_ms", "Plan5000Moving": "plan_5000_moving_ms",
		"Rebalance1000": "rebalance_1000_ms",
	}
}

var benchmarkLine = regexp.MustCompile(`(?m)^Benchmark(\w+?)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op`)

// measurePlan runs the benchmarks of the planner: the cost of one plan for so many load balancers and
// 100 candidates, all of them attached or a tenth of them moving, and how it grows from 1,000 to 5,000.
func measurePlan(ctx context.Context, w *world) (figures, error) {
	command := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^Benchmark(Plan|Rebalance)",
		"-benchtime=500ms", "-count="+planRuns, "-timeout=2m", "./internal/loadbalancers/plan")
	command.Dir = w.root
	command.Env = append(command.Environ(), "GOWORK=off")
	text, err := command.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("the benchmarks of the planner: %w: %s", err, text)
	}
	times := make(map[string][]float64)
	for _, line := range benchmarkLine.FindAllStringSubmatch(string(text), -1) {
		ns, err := strconv.ParseFloat(line[2], 64)
		if err != nil {
			return nil, err
		}
		times[line[1]] = append(times[line[1]], ns/1e6)
	}
	found := figures{}
	for benchmark, figure := range planFigures() {
		sorted := slices.Sorted(slices.Values(times[benchmark]))
		if len(sorted) == 0 {
			return nil, fmt.Errorf("the planner has no benchmark %s", benchmark)
		}
		found[figure] = sorted[len(sorted)/2]
	}
	found["plan_growth"] = max(found["plan_5000_ms"]/found["plan_1000_ms"],
		found["plan_5000_moving_ms"]/found["plan_1000_moving_ms"])
	return found, nil
}
