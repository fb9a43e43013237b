// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pinnedForTest is the release that the tests want.
const pinnedForTest = "v1.37.2"

// mirror is an index of envtest and the files that it names, on loopback.
type mirror struct {
	*httptest.Server
	index   string
	archive []byte
	// serve writes an archive; nil: all of it.
	serve func(http.ResponseWriter, *http.Request)
}

// newMirror serves an archive for each version, and says its checksum unless that is given.
func newMirror(t *testing.T, checksum string, versions ...string) *mirror {
	t.Helper()
	m := &mirror{}
	mux := http.NewServeMux()
	mux.HandleFunc("/index.yaml", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, m.index) })
	mux.HandleFunc("/archive.tar.gz", func(w http.ResponseWriter, r *http.Request) {
		if m.serve != nil {
			m.serve(w, r)
			return
		}
		_, _ = w.Write(m.archive)
	})
	m.Server = httptest.NewServer(mux)
	t.Cleanup(m.Close)
	m.archive = archiveOf(t, map[string]string{
		"kube-apiserver": "Kubernetes v1.37.2", "etcd": "etcd Version: 3.6.9", "kubectl": "Client Version: v1.37.2",
	})
	if checksum == "" {
		sum := sha512.Sum512(m.archive)
		checksum = hex.EncodeToString(sum[:])
	}
	var text strings.Builder
	text.WriteString("releases:\n")
	for _, version := range versions {
		fmt.Fprintf(&text, "  %s:\n    envtest-%s-%s-%s.tar.gz:\n      hash: %s\n      selfLink: %s/archive.tar.gz\n",
			version, version, runtime.GOOS, runtime.GOARCH, checksum, m.URL)
	}
	m.index = text.String()
	return m
}

// archiveOf returns an archive as those of envtest are, of programs that print their versions.
func archiveOf(t *testing.T, programs map[string]string) []byte {
	t.Helper()
	var data bytes.Buffer
	zip := gzip.NewWriter(&data)
	archive := tar.NewWriter(zip)
	for name, version := range programs {
		text := "#!/bin/sh\ncat <<EOF\n" + version + "\nEOF\n"
		header := &tar.Header{
			Name: "controller-tools/envtest/" + name, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg,
		}
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}

// fetching is a builder that may fetch, and whose cache is empty.
func fetching(t *testing.T, index string) (*builder, Fetch, string) {
	t.Helper()
	return &builder{kube: pinnedForTest, report: &recorder{}},
		Fetch{Module: "../envtest", Index: index, Limits: FetchLimits{Build: 5 * time.Minute}},
		filepath.Join(t.TempDir(), "fetched")
}

func TestProgramsAreFetchedOnceAndComplete(t *testing.T) {
	m := newMirror(t, "", "v1.36.9", "v1.37.0", "v1.37.2", "v1.37.5", "v1.38.0")
	b, options, cache := fetching(t, m.URL+"/index.yaml")
	got, err := b.fetch(t.Context(), cache, options)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "v1.37.2-"+runtime.GOOS+"-"+runtime.GOARCH)
	want := Binaries{
		Etcd: filepath.Join(dir, "etcd"), KubeAPIServer: filepath.Join(dir, "kube-apiserver"),
		Kubernetes: "v1.37.2", EtcdVersion: "v3.6.9", Source: "fetched by setup-envtest",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fetched (-want +got):\n%s", diff)
	}
	checkNothingUnfinished(t, cache)
	m.Close()
	if again, err := b.fetch(t.Context(), cache, options); err != nil || again != got {
		t.Errorf("the second time, without a server: %+v, %v", again, err)
	}
}

