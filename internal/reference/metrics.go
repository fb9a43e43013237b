// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"k8s.io/component-base/metrics"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim"
)

// metric is what is to be known of one metric.
type metric struct{ name, kind, labels, help string }

// metricsPage describes the metrics of both programs, from what they register.
func metricsPage(ctx context.Context) (string, error) {
	p := newPage("Metrics")
	p.section("", "How to have them scraped is in [monitoring.md](../guides/monitoring.md), and what to "+
		"do about the alerts on them in [alerts.md](alerts.md). No label names a Service or a Node.")
	ofBackend, err := backend.Collectors(ctx)
	if err != nil {
		return "", err
	}
	var ofShim []prometheus.Collector
	for _, each := range shim.Collectors() {
		ofShim = append(ofShim, each)
	}
	for _, program := range []struct {
		name, text string
		collectors []prometheus.Collector
	}{
		{"oxide-backend", "Besides these it has those of the Go runtime and of its process: `go_…`, " +
			"`process_…`.", ofBackend},
		{"ccm-shim", "Besides these it has those of the framework, as every Kubernetes component: " +
			prefixesOfTheFramework() + ". With [--show-hidden-metrics-for-version](ccm-shim.md) there may be " +
			"more.", ofShim},
	} {
		all, err := metricsOf(program.collectors)
		if err != nil {
			return "", err
		}
		var rows [][]string
		for _, each := range all {
			rows = append(rows, []string{code(each.name), each.kind, code(each.labels), cell(each.help)})
		}
		p.section(program.name, program.text)
		p.table([]string{"Metric", "Type", "Labels", "Meaning"}, rows)
	}
	return p.String(), nil
}

// frameworkPrefixes are how the names of the metrics begin that the Kubernetes framework has.
var frameworkPrefixes = []string{
	"aggregator_", "apiserver_", "authenticated_", "authentication_", "authorization_", "cardinality_",
	"cloud_", "disabled_", "field_", "go_", "hidden_", "kubernetes_", "leader_", "node_", "process_",
	"registered_", "rest_", "running_", "service_", "version_", "workqueue_",
}

func prefixesOfTheFramework() string {
	var all []string
	for _, prefix := range frameworkPrefixes {
		all = append(all, "`"+prefix+"…`")
	}
	return strings.Join(all, ", ")
}

// metricsOf returns what collectors collect, by name.
func metricsOf(collectors []prometheus.Collector) ([]metric, error) {
	var all []metric
	for _, collector := range collectors {
		descs := make(chan *prometheus.Desc)
		go func() {
			defer close(descs)
			collector.Describe(descs)
		}()
		for desc := range descs {
			found, err := parseDesc(desc)
			if err != nil {
				return nil, err
			}
			if found.kind, err = kindOf(collector, found.name); err != nil {
				return nil, err
			}
			all = append(all, found)
		}
	}
	slices.SortFunc(all, func(a, b metric) int { return cmp.Compare(a.name, b.name) })
	return slices.Compact(all), nil
}

var descPattern = regexp.MustCompile(
	`^Desc\{fqName: (".*?"), help: ("(?:[^"\\]|\\.)*"),.* variableLabels: \{(.*)\}\}$`)

// parseDesc reads the only thing that a description shows: its text.
func parseDesc(desc *prometheus.Desc) (metric, error) {
	parts := descPattern.FindStringSubmatch(desc.String())
	if parts == nil {
		return metric{}, fmt.Errorf("a metric's description is of an unknown form: %s", desc)
	}
	name, err := strconv.Unquote(parts[1])
	if err != nil {
		return metric{}, fmt.Errorf("the name in %s: %w", desc, err)
	}
	help, err := strconv.Unquote(parts[2])
	if err != nil {
		return metric{}, fmt.Errorf("the help in %s: %w", desc, err)
	}
	if help = strings.TrimPrefix(help, "[ALPHA] "); help == "" {
		return metric{}, fmt.Errorf("the metric %s has no help", name)
	}
	return metric{name: name, help: help, labels: strings.Join(strings.Split(parts[3], ","), ", ")}, nil
}

// kindOf returns the type of a metric: by the type of its collector, by what that collects, or by its
// name, where the collector is a library's for several.
func kindOf(collector prometheus.Collector, name string) (string, error) {
	switch collector.(type) {
	case *prometheus.HistogramVec, *metrics.HistogramVec:
		return "histogram", nil
	case *prometheus.CounterVec, *metrics.CounterVec:
		return "counter", nil
	case *prometheus.GaugeVec, *metrics.GaugeVec:
		return "gauge", nil
	}
	if kind := kindOfCollected(collector, name); kind != "" {
		return kind, nil
	}
	switch {
	case strings.HasSuffix(name, "_total"):
		return "counter", nil
	case strings.HasSuffix(name, "_seconds"):
		return "histogram", nil
	}
	return "", fmt.Errorf("the type of the metric %s is not known", name)
}

// kindOfCollected returns the type of a metric that is collected now; empty if it is not.
func kindOfCollected(collector prometheus.Collector, name string) string {
	collected := make(chan prometheus.Metric)
	go func() {
		defer close(collected)
		collector.Collect(collected)
	}()
	kind := ""
	for each := range collected {
		var written dto.Metric
		if err := each.Write(&written); err != nil ||
			!strings.Contains(each.Desc().String(), strconv.Quote(name)) {
			continue
		}
		switch {
		case written.Gauge != nil:
			kind = "gauge"
		case written.Counter != nil:
			kind = "counter"
		case written.Histogram != nil:
			kind = "histogram"
		}
	}
	return kind
}
