// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// searchPath is where the programs of the operating system are; it does not depend on who calls.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Package is a Debian package with a program by which it is known to be there.
type Package struct{ Name, Program string }

// packages are what a node needs.
var packages = []Package{
	{"containerd", "containerd"}, {"runc", "runc"}, {"iptables", "iptables"},
	{"conntrack", "conntrack"}, {"socat", "socat"}, {"ethtool", "ethtool"}, {"iproute2", "ip"},
}

// EnsurePackages installs what is missing of containerd, of the programs that a kubelet calls, and of
// more, as Install does.
func EnsurePackages(ctx context.Context, tell func(text string), more ...Package) error {
	return Install(ctx, tell, slices.Concat(packages, more)...)
}

// Install installs what is missing of all, and lets this process find the programs, wherever its
// user's PATH leads. It tells through tell what it installs.
func Install(ctx context.Context, tell func(text string), all ...Package) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("this needs root, and this is user %d: run it with sudo", os.Geteuid())
	}
	if err := os.Setenv("PATH", searchPath+":"+os.Getenv("PATH")); err != nil {
		return err
	}
	missing := missingOf(all)
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(missing, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("this machine lacks %s, and has no apt-get: install them", list)
	}
	tell("installing " + list)
	for _, args := range [][]string{
		{"update"}, append([]string{"install", "--yes", "--no-install-recommends"}, missing...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"--quiet"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			return fmt.Errorf("apt-get %s failed (%w): %s", args[0], err, lines[len(lines)-1])
		}
	}
	if missing = missingOf(all); len(missing) > 0 {
		return fmt.Errorf("installed, and still without a program of %s",
			strings.Join(missing, " "))
	}
	return nil
}

func missingOf(packages []Package) []string {
	var missing []string
	for _, each := range packages {
		if _, err := exec.LookPath(each.Program); err != nil {
			missing = append(missing, each.Name)
		}
	}
	return missing
}
