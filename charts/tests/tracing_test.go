// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// telemetry returns the settings of OpenTelemetry that a container has.
func telemetry(container corev1.Container) map[string]string {
	settings := make(map[string]string)
	for _, env := range container.Env {
		if strings.HasPrefix(env.Name, "OTEL_") {
			settings[env.Name] = env.Value
		}
	}
	return settings
}

func TestBothContainersSendTheirSpansToTheEndpointAndOnlyIfThereIsOne(t *testing.T) {
	const ipv6 = "https://[2001:db8::5]"
	const named = "k8s.namespace.name=kube-system,k8s.pod.name=$(POD_NAME)"
	for name, tt := range map[string]struct {
		values string
		want   map[string]string
	}{
		"nothing":       {"", map[string]string{}},
		"a ratio alone": {"tracing: {samplingRatio: 0.5}", map[string]string{}},
		"an endpoint by address": {`tracing: {endpoint: "http://10.0.0.5:4317"}`, map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://10.0.0.5:4317", "OTEL_RESOURCE_ATTRIBUTES": named,
		}},
		"a share of the traces": {`tracing: {endpoint: "` + ipv6 + `", samplingRatio: 0}`, map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": ipv6, "OTEL_RESOURCE_ATTRIBUTES": named,
			"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := render(t, tt.values).deployment.Spec.Template.Spec
			for _, of := range []string{backendName, shimName} {
				each := container(t, pod, of)
				if diff := cmp.Diff(tt.want, telemetry(each)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", of, diff)
				}
				// A variable is expanded in those after it only.
				position := make(map[string]int)
				for i, env := range each.Env {
					position[env.Name] = i + 1
				}
				if position["POD_NAME"] > position["OTEL_RESOURCE_ATTRIBUTES"] {
					t.Errorf("%s: POD_NAME comes after what names it", of)
				}
			}
		})
	}
}
