// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// everything sets every value to something else than its default.
const everything = `
name: ccm
commonLabels: {team: platform}
commonAnnotations: {example.com/owner: platform}
serviceAccount: {annotations: {example.com/role: ccm}}
oxide:
  host: https://silo.sys.example.com
  token: oxide-token-0123
  project: k8s
  caBundle: |
    -----BEGIN CERTIFICATE-----
    AAAA
    -----END CERTIFICATE-----
deployment:
  replicas: 3
  image: {registry: "registry.example.com:5000", name: team/ccm, tag: "1.2", digest: ""}
  imagePullPolicy: Always
  imagePullSecrets: [pull]
  nativeSidecar: false
  hostNetwork: false
  dnsPolicy: ClusterFirst
  dnsConfig: {nameservers: [192.0.2.53], searches: [example.com], options: [{name: ndots, value: "1"}]}
  hostAliases: [{ip: 192.0.2.2, hostnames: [silo.sys.example.com]}]
  priorityClassName: high
  nodeSelector: {disk: ssd}
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: In, values: [infra]}]}]
  extraTolerations: [{key: pool, operator: Equal, value: infra, effect: NoExecute}]
  topologySpreadConstraints:
    - {topologyKey: topology.kubernetes.io/zone, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}
  updateStrategy: {type: Recreate}
  revisionHistoryLimit: 5
  terminationGracePeriodSeconds: 40
  podSecurityContext:
    runAsNonRoot: true
    runAsUser: 1001
    runAsGroup: 1001
    fsGroup: 1001
    seccompProfile: {type: RuntimeDefault}
    supplementalGroups: [1002]
  containerSecurityContext:
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
    privileged: false
    readOnlyRootFilesystem: true
    procMount: Default
  podAnnotations: {example.com/a: b}
  podLabels: {example.com/c: d}
  extraVolumes: [{name: scratch, emptyDir: {}}]
loadBalancers: {classedOnly: true}
firewall: {manage: true, priority: 900}
podDisruptionBudget: {enabled: true}
logging: {format: text}
tracing: {endpoint: "http://collector.example.com:4317", samplingRatio: 0.25}
backend:
  startupProbe: {initialDelaySeconds: 1, periodSeconds: 3, failureThreshold: 40}
  livenessProbe: {periodSeconds: 20, timeoutSeconds: 6, failureThreshold: 4}
  readinessProbe: {periodSeconds: 6, timeoutSeconds: 4, successThreshold: 2, failureThreshold: 2}
  healthPort: 11268
  metrics: {enabled: true, bindAddress: "::", port: 11269}
  logLevel: debug
  resources: {limits: {cpu: 1, memory: 1Gi}}
  extraArgs: [--example]
  extraEnv: [{name: HTTPS_PROXY, value: "http://proxy.example.com:3128"}]
  extraVolumeMounts: [{name: scratch, mountPath: /scratch}]
shim:
  startupProbe: {periodSeconds: 4, failureThreshold: 30}
  livenessProbe: {periodSeconds: 30, timeoutSeconds: 3, failureThreshold: 5}
  readinessProbe: {periodSeconds: 7, timeoutSeconds: 2, failureThreshold: 6}
  bindAddress: "::"
  securePort: 11258
  clusterID: 11111111-2222-3333-4444-555555555555
  adoptClusterIDs: [22222222-2222-3333-4444-555555555555, old.cluster_2]
  legacyClusterName: prod
  reservedPorts: "22,6443-6444"
  region: west
  zone: rack-1
  probeNodes: false
  verbosity: 4
  resources: {requests: {cpu: 100m, memory: 128Mi}}
  extraArgs: [--concurrent-service-syncs=4]
  extraEnv: [{name: KUBERNETES_SERVICE_HOST, value: 192.0.2.1}]
  extraVolumeMounts: [{name: scratch, mountPath: /scratch, readOnly: true}]
monitoring:
  enabled: true
  forceEnable: true
  labels: {release: prometheus}
  interval: 30s
  scrapeTimeout: 10s
  relabelings: [{targetLabel: cluster, replacement: west}]
  metricRelabelings: [{action: drop, sourceLabels: [__name__], regex: go_.*}]
  rules:
    enabled: true
    labels: {team: platform}
    disabled: [OxideAddressesOrphaned]
    runbookURL: https://runbooks.example.com/oxide/
  dashboard: {enabled: true, labels: {grafana_dashboard: "yes"}, annotations: {grafana_folder: Kubernetes}}
check: {ports: [80/tcp]}
extraObjects:
  - apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata: {name: "{{ .Release.Name }}-closed"}
    spec: {podSelector: {}, policyTypes: [Ingress]}
`

