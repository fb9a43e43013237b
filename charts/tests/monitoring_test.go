// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// withMonitors are the arguments of a cluster that has the Prometheus operator.
var withMonitors = []string{
	"--api-versions", "monitoring.coreos.com/v1/PodMonitor",
	"--api-versions", "monitoring.coreos.com/v1/ServiceMonitor",
	"--api-versions", "monitoring.coreos.com/v1/PrometheusRule",
}

// podMonitor and serviceMonitor are what the chart uses of the Prometheus operator's types.
type podMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector            metav1.LabelSelector `json:"selector"`
		PodMetricsEndpoints []metricsEndpoint    `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []metricsEndpoint    `json:"endpoints"`
	} `json:"spec"`
}

type metricsEndpoint struct {
	Port              string       `json:"port"`
	Path              string       `json:"path"`
	Scheme            string       `json:"scheme,omitempty"`
	Interval          string       `json:"interval,omitempty"`
	ScrapeTimeout     string       `json:"scrapeTimeout,omitempty"`
	Relabelings       []relabeling `json:"relabelings,omitempty"`
	MetricRelabelings []relabeling `json:"metricRelabelings,omitempty"`
	BearerTokenFile   string       `json:"bearerTokenFile,omitempty"`
	TLSConfig         *tlsConfig   `json:"tlsConfig,omitempty"`
}

type relabeling struct {
	Action       string   `json:"action,omitempty"`
	SourceLabels []string `json:"sourceLabels,omitempty"`
	TargetLabel  string   `json:"targetLabel,omitempty"`
	Replacement  string   `json:"replacement,omitempty"`
	Regex        string   `json:"regex,omitempty"`
}

type tlsConfig struct {
	InsecureSkipVerify bool `json:"insecureSkipVerify"`
}

// decodeMonitor decodes a monitor strictly; anything else it leaves alone.
func (o *objects) decodeMonitor(t *testing.T, document []byte) (bool, error) {
	t.Helper()
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return false, err
	}
	if kind.APIVersion != "monitoring.coreos.com/v1" {
		return false, nil
	}
	switch kind.Kind {
	case "PodMonitor":
		once(t, &o.podMonitor, &podMonitor{})
		return true, yaml.UnmarshalStrict(document, o.podMonitor)
	case "PrometheusRule":
		once(t, &o.prometheusRule, &prometheusRule{})
		return true, yaml.UnmarshalStrict(document, o.prometheusRule)
	}
	once(t, &o.serviceMonitor, &serviceMonitor{})
	return true, yaml.UnmarshalStrict(document, o.serviceMonitor)
}

func TestMonitorsNeedTheirDefinitionsAndOpenMetrics(t *testing.T) {
	const open = "shim: {bindAddress: 0.0.0.0}\nbackend: {metrics: {enabled: true}}\n"
	tests := []struct {
		name, values string
		args         []string
		pod, service bool
	}{
		{name: "no definitions", values: open},
		{name: "no definitions to be seen", values: open + "monitoring: {forceEnable: true}", pod: true,
			service: true},
		{name: "switched off and forced", values: open + "monitoring: {enabled: false, forceEnable: true}"},
		{name: "all closed", args: withMonitors},
		{name: "switched off", values: open + "monitoring: {enabled: false}", args: withMonitors},
		{name: "all open", values: open, args: withMonitors, pod: true, service: true},
		{name: "the backend open", values: "backend: {metrics: {enabled: true}}", args: withMonitors,
			pod: true},
		{name: "the shim open", values: "shim: {bindAddress: 192.0.2.1}", args: withMonitors,
			service: true},
		{name: "the shim on loopback by IPv6", values: "shim: {bindAddress: \"::1\"}",
			args: withMonitors},
		{name: "pod network", values: "deployment: {hostNetwork: false}", args: withMonitors,
			service: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			all := render(t, test.values, test.args...)
			if (all.podMonitor != nil) != test.pod {
				t.Errorf("a PodMonitor: %t, want %t", all.podMonitor != nil, test.pod)
			}
			if (all.serviceMonitor != nil) != test.service ||
				(all.metricsService != nil) != test.service {
				t.Errorf("a ServiceMonitor: %t, and its Service: %t, want %t",
					all.serviceMonitor != nil, all.metricsService != nil, test.service)
			}
		})
	}
}

func TestMonitorsFindThePodsAndTheirPorts(t *testing.T) {
	all := render(t, everything, withMonitors...)
	pod := all.deployment.Spec.Template
	backend, shim := container(t, pod.Spec, backendName), container(t, pod.Spec, shimName)
	for name, selector := range map[string]map[string]string{
		"PodMonitor": all.podMonitor.Spec.Selector.MatchLabels, "Service": all.metricsService.Spec.Selector,
	} {
		if diff := cmp.Diff(all.deployment.Spec.Selector.MatchLabels, selector); diff != "" {
			t.Errorf("the %s selects other pods (-Deployment +it):\n%s", name, diff)
		}
	}
	for key, value := range all.serviceMonitor.Spec.Selector.MatchLabels {
		if got := all.metricsService.Labels[key]; got != value {
			t.Errorf("the Service has %s=%q, the ServiceMonitor wants %q", key, got, value)
		}
	}
	relabelings := []relabeling{{TargetLabel: "cluster", Replacement: "west"}}
	metricRelabelings := []relabeling{
		{Action: "drop", SourceLabels: []string{"__name__"}, Regex: "go_.*"},
	}
	if diff := cmp.Diff([]metricsEndpoint{{
		Port: "metrics", Path: "/metrics", Interval: "30s", ScrapeTimeout: "10s",
		Relabelings: relabelings, MetricRelabelings: metricRelabelings,
	}}, all.podMonitor.Spec.PodMetricsEndpoints); diff != "" {
		t.Errorf("endpoints of the backend (-want +got):\n%s", diff)
	}
	if port := backend.Ports[len(backend.Ports)-1]; port.Name != "metrics" {
		t.Errorf("the backend's last port is %q, want metrics", port.Name)
	}
	if diff := cmp.Diff([]metricsEndpoint{{
		Port: "https", Path: "/metrics", Scheme: "https", Interval: "30s", ScrapeTimeout: "10s",
		Relabelings: relabelings, MetricRelabelings: metricRelabelings,
		BearerTokenFile: "/var/run/secrets/kubernetes.io/serviceaccount/token",
		TLSConfig:       &tlsConfig{InsecureSkipVerify: true},
	}}, all.serviceMonitor.Spec.Endpoints); diff != "" {
		t.Errorf("endpoints of the shim (-want +got):\n%s", diff)
	}
	service := all.metricsService.Spec
	if service.ClusterIP != "None" || service.Ports[0].Name != "https" ||
		service.Ports[0].TargetPort.StrVal != shim.Ports[0].Name {
		t.Errorf("the Service does not lead to each pod's port %s: %v", shim.Ports[0].Name, service)
	}
	for kind, labels := range map[string]map[string]string{
		"PodMonitor": all.podMonitor.Labels, "ServiceMonitor": all.serviceMonitor.Labels,
	} {
		if labels["release"] != "prometheus" {
			t.Errorf("the %s lacks the label that Prometheus looks for: %v", kind, labels)
		}
	}
}
