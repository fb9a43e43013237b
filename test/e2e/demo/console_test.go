// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package demo

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

// A line that is wider than the terminal would be two, of which only one is replaced by the next.
func TestABarFitsItsTerminal(t *testing.T) {
	note := progress.Note{Share: 0.431, Left: 130 * time.Second, Text: "812 packages compiled"}
	for _, tc := range []struct {
		columns int
		want    string
	}{
		{120, "building kube-apiserver v1.37.2 [############----------------] 43 %, about 2 min 10 s left, " +
			"812 packages compiled"},
		{80, "building kube-apiserver v1.37.2 [######---------] 43 %, about 2 min 10 s left"},
		{60, "building kube-apiserver v1.37.2 [#######-----------] 43 %"},
		{45, "building kube-apiserver v1.37.2: 43 %"},
		{20, "building kube-api"},
	} {
		var out bytes.Buffer
		c := &console{out: &out, terminal: true, width: func() int { return tc.columns }}
		c.Step("building kube-apiserver v1.37.2")
		out.Reset()
		c.Note(note)
		got := strings.TrimPrefix(out.String(), "\r\x1b[K  ")
		if len(got)+2 >= tc.columns || got != tc.want {
			t.Errorf("%d columns show %q, want %q", tc.columns, got, tc.want)
		}
	}
}

// Where lines cannot be replaced, one now and then says as much.
func TestALogGetsALineNowAndThen(t *testing.T) {
	var out bytes.Buffer
	c := &console{out: &out}
	c.Step("building etcd v3.7.0")
	c.Note(progress.Note{Share: 0.1})
	if out.Len() > 0 {
		t.Errorf("at once it says %q", &out)
	}
	c.lastNote = time.Now().Add(-quietNotes)
	c.Note(progress.Note{Share: 0.25, Left: 3 * time.Minute})
	c.Note(progress.Note{Share: 0.26})
	c.Done("done in 4 min 00 s")
	want := "  building etcd v3.7.0: 25 %, about 3 min 00 s left\n  building etcd v3.7.0: done in 4 min 00 s\n"
	if out.String() != want {
		t.Errorf("it says %q, want %q", &out, want)
	}
}