const (
	noLoadBalancers = "loadBalancers: {enabled: false}"
	daemonSet       = "deployment: {kind: DaemonSet}"
)

// variants are the ways of installing that every general promise is held in.
var variants = []struct {
	name   string
	values string
	args   []string
}{
	{name: "defaults"},
	{name: "every value set", values: everything},
	{name: "existing Secret", values: "oxide: {existingSecret: credentials}"},
	{name: "existing CA bundle", values: "oxide: {existingCAConfigMap: roots}"},
	{name: "racks for zones", values: "shim: {zoneFromRack: true}"},
	{name: "on trial", values: "readOnly: true"},
	{name: "no probes", values: "shim: {probeNodes: false}"},
	{name: "classes alone", values: "loadBalancers: {classedOnly: true}"},
	{name: "the firewall", values: "firewall: {manage: true}"},
	{name: "no load balancers", values: noLoadBalancers},
	{name: "no load balancers, on trial", values: "readOnly: true\n" + noLoadBalancers},
	{name: "one replica", values: "deployment: {replicas: 1}"},
	{name: "two plain containers", values: "deployment: {nativeSidecar: false}"},
	{name: "Kubernetes without sidecars", args: []string{"--kube-version", "1.28.0"}},
	{name: "pod network", values: "deployment: {hostNetwork: false}"},
	{name: "whole name", values: "fullnameOverride: ccm"},
	{name: "daemon set", values: daemonSet},
	{name: "OpenShift", values: "deployment: {openshift: true}"},
	{name: "OpenShift, pod network", values: "deployment: {openshift: true, hostNetwork: false}"},
	{
		name: "Prometheus operator", args: withMonitors,
		values: "shim: {bindAddress: 0.0.0.0}\nbackend: {metrics: {enabled: true}}",
	},
}

func TestEveryObjectDecodesStrictly(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			render(t, variant.values, variant.args...)
		})
	}
}

func TestStrictDecodingRefuses(t *testing.T) {
	tests := map[string]string{
		"an unknown field": `{apiVersion: v1, kind: Secret, metadata: {name: a}, stringdata: {}}`,
		"a field given twice": "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n" +
			"type: a\ntype: b\n",
		"an unknown kind": `{apiVersion: v1, kind: Secrets, metadata: {name: a}}`,
	}
	for name, document := range tests {
		t.Run(name, func(t *testing.T) {
			if object, err := strict([]byte(document)); err == nil {
				t.Errorf("decoded to %T, want an error", object)
			}
		})
	}
}

func TestLintFindsNothing(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			out, stderr, err := helm(t, variant.values, "lint", "--strict", "--values", "-", chart)
			if err != nil {
				t.Errorf("helm lint: %v\n%s%s", err, out, stderr)
			}
		})
	}
}

func TestCommittedManifestIsWhatTheChartRenders(t *testing.T) {
	out, stderr, err := template(t, "", "--skip-tests")
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, stderr)
	}
	header := read(t, "manifests/header.txt")
	committed := read(t, "manifests/oxide-cloud-controller-manager.yaml")
	if diff := cmp.Diff(header+out, committed); diff != "" {
		t.Errorf("stale: run make manifest (-rendered +committed):\n%s", diff)
	}
	all := decode(t, committed)
	if all.secret != nil {
		t.Error("the manifest holds a Secret, which nobody could fill")
	}
}

func TestChartHasTheVersionOfTheRelease(t *testing.T) {
	var metadata struct{ Version, AppVersion string }
	if err := yaml.Unmarshal([]byte(read(t, chart+"/Chart.yaml")), &metadata); err != nil {
		t.Fatal(err)
	}
	version := strings.TrimSpace(read(t, "VERSION"))
	if metadata.Version != strings.TrimPrefix(version, "v") || metadata.AppVersion != version {
		t.Errorf("Chart.yaml says version %s and appVersion %s, VERSION says %s",
			metadata.Version, metadata.AppVersion, version)
	}
}

