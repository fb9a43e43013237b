// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
)

const (
	// lockFile is held by the one run that may use the machine.
	lockFile = "/run/oxide-ccm-pod.lock"
	// recordFile is there while the machine is not as it was. A reboot removes it, and with it all
	// that it is about.
	recordFile = "/run/oxide-ccm-pod.json"
)

// sysctls are the kernel settings that a kubelet changes.
var sysctls = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "net/ipv4/ip_forward",
}

// fixedPaths are the folders that a kubelet makes wherever it is told to keep its state.
var fixedPaths = []string{"/var/lib/kubelet", "/var/log/pods", "/var/log/containers"}

// sharedPaths are those that every containerd makes, the innermost first. Another one may have come to
// use them, so they are removed only when they are empty.
var sharedPaths = []string{"/run/containerd/s", "/run/containerd"}

// Machine is this machine, claimed by one run.
type Machine struct {
	record record
	unlock func()
}

// record is what it takes to put the machine back.
type record struct {
	// Dir is the folder of the run, with all that it keeps on disk.
	Dir string `json:"dir"`
	// Sysctls are the kernel settings before.
	Sysctls map[string]string `json:"sysctls"`
	// Absent are the paths and the control groups that were not there.
	Absent []string `json:"absent"`
}

// Claim takes the machine for a run that keeps its state in dir, an existing folder. It calls waiting
// if another run has it, and puts back what a run that was killed has left behind. It fails where
// pods of a kubelet are running already.
func Claim(ctx context.Context, dir string, waiting func()) (*Machine, error) {
	unlock, err := cluster.Lock(ctx, lockFile, waiting)
	if err != nil {
		return nil, err
	}
	m := &Machine{unlock: unlock}
	if err := m.claim(dir); err != nil {
		unlock()
		return nil, err
	}
	return m, nil
}

func (m *Machine) claim(dir string) error {
	if text, err := os.ReadFile(recordFile); err == nil {
		var left record
		if err := json.Unmarshal(text, &left); err != nil {
			return fmt.Errorf("%s, left by an earlier run, is no JSON: %w", recordFile, err)
		}
		if err := left.restore(); err != nil {
			return fmt.Errorf("cannot clean up after an earlier run: %w", err)
		}
	}
	if err := noPods(); err != nil {
		return err
	}
	m.record = record{Dir: dir, Sysctls: map[string]string{}}
	for _, key := range sysctls {
		value, err := os.ReadFile(sysctl(key))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot record the kernel's settings: %w", err)
		}
		m.record.Sysctls[key] = strings.TrimSpace(string(value))
	}
	for _, path := range slices.Concat(podGroups(), fixedPaths, sharedPaths) {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			m.record.Absent = append(m.record.Absent, path)
		}
	}
	text, err := json.Marshal(m.record)
	if err != nil {
		return err
	}
	return os.WriteFile(recordFile, text, 0o600)
}

// Release puts the machine back. The kubelet and containerd must have ended.
func (m *Machine) Release() error {
	defer m.unlock()
	return m.record.restore()
}

// restore does what can be done of it, all of it even if some fails, and forgets the record if
// nothing did.
func (r record) restore() error {
	errs := []error{endContainers(r.socket()), unmountBelow(r.Dir)}
	for _, socket := range r.shimSockets() {
		if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, path := range r.Absent {
		switch {
		case isControlGroup(path):
			errs = append(errs, removeGroup(path))
		case slices.Contains(sharedPaths, path):
			_ = os.Remove(path)
		default:
			errs = append(errs, unmountBelow(path), os.RemoveAll(path))
		}
	}
	for key, value := range r.Sysctls {
		errs = append(errs, os.WriteFile(sysctl(key), []byte(value), 0o644))
	}
	// Nothing is mounted there any more; the logs stay for the owner of the folder to remove.
	for _, name := range []string{containerdFolder, kubeletFolder} {
		errs = append(errs, os.RemoveAll(filepath.Join(r.Dir, name)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.Remove(recordFile)
}

func (r record) socket() string { return socketIn(r.Dir) }

// shimSockets are those that containerd's shims make outside of the folder.
func (r record) shimSockets() []string {
	files, _ := filepath.Glob(filepath.Join(r.Dir, containerdFolder, "state",
		"io.containerd.runtime.v2.task", "*", "*", "address"))
	var sockets []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		path, isUnix := strings.CutPrefix(strings.TrimSpace(string(text)), "unix://")
		if err == nil && isUnix {
			sockets = append(sockets, path)
		}
	}
	return sockets
}

func sysctl(key string) string { return filepath.Join("/proc/sys", key) }