// envtest has not every patch release.
func TestThePinnedReleaseIsFetchedElseTheNewestPatch(t *testing.T) {
	for _, tc := range []struct {
		versions []string
		want     string
	}{
		{[]string{"v1.37.0", "v1.37.2", "v1.37.10"}, "1.37.2"},
		{[]string{"v1.37.9", "v1.37.10", "v1.38.0"}, "1.37.10"},
	} {
		m := newMirror(t, "", tc.versions...)
		b, options, _ := fetching(t, m.URL+"/index.yaml")
		f := fetcher{builder: b, options: options, limits: options.Limits.usual(), work: t.TempDir()}
		f.program = filepath.Join(f.work, "setup-envtest")
		err := GoBuild(t.Context(), b.report, BuildSpec{
			Title: "setup-envtest", Dir: options.Module, Output: f.program, Packages: []string{setupEnvtest},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := f.choose(t.Context()); err != nil || got != tc.want {
			t.Errorf("of %v it takes %q (%v), want %s", tc.versions, got, err, tc.want)
		}
	}
}

// Whatever is wrong, it ends within its limits with one line, and nothing is left that looks like a
// program.
func TestWhatCannotBeFetchedIsOneLineAndLeavesNothing(t *testing.T) {
	const never = 4 * time.Second
	hang := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	for _, tc := range []struct {
		name, want string
		prepare    func(t *testing.T, m *mirror, options *Fetch)
	}{
		{"nobody answers", "connection refused", func(_ *testing.T, m *mirror, _ *Fetch) { m.Close() }},
		{"no index", "404", func(_ *testing.T, m *mirror, options *Fetch) { options.Index = m.URL + "/other" }},
		{"no index in it", "unmarshal", func(_ *testing.T, m *mirror, _ *Fetch) { m.index = "<html>sign in</html>" }},
		{"not this release", "the index has no Kubernetes 1.37 for", func(_ *testing.T, m *mirror, _ *Fetch) {
			m.index = strings.ReplaceAll(m.index, "1.37", "1.36")
		}},
		{"a wrong checksum", "checksum mismatch", func(t *testing.T, m *mirror, _ *Fetch) {
			m.archive = archiveOf(t, map[string]string{"etcd": "changed", "kube-apiserver": "on the way"})
		}},
		{"a truncated download", "unexpected EOF", func(_ *testing.T, m *mirror, _ *Fetch) {
			m.serve = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", strconv.Itoa(len(m.archive)))
				_, _ = w.Write(m.archive[:len(m.archive)/2])
			}
		}},
		{"a download that says nothing of its length", "checksum mismatch", func(_ *testing.T, m *mirror, _ *Fetch) {
			m.serve = func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(m.archive[:len(m.archive)/2])
				w.(http.Flusher).Flush()
			}
		}},
		{"a download that never ends", "setup-envtest use had no answer within 4s",
			func(_ *testing.T, m *mirror, options *Fetch) {
				options.Limits.Download, m.serve = never, hang
			}},
		{"an index that never comes", "setup-envtest list had no answer within 4s",
			func(_ *testing.T, m *mirror, options *Fetch) {
				m.serve, options.Index, options.Limits.List = hang, m.URL+"/archive.tar.gz", never
			}},
		{"another machine's programs", "etcd is another program", func(t *testing.T, m *mirror, _ *Fetch) {
			old := sha512.Sum512(m.archive)
			m.archive = archiveOf(t, map[string]string{"etcd": "no", "kube-apiserver": "Kubernetes v1.37.2"})
			sum := sha512.Sum512(m.archive)
			m.index = strings.ReplaceAll(m.index, hex.EncodeToString(old[:]), hex.EncodeToString(sum[:]))
		}},
		{"setup-envtest cannot be built", "go.mod", func(t *testing.T, _ *mirror, options *Fetch) {
			options.Module = t.TempDir()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, "", "v1.37.2")
			b, options, cache := fetching(t, m.URL+"/index.yaml")
			tc.prepare(t, m, &options)
			_, err := b.fetch(t.Context(), cache, options)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("it says %v, want %q in one line", err, tc.want)
			}
			t.Log(err)
			checkNothingUnfinished(t, cache)
			if entries, _ := filepath.Glob(filepath.Join(cache, "v*")); len(entries) > 0 {
				t.Errorf("it keeps %v", entries)
			}
		})
	}
}

// What cannot be fetched is built, and one line says why.
func TestWhatCannotBeFetchedIsBuilt(t *testing.T) {
	t.Setenv(assetsVariable, "")
	b := newBuilder(t, "package main\n\nfunc main() {}\n")
	b.kube, b.etcd = pinnedForTest, "v3.6.9"
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // what is built takes minutes
	said := b.report.(*recorder)
	m := newMirror(t, "", "v1.36.0")
	_, err := b.get(t.Context(), Options{Cache: t.TempDir(), Report: said, Fetch: &Fetch{
		Module: "../envtest", Index: m.URL + "/index.yaml", Limits: FetchLimits{Build: 5 * time.Minute},
	}})
	// There is no such module in the one of the test: that it was tried is enough.
	if err == nil || !strings.Contains(err.Error(), "building etcd v3.6.9 failed") {
		t.Errorf("etcd was not built: %v", err)
	}
	ends := said.ends()
	if len(ends) != 1 || !strings.Contains(ends[0], "the index has no Kubernetes 1.37") ||
		!strings.Contains(ends[0], "built instead") || strings.Contains(ends[0], "\n") {
		t.Errorf("it says %q", ends)
	}
	// Who interrupts it wants nothing built.
	_, err = b.get(ctx, Options{Cache: t.TempDir(), Report: said, Fetch: &Fetch{
		Module: "../envtest", Index: m.URL + "/index.yaml",
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted, it says %v", err)
	}
}

func TestWhatWasBuiltIsNotFetched(t *testing.T) {
	t.Setenv(assetsVariable, "")
	b := &builder{cache: t.TempDir(), kube: pinnedForTest, etcd: "v3.6.9", report: &recorder{}}
	writeFile(t, filepath.Join(b.cache, "etcd"), "")
	writeFile(t, filepath.Join(b.cache, "kube-apiserver"), "")
	got, err := b.get(t.Context(), Options{Cache: t.TempDir(), Report: b.report, Fetch: &Fetch{Module: "missing"}})
	if err != nil || got != b.inCache() {
		t.Errorf("it returns %+v, %v", got, err)
	}
}

func checkNothingUnfinished(t *testing.T, cache string) {
	t.Helper()
	entries, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "unfinished-") {
			t.Errorf("it leaves %s", entry.Name())
		}
	}
}
