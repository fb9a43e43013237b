// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2emonitoring

package monitoring

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/demo"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// The alerts fire when they are to, by promtool's own tests.
func TestAlertsFireWhenTheyAreTo(t *testing.T) {
	root := rootOf(t)
	promtool := buildTools(t, root).promtool
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", filepath.Join(root,
			"charts/oxide-cloud-controller-manager/files/alerts.yaml")},
		{"test", "rules", "testdata/alerts.yaml"},
	} {
		out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// mayBeEmpty are the panels that show something only when something is wrong, and the metrics of probes,
// which the demo does without: the addresses of its Nodes are made up.
var (
	mayBeEmpty = []string{"Failures", "Calls that failed"}
	ofProbes   = regexp.MustCompile(`oxide_ccm_node(s_unreachable|s_watchable|_unreachable_suppressed_total)`)
)

// A real Prometheus scrapes both programs while the demo runs, and is asked what the dashboard and the
// alerts ask.
func TestAPrometheusThatScrapesTheDemoAnswersTheDashboard(t *testing.T) {
	root := rootOf(t)
	program := buildTools(t, root).prometheus
	metrics := freeAddress(t)
	var p *prometheus
	err := demo.Observe(t.Context(), os.Stdout, demo.Observer{
		Rack: func(options *rack.Options) {
			options.FleetViewer, options.TokenExpires = true, time.Now().AddDate(0, 0, 90)
		},
		BackendFlags: []string{"--metrics-listen=" + metrics},
		Started: func(ctx context.Context, running demo.Running) error {
			var err error
			p, err = startPrometheus(ctx, t, program, root, running, metrics)
			return err
		},
		Told: func(ctx context.Context) error {
			// The story is over when the rack and the cluster say so; its traces come a scrape later.
			for _, expression := range []string{
				"sum(oxide_ccm_failover_published_seconds_count) > 1",
				// A plot takes some samples, and some of them after the end of the story.
				"min(count_over_time(up[5m])) > 25",
			} {
				if err := p.await(ctx, expression); err != nil {
					return err
				}
			}
			p.checkDashboard(ctx, root)
			p.checkAlerts(ctx)
			p.checkPage(ctx, root)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// board is what is used of the dashboard.
type board struct {
	Panels []panel `json:"panels"`
}

type panel struct {
	Type        string `json:"type"`
	Title       string `json:"title"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []struct {
		Expr   string `json:"expr"`
		Legend string `json:"legendFormat"`
	} `json:"targets"`
	// results are the answers for each target, over time.
	results [][]series
}

// checkDashboard puts each query of the dashboard, as Grafana would.
func (p *prometheus) checkDashboard(ctx context.Context, root string) {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "charts/oxide-cloud-controller-manager/files/dashboard.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	var b board
	if err := json.Unmarshal(text, &b); err != nil {
		p.t.Fatal(err)
	}
	asked := 0
	for i := range b.Panels {
		panel := &b.Panels[i]
		for _, target := range panel.Targets {
			expression := strings.NewReplacer("$namespace", ".*", "$__rate_interval", "10s").Replace(target.Expr)
			result, err := p.query(ctx, expression)
			switch {
			case err != nil:
				p.t.Errorf("%s: %s: %v", panel.Title, expression, err)
			case len(result) == 0 && !slices.Contains(mayBeEmpty, panel.Title) &&
				!ofProbes.MatchString(expression):
				p.t.Errorf("%s: nothing is known by %s", panel.Title, expression)
			}
			result, err = p.over(ctx, expression)
			if err != nil {
				p.t.Errorf("%s, over time: %v", panel.Title, err)
			}
			panel.results = append(panel.results, result)
			asked++
		}
	}
	p.t.Logf("%d queries of the dashboard were answered", asked)
	if file := os.Getenv("PICTURE"); file != "" {
		if err := os.WriteFile(file, []byte(picture(b)), 0o644); err != nil {
			p.t.Error(err)
		}
	}
}

// checkAlerts holds that all alerts can be evaluated, and that none comes of what the demo does, but for
// what it does to a node.
func (p *prometheus) checkAlerts(ctx context.Context) {
	p.t.Helper()
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Query, Health, LastError, State string }
		}
	}
	if err := p.get(ctx, "rules", &rules); err != nil {
		p.t.Fatal(err)
	}
	evaluated := 0
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			evaluated++
			if rule.Health != "ok" || rule.LastError != "" {
				p.t.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
			}
			if rule.State == "firing" {
				p.t.Errorf("%s fires, by %s", rule.Name, oneLine(rule.Query))
			}
			if _, err := p.query(ctx, rule.Query); err != nil {
				p.t.Errorf("%s: %v", rule.Name, err)
			}
		}
	}
	p.t.Logf("%d alerts were evaluated", evaluated)
	if evaluated < 20 {
		p.t.Errorf("only %d alerts", evaluated)
	}
}

// checkPage holds that the page of metrics has all that was scraped, and nothing else.
func (p *prometheus) checkPage(ctx context.Context, root string) {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/reference/metrics.md"))
	if err != nil {
		p.t.Fatal(err)
	}
	var metadata map[string][]struct{ Type, Help string }
	if err := p.get(ctx, "metadata", &metadata); err != nil {
		p.t.Fatal(err)
	}
	documented, unlabelled := map[string]string{}, map[string]bool{}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z]+) \\| (.*?) \\| ")
	for _, cells := range row.FindAllStringSubmatch(string(text), -1) {
		documented[cells[1]], unlabelled[cells[1]] = cells[2], cells[3] == ""
	}
	var prefixes []string
	for _, match := range regexp.MustCompile("`([a-z]+_)…`").FindAllStringSubmatch(string(text), -1) {
		prefixes = append(prefixes, match[1])
	}
	fromFramework := func(name string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	}
	ours := 0
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		if !strings.HasPrefix(name, "oxide_") {
			if !fromFramework(name) {
				p.t.Errorf("%s begins with nothing that the page names", name)
			}
			continue
		}
		ours++
		if kind := documented[name]; kind != metadata[name][0].Type {
			p.t.Errorf("%s is a %s, on the page a %q", name, metadata[name][0].Type, kind)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		// What nodes are probed for, and what only a trial shows, is not in the demo.
		switch {
		case len(metadata[name]) > 0, strings.HasPrefix(name, "oxide_ccm_node_probes"),
			strings.HasPrefix(name, "oxide_ccm_nodes_"), name == "oxide_ccm_node_unreachable_suppressed_total":
		case unlabelled[name]:
			p.t.Errorf("%s is on the page, and nobody serves it", name)
		}
	}
	p.t.Logf("%d metrics of the project were scraped, of %d on the page", ours, len(documented))
}

func rootOf(t *testing.T) string {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// freeAddress returns an address that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}
