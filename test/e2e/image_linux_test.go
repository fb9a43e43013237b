// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// The command with podman in docs/guides/install.md, without podman: the image's own entrypoint,
// environment and user, the programs in it, and of this machine's environment only what the command
// passes on.
func TestTheImageRunsAloneAsDocumented(t *testing.T) {
	e := newEnvironment(t, settings{idle: true})
	e.must(os.Chmod(e.dir, 0o755)) // the image's user goes through it
	image := unpackImage(t, filepath.Join(e.dir, "image"))
	kubeconfig := filepath.Join(e.dir, "kubeconfig.yaml")
	text, err := os.ReadFile(shared.kubeconfig)
	e.must(err)
	e.must(os.WriteFile(kubeconfig, text, 0o600))
	command := documentedCommand(t)
	i := slices.Index(command, "/tmp/kubeconfig.yaml")
	if i < 0 {
		t.Fatalf("the documented command is %v: it gives no kubeconfig", command)
	}
	command[i] = kubeconfig
	env := append(slices.Clone(image.env), "OXIDE_HOST="+e.rack.URL, "OXIDE_TOKEN="+rack.Token,
		"OXIDE_PROJECT="+rack.Project)

	e.forgetLease()
	var shim *process.Process
	e.must(process.WithFreePorts(1, func(_ int, ports []int) error {
		// A container has ports of its own.
		args := append(slices.Clone(command), "--secure-port="+strconv.Itoa(ports[0]))
		path, args := image.asItsUser(t, image.entrypoint, args, kubeconfig)
		shim, err = e.group.Run(t.Context(), process.Spec{
			Name: "image", Path: path, Args: args, Env: env,
		}, e.leads)
		return err
	}))
	e.join("node-a")
	e.create("web", objects.TCP(80))
	e.served("web")
	e.showsNoToken(append(childrenOf(t, shim.PID()), shim.PID())...)

	path, args := image.asItsUser(t, filepath.Join(image.root, "usr/bin/oxide-backend"),
		[]string{"check"}, kubeconfig)
	check := exec.CommandContext(t.Context(), path, args...)
	check.Env = env
	out, err := check.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "instances     ok") {
		t.Errorf("check: %v\n%s", err, out)
	}
}

// showsNoToken checks the environment of processes, as others on the machine can read it.
func (e *environment) showsNoToken(pids ...int) {
	e.Helper()
	if len(pids) < 2 {
		e.Errorf("%d processes, want the shim and its backend", len(pids))
	}
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		e.must(err)
		if len(text) == 0 || bytes.Contains(text, []byte(rack.Token)) {
			e.Errorf("the environment of process %d, of %d bytes, is empty or shows the token", pid, len(text))
		}
	}
}

// forgetLease removes the lease of the last test's leader, who cannot.
func (e *environment) forgetLease() {
	e.Helper()
	err := e.client.CoordinationV1().Leases(metav1.NamespaceSystem).Delete(e.Context(),
		stack.LeaseName, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		e.Fatal(err)
	}
}

func (e *environment) leads(ctx context.Context) error {
	lease, err := e.client.CoordinationV1().Leases(metav1.NamespaceSystem).Get(ctx,
		stack.LeaseName, metav1.GetOptions{})
	if err == nil && (lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "") {
		err = errors.New("nobody holds the lease")
	}
	return err
}

// documentedCommand returns what stands after IMAGE in the command with podman.
func documentedCommand(t *testing.T) []string {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile(filepath.Join(root, "docs", "guides", "install.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(guide), "\npodman run ")
	if !found {
		t.Fatal("docs/guides/install.md has no command with podman")
	}
	command, _, _ := strings.Cut(rest, "\n```")
	words := strings.Fields(strings.ReplaceAll(command, "\\\n", " "))
	for _, word := range []string{"OXIDE_HOST", "OXIDE_TOKEN", "OXIDE_PROJECT",
		"./kubeconfig.yaml:/tmp/kubeconfig.yaml:ro", "--userns=keep-id:uid=65532,gid=65532"} {
		if !slices.Contains(words, word) {
			t.Errorf("the documented command lacks %s", word)
		}
	}
	image := slices.Index(words, "IMAGE")
	if image < 0 {
		t.Fatalf("the documented command names no IMAGE: %v", words)
	}
	return words[image+1:]
}

// unpackedImage is what an engine would make of the image.
type unpackedImage struct {
	root       string
	entrypoint string
	env        []string
	uid, gid   string
}

// unpackImage builds the image, as `make image` does, and unpacks it into a folder.
func unpackImage(t *testing.T, folder string) unpackedImage {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "make", "image", "DIST="+folder, "REVISION=test")
	build.Dir = root
	build.Env = append(os.Environ(), "MAKEFLAGS=", "MFLAGS=", "MAKELEVEL=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make image: %v: %s", err, out)
	}
	archives, err := filepath.Glob(filepath.Join(folder, "*.tar"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("make image wrote %v: %v", archives, err)
	}
	content, err := os.ReadFile(archives[0])
	if err != nil {
		t.Fatal(err)
	}
	blobs := map[string][]byte{}
	eachEntry(t, bytes.NewReader(content), func(header *tar.Header, content []byte) {
		blobs[header.Name] = content
	})
	type descriptor struct{ Digest string }
	decode := func(name string, into any) {
		t.Helper()
		if err := json.Unmarshal(blobs[name], into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	blob := func(of descriptor) string { return "blobs/" + strings.Replace(of.Digest, ":", "/", 1) }
	var index struct{ Manifests []descriptor }
	decode("index.json", &index)
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	decode(blob(index.Manifests[0]), &manifest)
	var config struct {
		Config struct {
			User       string
			Env        []string
			Entrypoint []string
		}
	}
	decode(blob(manifest.Config), &config)
	image := unpackedImage{root: filepath.Join(folder, "rootfs"), env: config.Config.Env}
	for _, layer := range manifest.Layers {
		image.unpackLayer(t, blobs[blob(layer)])
	}
	image.entrypoint = filepath.Join(image.root, config.Config.Entrypoint[0])
	image.uid, image.gid, _ = strings.Cut(config.Config.User, ":")
	return image
}

func (i unpackedImage) unpackLayer(t *testing.T, compressed []byte) {
	t.Helper()
	reader, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	eachEntry(t, reader, func(header *tar.Header, content []byte) {
		path := filepath.Join(i.root, header.Name)
		mode := header.FileInfo().Mode()
		if header.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, mode.Perm())
		} else {
			err = os.WriteFile(path, content, mode.Perm())
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

func eachEntry(t *testing.T, of io.Reader, visit func(*tar.Header, []byte)) {
	t.Helper()
	reader := tar.NewReader(of)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		visit(header, content)
	}
}

// asItsUser returns the command that runs a program of the image as the image's user, to whom the
// file then belongs; or as the user of this test, if that one may not become another.
func (i unpackedImage) asItsUser(
	t *testing.T, program string, args []string, file string,
) (string, []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return program, args
	}
	uid, err := strconv.Atoi(i.uid)
	if err != nil {
		t.Fatalf("the image's user %q has no number", i.uid)
	}
	gid, err := strconv.Atoi(i.gid)
	if err != nil {
		t.Fatalf("the image's group %q has no number", i.gid)
	}
	if err := os.Chown(file, uid, gid); err != nil {
		t.Fatal(err)
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Fatal(err)
	}
	return setpriv, append([]string{
		"--reuid=" + i.uid, "--regid=" + i.gid, "--clear-groups", program,
	}, args...)
}
