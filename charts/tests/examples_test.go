// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"bufio"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const (
	examples        = "docs/examples/"
	exampleRegistry = "registry.example.com"
)

// The types are what the examples use of those of Argo CD, Flux and the helm controller of k3s and RKE2.
type (
	application struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
		Spec            struct {
			Project string `json:"project"`
			Source  struct {
				RepoURL        string `json:"repoURL"`
				Chart          string `json:"chart"`
				TargetRevision string `json:"targetRevision"`
				Helm           struct {
					ReleaseName  string         `json:"releaseName"`
					ValuesObject map[string]any `json:"valuesObject"`
				} `json:"helm"`
			} `json:"source"`
			Destination struct {
				Server    string `json:"server"`
				Namespace string `json:"namespace"`
			} `json:"destination"`
			SyncPolicy struct {
				Automated struct {
					Prune    bool `json:"prune"`
					SelfHeal bool `json:"selfHeal"`
				} `json:"automated"`
				SyncOptions []string `json:"syncOptions"`
			} `json:"syncPolicy"`
		} `json:"spec"`
	}

	ociRepository struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
		Spec            struct {
			Interval string `json:"interval"`
			URL      string `json:"url"`
			Ref      struct {
				Tag string `json:"tag"`
			} `json:"ref"`
			LayerSelector struct {
				MediaType string `json:"mediaType"`
				Operation string `json:"operation"`
			} `json:"layerSelector"`
		} `json:"spec"`
	}

	helmRelease struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
		Spec            struct {
			Interval         string `json:"interval"`
			ReleaseName      string `json:"releaseName"`
			TargetNamespace  string `json:"targetNamespace"`
			StorageNamespace string `json:"storageNamespace"`
			ChartRef         struct {
				Kind string `json:"kind"`
				Name string `json:"name"`
			} `json:"chartRef"`
			DriftDetection struct {
				Mode string `json:"mode"`
			} `json:"driftDetection"`
			Upgrade struct {
				Remediation struct {
					Retries int `json:"retries"`
				} `json:"remediation"`
			} `json:"upgrade"`
			Values map[string]any `json:"values"`
		} `json:"spec"`
	}

	helmChart struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
		Spec            struct {
			Bootstrap       bool   `json:"bootstrap"`
			Chart           string `json:"chart"`
			Version         string `json:"version"`
			TargetNamespace string `json:"targetNamespace"`
			ValuesContent   string `json:"valuesContent"`
		} `json:"spec"`
	}
)

// installation is what an example would have helm do.
type installation struct {
	chart, version, name, namespace, values string
	// secret is the one in the example; nil: it says how to create it.
	secret *corev1.Secret
}

// TestExamplesInstallTheChart renders the chart as the tools that the examples are for would.
func TestExamplesInstallTheChart(t *testing.T) {
	version := strings.TrimPrefix(strings.TrimSpace(read(t, "VERSION")), "v")
	for file, replicas := range map[string]int32{
		"argocd.yaml": 2, "flux.yaml": 2, "k3s.yaml": 1, "rke2.yaml": 2,
	} {
		t.Run(file, func(t *testing.T) {
			example := installationIn(t, file)
			if example.chart != exampleRegistry+"/charts/"+releaseName || example.version != version {
				t.Errorf("it installs %s in version %s, want %s", example.chart, example.version, version)
			}
			if example.name != releaseName || example.namespace != namespace {
				t.Errorf("the release is %s in %s", example.name, example.namespace)
			}
			all := render(t, example.values)
			pod := all.deployment.Spec.Template.Spec
			for _, each := range containers(pod) {
				if want := exampleRegistry + "/" + releaseName + ":v" + version; each.Image != want {
					t.Errorf("%s runs %s, want %s", each.Name, each.Image, want)
				}
			}
			if got := *all.deployment.Spec.Replicas; got != replicas {
				t.Errorf("%d replicas, want %d", got, replicas)
			}
			_, volume := mounted(t, pod, container(t, pod, backendName), "/etc/oxide/credentials")
			secret := volume.Secret.SecretName
			if example.secret == nil {
				if command := "create secret generic " + secret + " "; !strings.Contains(
					read(t, examples+file), command) {
					t.Errorf("the example does not say how to create the Secret %s", secret)
				}
				return
			}
			if example.secret.Name != secret || example.secret.Namespace != namespace {
				t.Errorf("it has the Secret %s/%s, and the pod uses %s", example.secret.Namespace,
					example.secret.Name, secret)
			}
			for _, key := range []string{"oxide-host", "oxide-token", "oxide-project"} {
				if example.secret.StringData[key] == "" {
					t.Errorf("its Secret lacks %s", key)
				}
			}
		})
	}
}

