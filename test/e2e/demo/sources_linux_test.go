// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package demo_test

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// The control plane comes from where the demo's usage says. Here an index and an archive of what
// was built are served on loopback.
func TestADemoFetchesItsControlPlane(t *testing.T) {
	dir := t.TempDir()
	sum := archive(t, filepath.Join(dir, "programs.tar.gz"))
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	version := built.Kubernetes
	index := fmt.Sprintf("releases:\n  %[1]s:\n    envtest-%[1]s-%[2]s-%[3]s.tar.gz:\n      hash: %[4]s\n"+
		"      selfLink: %[5]s/programs.tar.gz\n", version, runtime.GOOS, runtime.GOARCH, sum, server.URL)
	if err := os.WriteFile(filepath.Join(dir, "index.yaml"), []byte(index), 0o600); err != nil {
		t.Fatal(err)
	}
	d := play(t, "FETCH=", "ENVTEST_INDEX="+server.URL+"/index.yaml", "KUBEBUILDER_ASSETS=",
		"OXIDE_CCM_CACHE="+t.TempDir())
	if code := d.wait(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, d.out)
	}
	for _, told := range []string{
		"fetching etcd and kube-apiserver: done in ",
		"control plane: Kubernetes " + version + " and etcd " + built.EtcdVersion + ", fetched by setup-envtest",
	} {
		if !strings.Contains(d.out.String(), told) {
			t.Errorf("%q is not told in:\n%s", told, d.out)
		}
	}
}

func TestADemoUsesTheAssetsOfEnvtest(t *testing.T) {
	dir := filepath.Dir(built.KubeAPIServer)
	// An index that would be asked is nobody's.
	d := play(t, "FETCH=1", "ENVTEST_INDEX=http://127.0.0.1:1/", "KUBEBUILDER_ASSETS="+dir,
		"OXIDE_CCM_CACHE="+t.TempDir())
	d.awaitOutput("knows Kubernetes")
	d.signal(syscall.SIGINT)
	if code := d.wait(); code != 130 {
		t.Errorf("exit code %d:\n%s", code, d.out)
	}
	if told := "Kubernetes " + built.Kubernetes + " and etcd " + built.EtcdVersion +
		", from KUBEBUILDER_ASSETS=" + dir; !strings.Contains(d.out.String(), told) {
		t.Errorf("%q is not told in:\n%s", told, d.out)
	}
}

func TestADemoWithUnfitAssetsSaysSoInOneLine(t *testing.T) {
	empty := t.TempDir()
	d := play(t, "KUBEBUILDER_ASSETS="+empty)
	if code := d.wait(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	want := "demo: failed: KUBEBUILDER_ASSETS=" + empty + ": there is no kube-apiserver: set it to what " +
		"`setup-envtest use -p path` prints, or unset KUBEBUILDER_ASSETS to have them built"
	if d.lastLine() != want {
		t.Errorf("it ends with %q, want %q", d.lastLine(), want)
	}
}

// archive packs the programs of the control plane, as envtest does, and returns the checksum.
func archive(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	hash := sha512.New()
	zip, err := gzip.NewWriterLevel(io.MultiWriter(file, hash), gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	pack := tar.NewWriter(zip)
	for _, program := range []string{built.Etcd, built.KubeAPIServer} {
		if err := add(pack, program); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(pack.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func add(pack *tar.Writer, program string) error {
	file, err := os.Open(program)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{
		Name: "controller-tools/envtest/" + filepath.Base(program), Mode: 0o755, Size: info.Size(),
		Typeflag: tar.TypeReg,
	}
	if err := pack.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(pack, file)
	return err
}
