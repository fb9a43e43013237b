// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	groupRoot = "/sys/fs/cgroup"
	// podGroup is the control group of all pods, by a kubelet's default.
	podGroup = "kubepods"
	// endLimit is how long processes may take to be gone once they were killed.
	endLimit = 10 * time.Second
)

// podGroups are the control groups of all pods: one for each controller, or the only one.
func podGroups() []string {
	groups := []string{filepath.Join(groupRoot, podGroup)}
	entries, _ := os.ReadDir(groupRoot)
	for _, entry := range entries {
		if entry.IsDir() && entry.Name() != podGroup {
			groups = append(groups, filepath.Join(groupRoot, entry.Name(), podGroup))
		}
	}
	return groups
}

func isControlGroup(path string) bool { return strings.HasPrefix(path, groupRoot+"/") }

// groupsIn returns a control group and those in it, the innermost first; none if it is not there.
func groupsIn(path string) ([]string, error) {
	var groups []string
	err := filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			groups = append(groups, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	slices.Reverse(groups)
	return groups, err
}

// noPods fails if processes are in the pods' control groups: they belong to another kubelet.
func noPods() error {
	for _, path := range podGroups() {
		groups, err := groupsIn(path)
		if err != nil {
			return err
		}
		for _, group := range groups {
			text, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
			if err == nil && len(text) > 0 {
				return fmt.Errorf("pods of another kubelet run on this machine (processes in %s): "+
					"use a machine without one", group)
			}
		}
	}
	return nil
}

// removeGroup removes a control group and those in it. The kernel lets an empty one go only a moment
// after its last process.
func removeGroup(path string) error {
	groups, err := groupsIn(path)
	if err != nil {
		return err
	}
	for _, group := range groups {
		err := within(endLimit, func() (bool, error) {
			err := os.Remove(group)
			if errors.Is(err, syscall.EBUSY) {
				return false, nil
			}
			return err == nil || errors.Is(err, fs.ErrNotExist), err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove the control group %s: %w", group, err)
		}
	}
	return nil
}

// endContainers ends the shims of the containerd with this socket, and the containers that they hold.
func endContainers(socket string) error {
	all, err := processes()
	if err != nil {
		return err
	}
	var shims, ours []int
	for pid := range all {
		if isShim(pid, socket) {
			shims = append(shims, pid)
		}
	}
	for _, shim := range shims {
		ours = append(ours, descendants(all, shim)...)
	}
	// Containers first: their shims take notice and let go of what they hold.
	for _, pids := range [][]int{ours, shims} {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		for _, pid := range pids {
			if err := awaitEnd(pid); err != nil {
				return err
			}
		}
	}
	return nil
}

// isShim tells whether a process holds containers of the containerd with this socket.
func isShim(pid int, socket string) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	args := strings.Split(string(text), "\x00")
	at := slices.Index(args, "-address")
	return strings.Contains(filepath.Base(args[0]), "containerd-shim") &&
		at > 0 && at+1 < len(args) && args[at+1] == socket
}

// processes returns the parent of each process.
func processes() (map[int]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if fields := stat(pid); len(fields) > 1 {
			parents[pid], _ = strconv.Atoi(fields[1])
		}
	}
	return parents, nil
}

// stat returns what the kernel tells about a process from its state on; nil if it is gone.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	// The name before may hold anything, parentheses too.
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

func descendants(parents map[int]int, of int) []int {
	var all []int
	for pid, parent := range parents {
		if parent == of {
			all = append(append(all, pid), descendants(parents, pid)...)
		}
	}
	return all
}

// awaitEnd waits until a process is gone, or waits for its parent only.
func awaitEnd(pid int) error {
	err := within(endLimit, func() (bool, error) {
		fields := stat(pid)
		return len(fields) == 0 || fields[0] == "Z", nil
	})
	if err != nil {
		return fmt.Errorf("process %d outlives its end: %w", pid, err)
	}
	return nil
}

// unmountBelow undoes all mounts below a folder, the innermost first.
func unmountBelow(dir string) error {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			points = append(points, fields[1])
		}
	}
	slices.Reverse(points)
	var errs []error
	for _, point := range points {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("cannot unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

// within calls check until it returns true or an error, or for too long.
func within(limit time.Duration, check func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for {
		done, err := check()
		if done || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %s", limit)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
