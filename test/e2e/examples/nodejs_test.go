// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package examples

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// nodejs returns Node.js and a folder with the example and what it needs from the npm registry, or skips the
// test: this machine need have neither.
func nodejs(t *testing.T) (node, dir string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("SKIPPED: the example in Node.js: there is no node on this machine")
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skip("SKIPPED: the example in Node.js: there is no npm on this machine")
	}
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(built.root, "examples", "nodejs"))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, npm, "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: the example in Node.js: what it needs cannot be had: %v: %s", err, out)
	}
	return node, dir
}

// protos returns the folder of the .proto files, unpacked from what a release has.
func protos(t *testing.T) string {
	t.Helper()
	dist, dir := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "make", "-s", "-C", built.root, "api", "DIST="+dist)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make api: %v: %s", err, out)
	}
	archives, err := filepath.Glob(filepath.Join(dist, "oxide-backend-api-*-protos.tar.gz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("make api has written %v, %v", archives, err)
	}
	if out, err := exec.CommandContext(t.Context(), "tar", "-xzf", archives[0], "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// lines returns what the example has written, by the name of the instance; "" for what is about none.
func lines(text string) map[string]map[string]any {
	last := make(map[string]map[string]any)
	for line := range strings.Lines(text) {
		var object map[string]any
		if json.Unmarshal([]byte(line), &object) == nil {
			name, _ := object["name"].(string)
			last[name] = object
		}
	}
	return last
}

func TestAProgramInAnotherLanguageWatchesInstancesAndReadsErrors(t *testing.T) {
	node, dir := nodejs(t)
	protos := protos(t)
	w := newWorld(t)
	p, err := w.group.Start(process.Spec{
		Name: "nodejs", Path: node, Env: []string{"PATH=" + os.Getenv("PATH")},
		Args: []string{filepath.Join(dir, "watch.mjs"), protos, w.socket, "web-1", "no-such-instance"},
	})
	w.must(err)
	await := func(what string, check func(map[string]map[string]any) bool) {
		t.Helper()
		w.eventually(what, func(context.Context) (bool, string, error) {
			text, err := os.ReadFile(p.LogFile())
			return check(lines(string(text))), string(text), err
		})
	}
	await("it reads the reason of an error", func(last map[string]map[string]any) bool {
		failure, _ := last["no-such-instance"]["error"].(map[string]any)
		return failure["code"] == "NOT_FOUND" && failure["reason"] == "INSTANCE_NOT_FOUND"
	})
	await("it knows the instances", func(last map[string]map[string]any) bool {
		return last["web-3"]["state"] == "RUN_STATE_RUNNING" && last[""]["synced"] == true
	})
	w.must(w.rack.StopInstance(w.within(), "web-3"))
	await("it sees a change", func(last map[string]map[string]any) bool {
		return last["web-3"]["state"] == "RUN_STATE_STOPPED"
	})
	w.must(w.backend.Backend.Stop(10 * time.Second))
	w.must(w.backend.StartBackend(w.within()))
	w.must(w.rack.AddMachines(w.within(), rack.Machine{
		Name: "db-1", NCPUs: 2, MemoryGiB: 4, IP: "172.30.0.50",
	}))
	await("it goes on after the backend was restarted", func(last map[string]map[string]any) bool {
		return last["db-1"] != nil
	})
}
