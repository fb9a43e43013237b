// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
)

var probeLine = regexp.MustCompile(`(?m)^BenchmarkThousandNodes\S*\s.*\s([0-9.]+) core-%`)

// measureProbe runs the benchmark of the probes of nodes: which share of a processor it costs to probe
// 1,000 nodes, all of them on loopback. The median of three runs of 20 seconds counts.
func measureProbe(ctx context.Context, w *world) (figures, error) {
	command := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^BenchmarkThousandNodes$",
		"-benchtime=20x", "-count=3", "-timeout=10m", "./internal/shim/reachability")
	command.Dir = w.root
	command.Env = append(command.Environ(), "GOWORK=off")
	text, err := command.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("the benchmark of probes: %w: %s", err, text)
	}
	var shares []float64
	for _, line := range probeLine.FindAllStringSubmatch(string(text), -1) {
		share, err := strconv.ParseFloat(line[1], 64)
		if err != nil {
			return nil, err
		}
		shares = append(shares, share)
	}
	if len(shares) == 0 {
		return nil, errors.New("there is no benchmark of probes")
	}
	slices.Sort(shares)
	return figures{"probe_core_percent_1000": shares[len(shares)/2]}, nil
}
