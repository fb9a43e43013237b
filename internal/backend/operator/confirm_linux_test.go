// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// terminal returns both ends of a pseudo-terminal: the keyboard, and what a program reads.
func terminal(t *testing.T) (keyboard, program *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return keyboard, program
}

func TestAtATerminalItIsAskedFor(t *testing.T) {
	for answer, yes := range map[string]bool{
		"y\n": true, "YES\n": true, "\n": false, "n\n": false, "yesterday\n": false,
		"\x04": false, // the end of what is typed
	} {
		p := newPeer(t, rule("lb-web"), rule("lb-dns"))
		keyboard, program := terminal(t)
		if _, err := keyboard.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		got := p.run(t, program, "remove-rules")
		if !strings.Contains(got.stderr, "Remove 2 rules from Oxide? [y/N] ") || !strings.Contains(got.stdout, "lb-web") {
			t.Errorf("%q: it asks %q, after:\n%s", answer, got.stderr, got.stdout)
		}
		if yes {
			if got.err != nil || len(p.left()) != 0 {
				t.Errorf("%q: %v, and left are %q", answer, got.err, p.left())
			}
			continue
		}
		got.failed(t, 1, "nothing was changed")
		if len(p.left()) != 2 || p.writes != 0 {
			t.Errorf("%q: left are %q", answer, p.left())
		}
	}
}

// A table whose lines all break cannot be read.
func TestOnANarrowTerminalEachRowStandsAlone(t *testing.T) {
	header := []string{"LOAD BALANCER", "STATE", "EMPTY", "ADDRESS", "NOTE"}
	rows := [][]string{
		{"shop/web", "ready", "", "2001:db8:51::10", ""},
		{"shop/a-rather-long-name", "pending", "", "2001:db8:51::11", "no node can carry it: there is none"},
	}
	const (
		wide = "LOAD BALANCER            STATE    ADDRESS          NOTE\r\n" +
			"shop/web                 ready    2001:db8:51::10\r\n" +
			"shop/a-rather-long-name  pending  2001:db8:51::11  no node can carry it: there is none\r\n"
		narrow = "LOAD BALANCER  shop/web\r\nSTATE          ready\r\nADDRESS        2001:db8:51::10\r\n\r\n" +
			"LOAD BALANCER  shop/a-rather-long-name\r\nSTATE          pending\r\n" +
			"ADDRESS        2001:db8:51::11\r\nNOTE           no node can carry it: there is none\r\n"
	)
	for columns, want := range map[uint16]string{60: narrow, 80: narrow, 81: wide, 0: wide} {
		screen, program := terminal(t)
		size := &unix.Winsize{Row: 24, Col: columns}
		if err := unix.IoctlSetWinsize(int(program.Fd()), unix.TIOCSWINSZ, size); err != nil {
			t.Fatal(err)
		}
		if err := printTable(program, header, rows); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want)+1)
		n, err := io.ReadAtLeast(screen, got, len(want))
		if err != nil || string(got[:n]) != want {
			t.Errorf("%d columns: %v, (-want +got):\n%s", columns, err, cmp.Diff(want, string(got[:n])))
		}
	}
}
