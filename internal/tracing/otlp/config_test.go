// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package otlp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestOnlyAnEndpointSwitchesTracingOn(t *testing.T) {
	const general, traces = "http://127.0.0.1:4317", "https://collector.example.com"
	for name, tt := range map[string]struct {
		environment       []string
		endpoint, setting string
	}{
		"nothing": {},
		"settings without an endpoint": {
			environment: []string{"OTEL_SERVICE_NAME", "x", "OTEL_EXPORTER_OTLP_HEADERS", "wrong"},
		},
		"for all signals": {
			[]string{endpointVariable, " " + general + "/ "}, general, endpointVariable,
		},
		"for traces": {
			[]string{tracesEndpointVariable, traces}, traces + ":4317", tracesEndpointVariable,
		},
		"that for traces wins": {
			[]string{endpointVariable, "not looked at", tracesEndpointVariable, general},
			general, tracesEndpointVariable,
		},
		"an IPv6 address": {
			[]string{endpointVariable, "http://[::1]"}, "http://[::1]:4317", endpointVariable,
		},
		"switched off": {environment: []string{endpointVariable, general, "OTEL_SDK_DISABLED", "true"}},
		"exported to nothing": {
			environment: []string{endpointVariable, general, "OTEL_TRACES_EXPORTER", "none"},
		},
		"everything": {
			[]string{
				endpointVariable, general, "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc",
				"OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x,a=b", "OTEL_EXPORTER_OTLP_TIMEOUT", "500",
				samplerVariable, "parentbased_traceidratio", samplerArgVariable, "0.25",
			},
			general, endpointVariable,
		},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := FromEnvironment(environment(tt.environment...))
			switch {
			case err != nil:
				t.Error(err)
			case config == nil && tt.endpoint != "":
				t.Error("tracing is off")
			case config != nil && (config.Endpoint() != tt.endpoint || config.Setting() != tt.setting):
				t.Errorf("%+v", *config)
			}
		})
	}
}

func TestAWrongSettingIsRefusedWithItsNameAndWithoutSecrets(t *testing.T) {
	const secret = "s3cret"
	noPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noPEM, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, value, want string
	}{
		{endpointVariable, "127.0.0.1:4317", "it is not a URL: give a URL such as http://127.0.0.1:4317"},
		{endpointVariable, "collector:4317", "it has no scheme"},
		{endpointVariable, "://" + secret, "it is not a URL"},
		{endpointVariable, "unix:///run/x.sock", `its scheme is "unix"`},
		{endpointVariable, "http://", "it names no host"},
		{endpointVariable, "http://user:" + secret + "@host:4317", "it holds a user name or password"},
		{endpointVariable, "http://host:4318/v1/traces", "which is for OTLP over HTTP"},
		{endpointVariable, "http://host:4317?key=" + secret, "it holds more than scheme, host and port"},
		{endpointVariable, "http://host:0", `"0" is no port`},
		{endpointVariable, "http://host:70000", `"70000" is no port`},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", `not by "http/protobuf"`},
		{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "sent by gRPC"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "authorization " + secret, "it is not of the form"},
		{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=%zz" + secret, "it is not of the form"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "10s", `"10s" is no number of milliseconds`},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", "/does/not/exist", "cannot be read: no such file"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", noPEM, "holds no certificate in PEM"},
		{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", noPEM, "OTEL_EXPORTER_OTLP_CLIENT_KEY are given together"},
		{samplerVariable, "sometimes", `"sometimes" is no sampler`},
		{samplerVariable, "", ""},
	} {
		t.Run(tt.name+"="+strings.ReplaceAll(tt.value, secret, "…"), func(t *testing.T) {
			config, err := FromEnvironment(environment(tt.name, tt.value, endpointVariable, "http://127.0.0.1"))
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatalf("accepted: %+v", config)
			}
			text := err.Error()
			if !strings.HasPrefix(text, tt.name+": ") || !strings.Contains(text, tt.want) {
				t.Errorf("%s", text)
			}
			if strings.Contains(text, secret) || strings.Contains(text, "\n") {
				t.Errorf("a secret, or several lines: %s", text)
			}
		})
	}
	_, err := FromEnvironment(environment(endpointVariable, "x", samplerVariable, "traceidratio",
		samplerArgVariable, "2", "OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"))
	if lines := strings.Count(err.Error(), "\n") + 1; lines != 3 ||
		!strings.Contains(err.Error(), samplerArgVariable+`: "2" is no ratio`) {
		t.Errorf("not all errors at once: %v", err)
	}
}
