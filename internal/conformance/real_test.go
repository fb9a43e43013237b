// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance_test

import (
	"flag"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/sanity"
)

// shards is how many real backends the cases are spread over.
const shards = 10

// slow are cases that wait for something that lasts as long as it does on a rack.
var slow = []string{"addresses/attached-is-external"}

// mayBeSkipped are the cases that a backend with all features has no use for.
var mayBeSkipped = map[string]string{
	"backend/features-not-listed": "the backend lists all features",
	"read-only/changes":           "the backend changes something",
	"read-only/observes":          "the backend changes something",
}

// unseen are the reasons that no rack can produce.
var unseen = []string{"INTERNAL"}

// spread deals the cases out to shards.
func spread() [][]string {
	out := [][]string{slow}
	for range shards {
		out = append(out, nil)
	}
	n := 0
	for _, one := range sanity.Cases() {
		if !slices.Contains(slow, one.Name) {
			out[1+n%shards] = append(out[1+n%shards], one.Name)
			n++
		}
	}
	return out
}

// Promise: the real backend keeps to its contract, call by call and reason by reason.
func TestTheRealBackendConforms(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	methods, reasons, passed := make(map[string]bool), make(map[string]bool), 0
	run := func(t *testing.T, r *rig, names []string, mayBeSkipped map[string]string) {
		options := r.options(r.socket)
		options.Select, options.Restart = selecting(names...), r.restart
		options.DialReader = r.reader
		report, err := sanity.Run(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(report.Summary())
		r.isClean()
		mu.Lock()
		defer mu.Unlock()
		passed += check(t, report, mayBeSkipped)
		for _, method := range report.Methods {
			methods[method] = true
		}
		for _, reason := range report.Reasons {
			reasons[reason] = true
		}
	}
	ok := t.Run("cases", func(t *testing.T) {
		for i, names := range spread() {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				tlsFlags, dial := tlsReader(t)
				r := start(t, append(tlsFlags, "--manage-firewall")...)
				r.reader = dial
				run(t, r, names, mayBeSkipped)
			})
		}
		t.Run("read-only", func(t *testing.T) {
			t.Parallel()
			run(t, start(t, "--read-only"), []string{
				"read-only/changes", "read-only/observes", "backend/info", "instances/list", "session/life",
			}, map[string]string{"session/life": "it changes something"})
		})
	})
	t.Logf("%d cases passed", passed)
	if !ok || flag.Lookup("test.run").Value.String() != "" {
		return // not all were run
	}
	for _, method := range apiMethods() {
		if !methods[method] {
			t.Errorf("no case calls %s", method)
		}
	}
	for value, name := range backendv1.ErrorReason_name {
		name = strings.TrimPrefix(name, "ERROR_REASON_")
		if value != 0 && !reasons[name] && !slices.Contains(unseen, name) {
			t.Errorf("no case saw the reason %s", name)
		}
	}
}

func check(t *testing.T, report *sanity.Report, mayBeSkipped map[string]string) (passed int) {
	t.Helper()
	if text := failuresOf(report); text != "" || report.Interrupted {
		t.Errorf("interrupted: %t\n%s", report.Interrupted, text)
	}
	for _, result := range report.Results {
		if _, may := mayBeSkipped[result.Name]; result.Outcome == sanity.Skipped && !may {
			t.Errorf("%s was skipped: %s", result.Name, result.Why)
		}
	}
	return report.Count(sanity.Passed)
}

// apiMethods are the full names of all methods of the API.
func apiMethods() []string {
	names := make(map[string]bool)
	api := backendv1.File_oxide_backend_v1_backend_service_proto.Package()
	protoregistry.GlobalFiles.RangeFilesByPackage(api, func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				names["/"+string(service.FullName())+"/"+string(service.Methods().Get(j).Name())] = true
			}
		}
		return true
	})
	return slices.Sorted(maps.Keys(names))
}
