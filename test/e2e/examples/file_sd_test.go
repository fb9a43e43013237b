// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package examples

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// targets returns the names and targets in a file for Prometheus; nil if there is none yet.
func targets(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var groups []struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	if err := json.Unmarshal(text, &groups); err != nil {
		return nil, err
	}
	found := make(map[string]string)
	for _, group := range groups {
		found[group.Labels["__meta_oxide_instance_name"]] = strings.Join(group.Targets, " ")
	}
	return found, nil
}

func TestPrometheusDiscoversTheInstancesOfTheProject(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(w.dir, "oxide.json")
	w.start("file_sd", "--port", "9100", "--output", file)
	await := func(want ...string) {
		t.Helper()
		w.eventually("the file has these instances", func(context.Context) (bool, string, error) {
			found, err := targets(file)
			var names []string
			for name, target := range found {
				if strings.HasPrefix(target, "172.30.0.") && strings.HasSuffix(target, ":9100") {
					names = append(names, name)
				}
			}
			slices.Sort(names)
			return cmp.Equal(names, want), cmp.Diff(want, names), err
		})
	}
	await("web-1", "web-2", "web-3")
	w.must(w.rack.AddMachines(w.within(), rack.Machine{
		Name: "db-1", NCPUs: 2, MemoryGiB: 4, IP: "172.30.0.50",
	}))
	await("db-1", "web-1", "web-2", "web-3")
	w.must(w.rack.DeleteInstance(w.within(), "web-2"))
	await("db-1", "web-1", "web-3")
	if left, err := filepath.Glob(filepath.Join(w.dir, ".file_sd-*")); err != nil || len(left) > 0 {
		t.Errorf("half-written files are left: %v, %v", left, err)
	}
}

func TestWhatPrometheusKnowsStaysWhileTheBackendIsAway(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(w.dir, "oxide.json")
	p := w.start("file_sd", "--output", file)
	w.eventually("there is a file", func(context.Context) (bool, string, error) {
		found, err := targets(file)
		return len(found) == 3, "", err
	})
	before, err := os.ReadFile(file)
	w.must(err)
	w.must(w.backend.Backend.Stop(10 * time.Second))
	w.awaitLine(p, "the backend is about to stop", 1)
	w.must(w.backend.StartBackend(w.within()))
	w.must(w.rack.AddMachines(w.within(), rack.Machine{
		Name: "db-1", NCPUs: 2, MemoryGiB: 4, IP: "172.30.0.50",
	}))
	// Until the new instance is there the file is what it was: no half of it is ever written.
	w.eventually("the new instance is there", func(context.Context) (bool, string, error) {
		now, err := os.ReadFile(file)
		if err != nil {
			return false, "", err
		}
		if string(now) == string(before) {
			return false, "as it was", nil
		}
		found, err := targets(file)
		if len(found) != 4 {
			return false, "", errors.New("the file has lost instances: " + string(now))
		}
		return true, "", err
	})
}
