// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2epod

package pod

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// credentialsAreApart looks at all that the containers' processes can see: their files, their
// environment, and whether they see each other.
func credentialsAreApart(w *world) {
	pod := w.pod()
	backend, shim := w.pid(pod, backendName), w.pid(pod, shimName)
	// A token of Kubernetes is signed: this is how each begins.
	const kubernetesToken = "eyJhbGciOi"
	for _, look := range []struct {
		name string
		pid  int
		own  string
		not  string
	}{
		{backendName, backend, rack.Token, kubernetesToken},
		{shimName, shim, kubernetesToken, rack.Token},
	} {
		// That its own is found shows that the other's would be.
		if places := w.holding(look.pid, look.own); len(places) == 0 {
			w.Errorf("%s cannot read its own credential", look.name)
		}
		if places := w.holding(look.pid, look.not); len(places) > 0 {
			w.Errorf("%s can read the credential of the other: %v", look.name, places)
		}
	}
	// In one namespace, the files of the other would be in /proc/PID/root.
	if a, b := namespaceOf(w, backend, "pid"), namespaceOf(w, shim, "pid"); a == b {
		w.Errorf("the two containers see each other's processes, in %s", a)
	}
}

func namespaceOf(w *world, pid int, kind string) string {
	w.Helper()
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	w.must(err)
	return name
}

// holding returns where a process finds a text: in its environment, its arguments, or a file that its
// container has.
func (w *world) holding(pid int, text string) []string {
	w.Helper()
	var places []string
	for _, name := range []string{"environ", "cmdline"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		w.must(err)
		if bytes.Contains(content, []byte(text)) {
			places = append(places, name)
		}
	}
	const largest = 1 << 20 // the programs themselves are larger
	root := fmt.Sprintf("/proc/%d/root", pid)
	err := filepath.WalkDir(root+"/", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside := strings.TrimPrefix(path, root)
		if entry.IsDir() && (inside == "/proc" || inside == "/sys" || inside == "/dev") {
			return fs.SkipDir
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !info.Mode().IsRegular() || info.Size() > largest {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil && bytes.Contains(content, []byte(text)) {
			places = append(places, inside)
		}
		return err
	})
	w.must(err)
	return places
}