// Both distributions have kubelets wait for a cloud provider only while their own controller runs: once it is
// disabled, a kubelet without the flag registers a node that nothing ever initializes.
func TestExamplesOfDistributionsHaveKubeletsWaitForTheController(t *testing.T) {
	guide := read(t, "docs/guides/environments.md")
	for file, flag := range map[string]string{
		"k3s.yaml": "--kubelet-arg=cloud-provider=external", "rke2.yaml": "- cloud-provider=external",
	} {
		for name, text := range map[string]string{file: read(t, examples+file), "the guide": guide} {
			if !strings.Contains(text, flag) {
				t.Errorf("%s: %s does not say %q", file, name, flag)
			}
		}
	}
}

// installationIn reads an example strictly.
func installationIn(t *testing.T, file string) installation {
	t.Helper()
	var found installation
	var repository ociRepository
	reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(read(t, examples+file))))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			t.Fatal(err)
		}
		strictly := func(into any) {
			t.Helper()
			if err := yaml.UnmarshalStrict(document, into); err != nil {
				t.Fatalf("%s: %v", kind.Kind, err)
			}
		}
		switch kind.Kind {
		case "Application":
			var app application
			strictly(&app)
			source := app.Spec.Source
			found = installation{
				chart: source.RepoURL + "/" + source.Chart, version: source.TargetRevision,
				name: source.Helm.ReleaseName, namespace: app.Spec.Destination.Namespace,
				values: asText(t, source.Helm.ValuesObject),
			}
		case "OCIRepository":
			strictly(&repository)
		case "HelmRelease":
			var release helmRelease
			strictly(&release)
			if ref := release.Spec.ChartRef; ref.Kind != repository.Kind || ref.Name != repository.Metadata.Name ||
				release.Metadata.Namespace != repository.Metadata.Namespace {
				t.Errorf("the release refers to %v, which is not there", ref)
			}
			if release.Spec.StorageNamespace != release.Spec.TargetNamespace {
				t.Error("a release that helm installed is not found")
			}
			found = installation{
				chart: strings.TrimPrefix(repository.Spec.URL, "oci://"), version: repository.Spec.Ref.Tag,
				name: release.Spec.ReleaseName, namespace: release.Spec.TargetNamespace,
				values: asText(t, release.Spec.Values),
			}
		case "HelmChart":
			var chart helmChart
			strictly(&chart)
			if !chart.Spec.Bootstrap {
				t.Error("its job waits for nodes that are initialized")
			}
			found.chart, found.version = strings.TrimPrefix(chart.Spec.Chart, "oci://"), chart.Spec.Version
			found.name, found.namespace = chart.Metadata.Name, chart.Spec.TargetNamespace
			found.values = chart.Spec.ValuesContent
		case "Secret":
			object, err := strict(document)
			if err != nil {
				t.Fatal(err)
			}
			found.secret = object.(*corev1.Secret)
		default:
			t.Fatalf("the example has a %s, which no test looks at", kind.Kind)
		}
	}
}

func asText(t *testing.T, values map[string]any) string {
	t.Helper()
	text, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// kustomize builds a folder of the repository.
func kustomize(t *testing.T, folder string) objects {
	t.Helper()
	// The cache of test results has to know what is read.
	for _, pattern := range []string{"manifests/*", examples + "kustomize/*"} {
		files, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			read(t, strings.TrimPrefix(file, repository+"/"))
		}
	}
	path, err := tool("kustomize")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "build", folder)
	cmd.Dir = repository
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kustomize build %s: %v\n%s", folder, err, stderr.String())
	}
	return decode(t, string(out))
}

func TestTheManifestIsABaseForKustomize(t *testing.T) {
	base := kustomize(t, "manifests")
	if got, want := containers(base.deployment.Spec.Template.Spec)[0].Image,
		containers(render(t, "").deployment.Spec.Template.Spec)[0].Image; got != want {
		t.Errorf("the base runs %s, the manifest %s", got, want)
	}
}

func TestTheExampleForKustomizeIsComplete(t *testing.T) {
	version := strings.TrimSpace(read(t, "VERSION"))
	all := kustomize(t, examples+"kustomize")
	pod := all.deployment.Spec.Template.Spec
	for _, each := range containers(pod) {
		if want := exampleRegistry + "/" + releaseName + ":" + version; each.Image != want {
			t.Errorf("%s runs %s, want %s", each.Name, each.Image, want)
		}
	}
	if *all.deployment.Spec.Replicas != 1 || all.budget != nil || pod.TopologySpreadConstraints != nil {
		t.Errorf("%d replicas, a budget: %t, constraints %v", *all.deployment.Spec.Replicas, all.budget != nil,
			pod.TopologySpreadConstraints)
	}
	backend := container(t, pod, backendName)
	_, volume := mounted(t, pod, backend, "/etc/oxide/ca")
	if file := flag(t, backend, "oxide-ca-file"); file != "/etc/oxide/ca/ca.crt" || all.configMap == nil ||
		volume.ConfigMap.Name != all.configMap.Name {
		t.Errorf("the authority's file is %s, from %v", file, volume.ConfigMap)
	}
	if !slices.ContainsFunc(all.clusterRole.Rules[0].Resources, func(s string) bool { return s == "nodes" }) {
		t.Errorf("the rights are %v", all.clusterRole.Rules)
	}
}
