// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// prometheusRule is what the chart uses of the Prometheus operator's type.
type prometheusRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ruleGroups `json:"spec"`
}

// ruleGroups are the content of a file of rules for Prometheus.
type ruleGroups struct {
	Groups []struct {
		Name  string  `json:"name"`
		Rules []alert `json:"rules"`
	} `json:"groups"`
}

type alert struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// alerts are those of a file of rules, by the group that they are in.
func (g ruleGroups) alerts() map[string][]alert {
	all := map[string][]alert{}
	for _, group := range g.Groups {
		all[group.Name] = append(all[group.Name], group.Rules...)
	}
	return all
}

func alertsFile(t *testing.T) ruleGroups {
	t.Helper()
	var file ruleGroups
	if err := yaml.UnmarshalStrict([]byte(read(t, chart+"/files/alerts.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	return file
}

const openMetrics = "shim: {bindAddress: 0.0.0.0}\nbackend: {metrics: {enabled: true}}\n"

// An alert on metrics that nobody scrapes would either never fire, or always.
func TestAlertsAreThoseOnOpenMetrics(t *testing.T) {
	tests := []struct {
		name, values string
		args         []string
		groups       []string
		dashboard    bool
	}{
		{name: "no definitions", values: openMetrics},
		{name: "no definitions to be seen", values: openMetrics + "monitoring: {forceEnable: true}",
			groups: []string{"oxide-backend", "ccm-shim"}, dashboard: true},
		{name: "all closed", args: withMonitors},
		{name: "all open", values: openMetrics, args: withMonitors,
			groups: []string{"oxide-backend", "ccm-shim"}, dashboard: true},
		{name: "the backend open", values: "backend: {metrics: {enabled: true}}", args: withMonitors,
			groups: []string{"oxide-backend"}, dashboard: true},
		{name: "the shim open", values: "shim: {bindAddress: 0.0.0.0}", args: withMonitors,
			groups: []string{"ccm-shim"}, dashboard: true},
		{name: "switched off", values: openMetrics + "monitoring: {enabled: false}", args: withMonitors},
		{name: "without alerts", values: openMetrics + "monitoring: {rules: {enabled: false}}",
			args: withMonitors, dashboard: true},
		{name: "without the dashboard", values: openMetrics + "monitoring: {dashboard: {enabled: false}}",
			args: withMonitors, groups: []string{"oxide-backend", "ccm-shim"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			all := render(t, test.values, test.args...)
			var groups []string
			if all.prometheusRule != nil {
				for _, group := range all.prometheusRule.Spec.Groups {
					groups = append(groups, group.Name)
				}
			}
			if diff := cmp.Diff(test.groups, groups); diff != "" {
				t.Errorf("groups of alerts (-want +got):\n%s", diff)
			}
			if got := all.dashboard != nil; got != test.dashboard {
				t.Errorf("a dashboard: %t, want %t", got, test.dashboard)
			}
		})
	}
}

// The chart adds labels and where the runbook is, and changes nothing else of what promtool tests.
func TestAlertsOfTheChartAreThoseOfTheFile(t *testing.T) {
	version := strings.TrimSpace(read(t, "VERSION"))
	want := alertsFile(t)
	for i := range want.Groups {
		for j := range want.Groups[i].Rules {
			rule := &want.Groups[i].Rules[j]
			rule.Annotations["runbook_url"] = "https://github.com/oxidecomputer/oxide-cloud-controller-manager/" +
				"blob/" + version + "/docs/reference/alerts.md#" + strings.ToLower(rule.Alert)
		}
	}
	got := render(t, openMetrics, withMonitors...).prometheusRule
	if diff := cmp.Diff(want, got.Spec); diff != "" {
		t.Errorf("rules (-file +rendered):\n%s", diff)
	}
	all := render(t, everything, withMonitors...).prometheusRule
	if all.Labels["release"] != "prometheus" {
		t.Errorf("the PrometheusRule lacks the label that Prometheus looks for: %v", all.Labels)
	}
	for _, group := range all.Spec.Groups {
		for _, rule := range group.Rules {
			if rule.Alert == "OxideAddressesOrphaned" {
				t.Error("an alert that is disabled is there")
			}
			if rule.Labels["team"] != "platform" || rule.Labels["severity"] == "" {
				t.Errorf("%s has the labels %v", rule.Alert, rule.Labels)
			}
			if want := "https://runbooks.example.com/oxide/" + strings.ToLower(rule.Alert); rule.
				Annotations["runbook_url"] != want {
				t.Errorf("%s leads to %s", rule.Alert, rule.Annotations["runbook_url"])
			}
		}
	}
}

func TestEveryAlertHasARunbook(t *testing.T) {
	page := read(t, "docs/reference/alerts.md")
	sections := map[string]string{}
	for section := range strings.SplitSeq("\n"+page, "\n## ") {
		title, text, _ := strings.Cut(section, "\n")
		sections[title] = text
	}
	known := map[string]bool{}
	for group, rules := range alertsFile(t).alerts() {
		for _, rule := range rules {
			known[rule.Alert] = true
			if len(strings.TrimSpace(sections[rule.Alert])) < 80 {
				t.Errorf("docs/reference/alerts.md has no section for %s that says what to do", rule.Alert)
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, rule.Labels["severity"]) {
				t.Errorf("%s has the severity %q", rule.Alert, rule.Labels["severity"])
			}
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s says not what it means", rule.Alert)
			}
			if group != "oxide-backend" && group != "ccm-shim" {
				t.Errorf("%s is in the group %s, for which nothing opens metrics", rule.Alert, group)
			}
		}
	}
	for title := range sections {
		if strings.HasPrefix(title, "Oxide") && !known[title] {
			t.Errorf("docs/reference/alerts.md has a section for %s, which is no alert", title)
		}
	}
}

// `make e2e-monitoring` runs the tests of the alerts; that there are some for each is held here.
func TestEveryAlertIsTested(t *testing.T) {
	tests := read(t, "test/e2e/monitoring/testdata/alerts.yaml")
	for _, rules := range alertsFile(t).alerts() {
		for _, rule := range rules {
			series := `ALERTS{alertname="` + rule.Alert + `", alertstate="firing"`
			if !strings.Contains(tests, "'"+series+", severity=") {
				t.Errorf("no test says when %s fires", rule.Alert)
			}
			if !strings.Contains(tests, "expr: "+series+"}") {
				t.Errorf("no test asks for %s", rule.Alert)
			}
		}
	}
}

// dashboard is what the tests use of Grafana's type.
type dashboard struct {
	Title      string `json:"title"`
	UID        string `json:"uid"`
	Templating struct {
		List []struct {
			Name string `json:"name"`
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		ID          int    `json:"id"`
		Type        string `json:"type"`
		Title       string `json:"title"`
		Description string `json:"description"`
		GridPos     struct {
			H, W, X, Y int
		} `json:"gridPos"`
		Targets []struct {
			Expr string `json:"expr"`
		} `json:"targets"`
	} `json:"panels"`
}

func TestTheDashboardOfTheChartIsTheFile(t *testing.T) {
	all := render(t, everything, withMonitors...)
	file := read(t, chart+"/files/dashboard.json")
	if got := all.dashboard.Data[releaseName+".json"]; got != file {
		t.Error("the ConfigMap holds something else than files/dashboard.json")
	}
	if all.dashboard.Labels["grafana_dashboard"] != "yes" ||
		all.dashboard.Annotations["grafana_folder"] != "Kubernetes" {
		t.Errorf("labels %v, annotations %v", all.dashboard.Labels, all.dashboard.Annotations)
	}
	if render(t, openMetrics, withMonitors...).dashboard.Labels["grafana_dashboard"] != "1" {
		t.Error("Grafana's sidecar does not find the dashboard by default")
	}
}

// Panels that overlap, or have one id, are not all shown.
func TestTheDashboardIsWellFormed(t *testing.T) {
	var board dashboard
	if err := json.Unmarshal([]byte(read(t, chart+"/files/dashboard.json")), &board); err != nil {
		t.Fatal(err)
	}
	taken, ids := map[[2]int]string{}, map[int]bool{}
	variable := regexp.MustCompile(`\$\{?([a-z_]+)`)
	known := []string{"__rate_interval"}
	for _, each := range board.Templating.List {
		known = append(known, each.Name)
	}
	for _, panel := range board.Panels {
		if ids[panel.ID] {
			t.Errorf("two panels have the id %d", panel.ID)
		}
		ids[panel.ID] = true
		for x := panel.GridPos.X; x < panel.GridPos.X+panel.GridPos.W; x++ {
			for y := panel.GridPos.Y; y < panel.GridPos.Y+panel.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%q lies over %q", panel.Title, other)
				}
				taken[[2]int{x, y}] = panel.Title
			}
		}
		if panel.Type != "row" && (len(panel.Targets) == 0 || panel.Description == "") {
			t.Errorf("%q shows nothing, or says not what", panel.Title)
		}
		for _, target := range panel.Targets {
			for _, match := range variable.FindAllStringSubmatch(target.Expr, -1) {
				if !slices.Contains(known, match[1]) {
					t.Errorf("%q uses the variable %s, which there is not", panel.Title, match[1])
				}
			}
		}
	}
	if board.Title == "" || board.UID == "" || len(board.Panels) < 20 {
		t.Errorf("title %q, uid %q, %d panels", board.Title, board.UID, len(board.Panels))
	}
}

// fromLibraries are the metrics in alerts and the dashboard that are not this project's own.
var fromLibraries = []string{
	"leader_election_master_status", "process_resident_memory_bytes", "process_cpu_seconds_total",
}

// A metric that was renamed would leave an alert that never fires, and a panel without data.
func TestAlertsAndDashboardUseOnlyMetricsThatThereAre(t *testing.T) {
	documented := map[string]bool{}
	for line := range strings.Lines(read(t, "docs/reference/metrics.md")) {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			name, rest, _ := strings.Cut(name, "` | ")
			documented[name] = true
			if strings.HasPrefix(rest, "histogram") {
				documented[name+"_bucket"], documented[name+"_count"] = true, true
			}
		}
	}
	var board dashboard
	if err := json.Unmarshal([]byte(read(t, chart+"/files/dashboard.json")), &board); err != nil {
		t.Fatal(err)
	}
	var expressions []string
	for _, rules := range alertsFile(t).alerts() {
		for _, rule := range rules {
			expressions = append(expressions, rule.Expr)
		}
	}
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			expressions = append(expressions, target.Expr)
		}
	}
	name := regexp.MustCompile(`\b[a-z]+(_[a-z]+){2,}\b`)
	found := 0
	for _, expression := range expressions {
		// Names by a pattern are those of the two programs.
		expression = strings.NewReplacer("oxide_(ccm|backend)_build_info", "oxide_ccm_build_info").
			Replace(expression)
		for _, metric := range name.FindAllString(expression, -1) {
			found++
			if !documented[metric] && !slices.Contains(fromLibraries, metric) {
				t.Errorf("there is no metric %s, in: %s", metric, expression)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d names of metrics were found in %d expressions", found, len(expressions))
	}
}