// A catalogue of charts shows what Chart.yaml says of the project.
func TestChartSaysWhereItIsFrom(t *testing.T) {
	var metadata struct {
		Home, Icon        string
		Sources, Keywords []string
		Annotations       map[string]string
	}
	if err := yaml.Unmarshal([]byte(read(t, chart+"/Chart.yaml")), &metadata); err != nil {
		t.Fatal(err)
	}
	icon, ok := strings.CutPrefix(metadata.Icon, metadata.Home+"/raw/main/")
	if !ok || !strings.Contains(read(t, icon), "<svg ") {
		t.Errorf("the icon %q is none of the repository's", metadata.Icon)
	}
	if !slices.Equal(metadata.Sources, []string{metadata.Home}) || len(metadata.Keywords) < 3 {
		t.Errorf("sources %q, keywords %q", metadata.Sources, metadata.Keywords)
	}
	if got := metadata.Annotations["artifacthub.io/license"]; got != "MPL-2.0" {
		t.Errorf("the license is %q", got)
	}
	var links []struct{ Name, URL string }
	if err := yaml.UnmarshalStrict([]byte(metadata.Annotations["artifacthub.io/links"]), &links); err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		page, ok := strings.CutPrefix(link.URL, metadata.Home+"/blob/main/")
		if !ok || read(t, page) == "" {
			t.Errorf("the link %q leads to %s", link.Name, link.URL)
		}
	}
}

func TestPackageHoldsTheChart(t *testing.T) {
	folder := t.TempDir()
	if _, stderr, err := helm(t, "", "package", chart, "--destination", folder); err != nil {
		t.Fatalf("helm package: %v\n%s", err, stderr)
	}
	version := strings.TrimSpace(read(t, "VERSION"))
	archive := filepath.Join(folder, releaseName+"-"+strings.TrimPrefix(version, "v")+".tgz")
	out, stderr, err := helm(t, "", "template", releaseName, archive,
		"--namespace", namespace, "--kube-version", kubeVersion, "--skip-tests")
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, stderr)
	}
	if diff := cmp.Diff(read(t, "manifests/header.txt")+out,
		read(t, "manifests/oxide-cloud-controller-manager.yaml")); diff != "" {
		t.Errorf("the package renders something else (-package +manifest):\n%s", diff)
	}
}

// The variant that sets every value must go on doing so, or a new value is never rendered.
func TestEveryValueIsTried(t *testing.T) {
	all := decodeValues(t, read(t, chart+"/values.yaml"))
	tried := decodeValues(t, everything)
	// These exclude what the variant sets, and have variants of their own.
	for _, excluded := range []string{"existingSecret", "existingCAConfigMap"} {
		delete(all["oxide"].(map[string]any), excluded)
	}
	delete(all["shim"].(map[string]any), "zoneFromRack")
	delete(all["loadBalancers"].(map[string]any), "enabled")
	delete(all, "readOnly")
	delete(all, "fullnameOverride")
	for _, excluded := range []string{"kind", "openshift"} {
		delete(all["deployment"].(map[string]any), excluded)
	}
	forEachPath(all, "", func(path string) {
		if _, ok := lookUp(tried, path); !ok {
			t.Errorf("no variant sets %s", path)
		}
	})
}

// The chart's README is made of the values' comments: one that lacks its own would stand there bare.
func TestEveryValueIsDescribed(t *testing.T) {
	rows := 0
	for line := range strings.Lines(read(t, chart+"/README.md")) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		rows++
		if len(cells) != 3 || strings.Trim(cells[2], " |") == "" {
			t.Errorf("no description: %s", line)
		}
	}
	forEachPath(decodeValues(t, read(t, chart+"/values.yaml")), "", func(string) { rows-- })
	if rows != 0 {
		t.Errorf("the README and values.yaml differ by %d values: run make manifest", rows)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(repository, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func decodeValues(t *testing.T, text string) map[string]any {
	t.Helper()
	document, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := json.Unmarshal(document, &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// wholeValues are maps that are one value each, described as a whole: what is in them is the user's.
var wholeValues = []string{
	"resources", "affinity", "updateStrategy", "dnsConfig", "labels", "podSecurityContext",
	"containerSecurityContext", "startupProbe", "livenessProbe", "readinessProbe",
}

// forEachPath calls visit with the dotted path of every value that is not a map with content, or one of
// wholeValues.
func forEachPath(values map[string]any, prefix string, visit func(path string)) {
	for key, value := range values {
		path := strings.TrimPrefix(prefix+"."+key, ".")
		if inner, ok := value.(map[string]any); ok && len(inner) > 0 && !slices.Contains(wholeValues, key) {
			forEachPath(inner, path, visit)
			continue
		}
		visit(path)
	}
}

func lookUp(values map[string]any, path string) (any, bool) {
	key, rest, more := strings.Cut(path, ".")
	value, ok := values[key]
	if !ok || !more {
		return value, ok
	}
	inner, ok := value.(map[string]any)
	if !ok {
		return nil, false
	}
	return lookUp(inner, rest)
}
