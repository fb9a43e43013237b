// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command bench measures the product: real processes, a real kube-apiserver and a simulated rack, on
// loopback. It prints a table and writes bench/results.json, one flat object of numbers.
//
// The environment variable BENCH selects parts by name, separated by commas: "failover" selects all
// whose names begin with "failover-". A partial run replaces only its own figures in the file. The table
// shows the goal of a figure where there is one, and whether it was missed; that is no failure, because
// the times depend on the machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// resultsFile is where the figures are written to, from the root of the repository.
const resultsFile = "bench/results.json"

// part measures something. Its figures are named with their unit at the end.
type part struct {
	name    string
	measure func(ctx context.Context, w *world) (figures, error)
}

func parts() []part {
	return []part{
		{"nodes-10", onFleet(10, (*fleet).measureNodes)},
		{"nodes-100", onFleet(100, (*fleet).measureNodes)},
		{"nodes-1000", onFleet(1000, (*fleet).measureNodes)},
		{"memory", onFleet(memoryNodes, (*fleet).measureMemory)},
		{"process", measureProcess}, {"plan", measurePlan}, {"probe", measureProbe},
		{"lb-session", onFleet(sessionNodes, (*fleet).measureSession)},
		{"lb-firewall", onFleet(10, keepsRules((*fleet).measureFirewall))},
		{"lb-services", onFleet(10, (*fleet).measureServices)},
		{"lb-restart", onFleet(20, (*fleet).measureRestart)},
		{"failover-one", failoverOfOne}, {"failover-subnet", failoverOfSubnet},
		{"failover-many", failoverOfMany},
		{"failover-local", failoverOfLocal}, {"failover-again", failoverAgain},
		{"failover-leader", failoverOfTheLeader},
		{"reuse-importer", measureImporter}, {"reuse-reads", measureReads}, {"reuse-vip", measureVIP},
		{"scale-services", onFleet(1000, (*fleet).measureThousandServices)},
		{"scale-5000", growth},
		{"scale-session", onFleet(400, (*fleet).measureLargeSessions)},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Getenv("BENCH"))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func run(ctx context.Context, selection string) error {
	selected, err := choose(selection)
	if err != nil {
		return err
	}
	root, err := stack.Root()
	if err != nil {
		return err
	}
	build := stack.BuildOwn
	if slices.ContainsFunc(selected, part.needsKubernetes) {
		build = stack.Build
	}
	programs, err := build(ctx, root, progress.To(os.Stderr, "bench"))
	if err != nil {
		return err
	}
	for _, p := range selected {
		fmt.Fprintf(os.Stderr, "bench: measuring %s\n", p.name)
		found, err := p.run(ctx, root, programs)
		if err != nil {
			return fmt.Errorf("part %s: %w", p.name, err)
		}
		found.print(os.Stdout)
		if err := found.save(filepath.Join(root, resultsFile)); err != nil {
			return err
		}
	}
	return nil
}

// needsKubernetes reports whether the part needs a control plane.
func (p part) needsKubernetes() bool { return !strings.HasPrefix(p.name, "reuse-") }

// run measures in a world of its own: what another part has left behind would count.
func (p part) run(ctx context.Context, root string, programs stack.Programs) (figures, error) {
	w, err := newWorld(ctx, root, programs, p.needsKubernetes())
	if err != nil {
		return nil, err
	}
	defer w.close()
	return p.measure(ctx, w)
}

func choose(selection string) ([]part, error) {
	all := parts()
	if selection == "" {
		// What takes a quarter of an hour by itself is measured only where it is named.
		return slices.DeleteFunc(all, func(p part) bool { return p.name == "scale-5000" }), nil
	}
	var selected []part
	for _, name := range strings.Split(selection, ",") {
		found := false
		for _, p := range all {
			if p.name == name || strings.HasPrefix(p.name, name+"-") {
				selected, found = append(selected, p), true
			}
		}
		if !found {
			names := make([]string, 0, len(all))
			for _, p := range all {
				names = append(names, p.name)
			}
			return nil, errors.New("BENCH: there is no part " + name + "; there are " +
				strings.Join(names, ", "))
		}
	}
	return selected, nil
}
