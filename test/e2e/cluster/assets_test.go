// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// What KUBEBUILDER_ASSETS names is used whatever else there is, and nothing is built or fetched.
func TestAssetsOfEnvtestAreUsedWithTheirVersions(t *testing.T) {
	dir := t.TempDir()
	writeProgram(t, dir, "kube-apiserver", "Kubernetes v1.36.4")
	writeProgram(t, dir, "etcd", "etcd Version: 3.6.9\nGit SHA: abc\nGo Version: go1.25")
	t.Setenv(assetsVariable, dir)
	said := &recorder{}
	got, err := Get(t.Context(), Options{Module: "../kube", Cache: t.TempDir(), Report: said})
	if err != nil {
		t.Fatal(err)
	}
	if got.Etcd != filepath.Join(dir, "etcd") || got.KubeAPIServer != filepath.Join(dir, "kube-apiserver") {
		t.Errorf("the programs are %+v", got)
	}
	line := strings.Join(said.ends(), "\n")
	for _, want := range []string{
		"Kubernetes v1.36.4", "etcd v3.6.9", assetsVariable + "=" + dir, "it is made for v1.",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not reported: %q", want, line)
		}
	}
}

func TestUnfitAssetsAreOneLineThatSaysWhatToDo(t *testing.T) {
	const kubernetes, etcd = "Kubernetes v1.37.0", "etcd Version: 3.6.9"
	for _, tc := range []struct {
		name, want string
		prepare    func(t *testing.T, dir string) string
	}{
		{"no folder", "there is no kube-apiserver", func(_ *testing.T, dir string) string {
			return filepath.Join(dir, "missing")
		}},
		{"a relative folder", "is not an absolute path", func(*testing.T, string) string { return "bin" }},
		{"no etcd", "there is no etcd", func(t *testing.T, dir string) string {
			writeProgram(t, dir, "kube-apiserver", kubernetes)
			return dir
		}},
		{"not executable", "kube-apiserver is no executable file", func(t *testing.T, dir string) string {
			writeFile(t, filepath.Join(dir, "kube-apiserver"), "data")
			return dir
		}},
		{"of another machine", "kube-apiserver does not run here", func(t *testing.T, dir string) string {
			file := filepath.Join(dir, "kube-apiserver")
			writeFile(t, file, "\x7fELF, but not for this machine")
			if err := os.Chmod(file, 0o700); err != nil {
				t.Fatal(err)
			}
			return dir
		}},
		{"another program", `kube-apiserver is another program: its version is "etcd Version: 3.6.9"`,
			func(t *testing.T, dir string) string {
				writeProgram(t, dir, "kube-apiserver", etcd)
				return dir
			}},
		{"an old kube-apiserver", "kube-apiserver is too old: it is v1.26.1, and v1.27 is needed",
			func(t *testing.T, dir string) string {
				writeProgram(t, dir, "kube-apiserver", "Kubernetes v1.26.1")
				return dir
			}},
		{"an old etcd", "etcd is too old: it is v3.4.30, and v3.5 is needed",
			func(t *testing.T, dir string) string {
				writeProgram(t, dir, "kube-apiserver", kubernetes)
				writeProgram(t, dir, "etcd", "etcd Version: 3.4.30")
				return dir
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv(assetsVariable, tc.prepare(t, t.TempDir()))
			_, err := Get(t.Context(), Options{Module: "../kube", Cache: t.TempDir(), Report: &recorder{}})
			if err == nil {
				t.Fatal("they were used")
			}
			text := err.Error()
			if !strings.Contains(text, tc.want) || !strings.Contains(text, assetsVariable+"=") ||
				!strings.Contains(text, "unset "+assetsVariable) || strings.Contains(text, "\n") {
				t.Errorf("it says %q, want %q and a remedy in one line", text, tc.want)
			}
		})
	}
}

// A kubelet, a controller manager or a proxy may not be newer than kube-apiserver.
func TestOtherProgramsOfKubernetesAreOfTheSameRelease(t *testing.T) {
	b := &builder{kube: "v1.37.2"}
	for version, fits := range map[string]bool{"v1.37.0": true, "v1.36.2": false, "v1.38.2": false} {
		err := b.checkRelease(Binaries{Kubernetes: version, Source: "from somewhere"})
		if (err == nil) != fits {
			t.Errorf("%s: %v", version, err)
		}
		if err != nil && !strings.Contains(err.Error(), "unset "+assetsVariable) {
			t.Errorf("%s: no remedy in %q", version, err)
		}
	}
}

func TestTheOldestKubernetesIsThatOfTheChart(t *testing.T) {
	text, err := os.ReadFile("../../../charts/oxide-cloud-controller-manager/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var chart struct {
		KubeVersion string `json:"kubeVersion"`
	}
	if err := yaml.Unmarshal(text, &chart); err != nil {
		t.Fatal(err)
	}
	if minor(chart.KubeVersion) != oldestKubernetes {
		t.Errorf("the chart installs on %q, the tests on 1.%d", chart.KubeVersion, oldestKubernetes)
	}
}

// writeProgram writes a program that prints its version.
func writeProgram(t *testing.T, dir, name, version string) {
	t.Helper()
	file := filepath.Join(dir, name)
	writeFile(t, file, "#!/bin/sh\n[ \"$*\" = --version ] && cat <<EOF\n"+version+"\nEOF\n")
	if err := os.Chmod(file, 0o700); err != nil {
		t.Fatal(err)
	}
}
