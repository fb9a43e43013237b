// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package stack

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Nodes of tests, the demo and benchmarks have addresses that are not of this machine. All of them start
// the shim here, whatever its default is.
func TestTheShimIsStartedWithoutProbesOfNodes(t *testing.T) {
	for _, options := range []CCMOptions{
		{}, {Child: true}, {Standby: true}, {ShimFlags: []string{"--read-only", "--node-name=node-a"}},
	} {
		c := &CCM{options: options}
		if args := c.shimArgs(10258); !slices.Contains(args, "--probe-nodes=false") {
			t.Errorf("%+v: the arguments are %q", options, args)
		}
	}
}

// The one test that needs probes switches them on by itself: the last flag wins.
func TestFlagsOfATestComeLast(t *testing.T) {
	c := &CCM{options: CCMOptions{ShimFlags: []string{"--probe-nodes=true"}}}
	if args := c.shimArgs(10258); args[len(args)-1] != "--probe-nodes=true" {
		t.Errorf("the arguments are %q", args)
	}
}

// switchedOn matches the flag in Go code, in a way that switches probes on.
var switchedOn = regexp.MustCompile(`--probe-nodes(=true)?["\x60 ,]|probeNodes[=:] *true`)

// Of everything else that starts the shim, only what makes network namespaces of its own probes nodes.
func TestOnlyTheTestOfTheDataPathSwitchesProbesOn(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, folder := range []string{"test", "internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" {
				return err
			}
			text, err := os.ReadFile(path)
			read++
			name := strings.TrimPrefix(path, root+"/")
			if switchedOn.Match(text) && name != "test/e2e/stack/ccm_test.go" &&
				!strings.HasPrefix(name, "test/e2e/datapath/") {
				t.Errorf("%s switches probes of nodes on", name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if read < 100 {
		t.Errorf("only %d files were read", read)
	}
}
