// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestWrongValuesAreRefusedWithTheirPath(t *testing.T) {
	tests := []struct {
		name   string
		values string
		want   []string
	}{
		{"unknown value", "replica: 1", []string{"additional properties 'replica' not allowed"}},
		{
			"unknown value inside",
			"deployment: {image: {tagg: x}}",
			[]string{"'/deployment/image'", "'tagg' not allowed"},
		},
		{
			"all mistakes at once",
			"deployment: {replicas: two}\nbackend: {logLevel: loud}",
			[]string{"'/deployment/replicas'", "'/backend/logLevel'"},
		},
		{"tag read as a number", "deployment: {image: {tag: 1.10}}",
			[]string{"'/deployment/image/tag'", "want string"}},
		{"digest cut short", "deployment: {image: {digest: \"sha256:abc\"}}",
			[]string{"'/deployment/image/digest'"}},
		{"registry with a path", "deployment: {image: {registry: example.com/team}}",
			[]string{`deployment.image.registry is "example.com/team"`, "belongs to deployment.image.name"}},
		{"registry with a scheme", "deployment: {image: {registry: \"https://example.com\"}}",
			[]string{`deployment.image.registry is "https://example.com"`, "as in registry.example.com:5000"}},
		{"an image that nodes can only have, and are to pull", "deployment: {imagePullPolicy: Always}",
			[]string{"deployment.image.registry is empty, and deployment.imagePullPolicy is Always"}},
		{"the same in a folder", "deployment: {imagePullPolicy: Always, image: {name: team/ccm}}",
			[]string{"the image team/ccm would be pulled from the default registry"}},
		{"two equal ports", "shim: {securePort: 10268}",
			[]string{"backend.healthPort and shim.securePort are both 10268"}},
		{"two equal ports, of which metrics have one",
			"backend: {metrics: {enabled: true, port: 10258}}",
			[]string{"backend.metrics.port and shim.securePort are both 10258"}},
		{"two equal ports in a pod's own network",
			"deployment: {hostNetwork: false}\nbackend: {healthPort: 10258}",
			[]string{"backend.healthPort and shim.securePort are both 10258"}},
		{"a port that is none on trial", "readOnly: true\nshim: {securePort: 65500}",
			[]string{"shim.securePort is 65500", "at most 65435"}},
		{"a label of the chart's own", "commonLabels: {app.kubernetes.io/name: x}",
			[]string{"commonLabels has app.kubernetes.io/name, which is a label of the chart's own"}},
		{"a pod's label of the chart's own", "deployment: {podLabels: {app.kubernetes.io/instance: x}}",
			[]string{"deployment.podLabels has app.kubernetes.io/instance"}},
		{"a monitor's label of the chart's own", "monitoring: {labels: {helm.sh/chart: x}}",
			[]string{"monitoring.labels has helm.sh/chart"}},
		{"a label with a space", "commonLabels: {team: web shop}", []string{"'/commonLabels/team'"}},
		{"a label's name with a space", "deployment: {podLabels: {\"web shop\": x}}",
			[]string{"'/deployment/podLabels'", "'web shop' not allowed"}},
		{"a section of which nothing is left", "logging:\nbackend: {metrics: }",
			[]string{"missing property 'logging'", "missing property 'metrics'"}},
		{"a further object that is none", "extraObjects: [{metadata: {name: x}}]",
			[]string{"extraObjects[0] is no object, since it has no kind"}},
		{"the text of none", "extraObjects: [\"kind: ConfigMap\\napiVersion: v1\", ConfigMap]",
			[]string{"extraObjects[1] is no object, since it has no kind"}},
		{"another kind", "deployment: {kind: StatefulSet}", []string{"'/deployment/kind'"}},
		{"a strategy that deployments do not have", "deployment: {updateStrategy: {type: OnDelete}}",
			[]string{"deployment.updateStrategy.type is OnDelete, which a Deployment does not have"}},
		{"a strategy that daemon sets do not have",
			"deployment: {kind: DaemonSet, updateStrategy: {type: Recreate}}",
			[]string{"deployment.updateStrategy.type is Recreate, which a DaemonSet does not have"}},
		{"a probe that never asks", "backend: {livenessProbe: {periodSeconds: 0}}",
			[]string{"'/backend/livenessProbe/periodSeconds'"}},
		{"another probe", "shim: {readinessProbe: {exec: {}}}", []string{"'/shim/readinessProbe'"}},
		{"an alias without names", "deployment: {hostAliases: [{ip: 192.0.2.1}]}",
			[]string{"'/deployment/hostAliases/0'"}},
		{"an alert that there is not", "monitoring: {rules: {disabled: [OxideUnknown]}}",
			[]string{"monitoring.rules.disabled names OxideUnknown, which is no alert"}},
		{"plain HTTP beyond loopback", "oxide: {host: \"http://silo.example.com\"}",
			[]string{"'/oxide/host'"}},
		{"host without scheme", "oxide: {host: silo.example.com}", []string{"'/oxide/host'"}},
		{"upper case project", "oxide: {project: K8S}", []string{"'/oxide/project'"}},
		{"CA bundle that is no PEM", "oxide: {caBundle: MIIB}", []string{"'/oxide/caBundle'"}},
		{"port out of range", "shim: {securePort: 65536}", []string{"'/shim/securePort'"}},
		{"name for an address", "shim: {bindAddress: localhost}", []string{"'/shim/bindAddress'"}},
		{"argument without dashes", "shim: {extraArgs: [v=4]}", []string{"'/shim/extraArgs/0'"}},
		{"a collector without a scheme", "tracing: {endpoint: \"10.0.0.5:4317\"}", []string{"'/tracing/endpoint'"}},
		{"a collector's path for HTTP", "tracing: {endpoint: \"http://10.0.0.5:4318/v1/traces\"}",
			[]string{"'/tracing/endpoint'"}},
		{"credentials in a collector's URL", "tracing: {endpoint: \"http://user:word@10.0.0.5\"}",
			[]string{"'/tracing/endpoint'"}},
		{"more than all traces", "tracing: {samplingRatio: 1.5}", []string{"'/tracing/samplingRatio'"}},
		{"unknown format of the log", "logging: {format: logfmt}", []string{"'/logging/format'"}},
		{"memory without a unit", "backend: {resources: {limits: {memory: 1GB}}}",
			[]string{"'/backend/resources/limits/memory'"}},
		{"effect misspelt", "deployment: {extraTolerations: [{effect: NoExec}]}",
			[]string{"'/deployment/extraTolerations/0/effect'"}},
		{
			"half of the settings",
			"oxide: {host: \"https://silo.example.com\", token: t}",
			[]string{"oxide.host, oxide.token given without oxide.project"},
		},
		{
			"settings from two places",
			"oxide: {host: \"https://s.example.com\", token: t, project: p, existingSecret: s}",
			[]string{"oxide.existingSecret is set beside"},
		},
		{
			"zone from two places", "shim: {zone: rack-1, zoneFromRack: true}",
			[]string{"shim.zone and shim.zoneFromRack are both set"},
		},
		{"one id for a list of them", "shim: {adoptClusterIDs: c1}", []string{"'/shim/adoptClusterIDs'"}},
		{"an id that is none", "shim: {adoptClusterIDs: [c1, \"a b\"]}",
			[]string{"'/shim/adoptClusterIDs/1'"}},
		{"an id twice", "shim: {adoptClusterIDs: [c1, c1]}", []string{"'/shim/adoptClusterIDs'"}},
		{"a legacy name that no address can have", "shim: {legacyClusterName: My_Cluster}",
			[]string{"'/shim/legacyClusterName'"}},
		{"a number for a list of ports", "shim: {reservedPorts: 22}",
			[]string{"'/shim/reservedPorts'", "want string"}},
		{"names for ports", "shim: {reservedPorts: \"22,https\"}", []string{"'/shim/reservedPorts'"}},
		{"a class for whether only classes", "loadBalancers: {classedOnly: oxide.computer/floating-ip}",
			[]string{"'/loadBalancers/classedOnly'", "want boolean"}},
		{"a class that is to be served", "loadBalancers: {class: oxide.computer/floating-ip}",
			[]string{"'/loadBalancers'", "'class' not allowed"}},
		{"a word for a switch", "firewall: {manage: \"yes\"}", []string{"'/firewall/manage'", "want boolean"}},
		{"a switch for its settings", "firewall: true", []string{"'/firewall'", "want object"}},
		{"a priority beyond the last", "firewall: {priority: 65536}", []string{"'/firewall/priority'", "want 65,535"}},
		{"a priority below the first", "firewall: {priority: -1}", []string{"'/firewall/priority'"}},
		{"text for a switch", "shim: {zoneFromRack: \"true\"}", []string{"'/shim/zoneFromRack'"}},
		{"port of a protocol that firewalls know no ports of", "check: {ports: [80/sctp]}",
			[]string{"'/check/ports/0'"}},
		{"interval without a unit", "monitoring: {interval: \"30\"}",
			[]string{"'/monitoring/interval'"}},
		{
			"CA bundle from two places",
			"oxide: {caBundle: \"-----BEGIN CERTIFICATE-----\", existingCAConfigMap: c}",
			[]string{"oxide.caBundle and oxide.existingCAConfigMap are both set"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, stderr, err := template(t, test.values)
			if err == nil {
				t.Fatal("rendered, want a refusal")
			}
			for _, want := range test.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("refused without saying %q:\n%s", want, stderr)
				}
			}
		})
	}
}

// Whoever comments all of a map out leaves null, by which helm takes the default away as well.
func TestEmptiedMapsAndListsAreAsGood(t *testing.T) {
	for _, value := range []string{
		"commonLabels", "commonAnnotations", "serviceAccount: {annotations", "deployment: {updateStrategy",
		"deployment: {podLabels", "deployment: {podAnnotations", "deployment: {nodeSelector",
		"deployment: {extraTolerations", "monitoring: {labels", "monitoring: {rules: {labels",
		"monitoring: {rules: {disabled", "monitoring: {dashboard: {labels", "backend: {extraArgs",
		"shim: {extraEnv", "extraObjects",
	} {
		t.Run(value, func(t *testing.T) {
			render(t, value+": null"+strings.Repeat("}", strings.Count(value, "{")))
		})
	}
}

func TestOldKubernetesIsRefused(t *testing.T) {
	_, stderr, err := template(t, "", "--kube-version", "1.26.0")
	if err == nil || !strings.Contains(stderr, "1.27") {
		t.Errorf("got %v, want a refusal that names the oldest version:\n%s", err, stderr)
	}
}

func TestRefusalsNeverShowTheToken(t *testing.T) {
	const token = "oxide-token-5ec7e7"
	tests := map[string]string{
		"the token alone":      "oxide: {token: " + token + "}",
		"a list for the token": "oxide: {token: [" + token + "]}",
		"a map for the token":  "oxide: {token: {value: " + token + "}}",
		"another mistake":      "oxide: {token: " + token + ", host: nowhere}",
	}
	for name, values := range tests {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, err := template(t, values)
			if err == nil {
				t.Fatal("rendered, want a refusal")
			}
			if strings.Contains(stdout+stderr, token) {
				t.Errorf("the refusal shows the token:\n%s%s", stdout, stderr)
			}
		})
	}
	var schema map[string]any
	if err := json.Unmarshal([]byte(read(t, chart+"/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	definition, ok := lookUp(schema, "properties.oxide.properties.token")
	if !ok {
		t.Fatal("the schema says nothing of oxide.token")
	}
	for key := range definition.(map[string]any) {
		if key != "type" && key != "description" {
			t.Errorf("the schema restricts oxide.token by %q, and helm prints what that refuses", key)
		}
	}
}

// Objects of Kubernetes that are handed on as they are stay open: their API checks them.
func TestSchemaIsClosed(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal([]byte(read(t, chart+"/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, node map[string]any)
	walk = func(path string, node map[string]any) {
		properties, _ := node["properties"].(map[string]any)
		if properties != nil && node["additionalProperties"] != false {
			t.Errorf("%s takes properties that it does not know", path)
		}
		for name, property := range properties {
			walk(path+"."+name, property.(map[string]any))
		}
		if items, ok := node["items"].(map[string]any); ok {
			walk(path+"[]", items)
		}
	}
	walk("values", schema)
}

func TestSchemaAndDefaultsNameTheSameValues(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal([]byte(read(t, chart+"/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	defaults := decodeValues(t, read(t, chart+"/values.yaml"))
	var walk func(path string, node map[string]any)
	walk = func(path string, node map[string]any) {
		properties, _ := node["properties"].(map[string]any)
		for name, property := range properties {
			inner := strings.TrimPrefix(path+"."+name, ".")
			if inner == "global" {
				continue
			}
			if _, ok := lookUp(defaults, inner); !ok {
				t.Errorf("values.yaml has no %s, which the schema takes", inner)
			}
			if slices.Contains(wholeValues, name) {
				continue
			}
			walk(inner, property.(map[string]any))
		}
	}
	walk("", schema)
}

func TestGuidesNameOnlyValuesThatExist(t *testing.T) {
	defaults := decodeValues(t, read(t, chart+"/values.yaml"))
	value := regexp.MustCompile(
		`\b(oxide|deployment|serviceAccount|loadBalancers|firewall|backend|shim|monitoring|check)\.` +
			`[a-zA-Z][a-zA-Z.]*[a-zA-Z]`)
	for _, guide := range []string{
		"docs/guides/install.md", "docs/guides/environments.md", "docs/guides/migrate.md",
		"docs/guides/firewall.md", "docs/guides/monitoring.md", "docs/reference/alerts.md",
		"docs/guides/single-node.md", "docs/guides/troubleshooting.md", "docs/reference/load-balancers.md",
		"README.md",
	} {
		found := value.FindAllString(read(t, guide), -1)
		if len(found) == 0 {
			t.Errorf("%s names no values", guide)
		}
		for _, path := range found {
			if path == "oxide.computer" || path == "oxide.backend.v" ||
				slices.Contains([]string{".md", ".sock", ".svg"}, filepath.Ext(path)) {
				continue // annotations, the API, pages, a socket, a picture
			}
			if _, ok := lookUp(defaults, path); !ok {
				t.Errorf("%s names %s, which is no value", guide, path)
			}
		}
	}
}
