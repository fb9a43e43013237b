// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package progress

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

// A step that takes no time is no line; one that goes on is one at once, and one every few seconds.
func TestLinesAreForWhatTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := To(&out, "e2e")
		l.Step("building small")
		l.Done("done in 0.1 s")
		l.Step("building large")
		for i := range 12 {
			l.Note(Note{Text: "compiling", Share: float64(i) / 20, Left: time.Minute})
			time.Sleep(time.Second)
		}
		l.Done("done in 12 s")
		l.Say("control plane: there")
		const want = `e2e: building large: about 60 s left, compiling
e2e: building large: 25 %, about 60 s left, compiling
e2e: building large: 50 %, about 60 s left, compiling
e2e: building large: done in 12 s
e2e: control plane: there
`
		if out.String() != want {
			t.Errorf("it writes\n%swant\n%s", out.String(), want)
		}
	})
}

func TestBarsAndSharesAreRoundedDown(t *testing.T) {
	for _, tc := range []struct {
		share            float64
		columns          int
		bar, percent     string
		left             time.Duration
		secondsAreTenths string
	}{
		{0, 12, "[----------]", "0 %", 0, "0.0 s"},
		{0.999, 12, "[#########-]", "99 %", 9900 * time.Millisecond, "9.9 s"},
		{1, 12, "[##########]", "100 %", 90 * time.Second, "90 s"},
		{1.5, 4, "[##]", "100 %", 125 * time.Second, "2 min 05 s"},
		{0.5, 0, "[]", "50 %", 0, "0.0 s"},
	} {
		if got := Bar(tc.share, tc.columns); got != tc.bar {
			t.Errorf("%g in %d columns is %q, want %q", tc.share, tc.columns, got, tc.bar)
		}
		if got := (Note{Share: tc.share}).Percent(); got != tc.percent {
			t.Errorf("%g is %q, want %q", tc.share, got, tc.percent)
		}
		if got := Seconds(tc.left); got != tc.secondsAreTenths {
			t.Errorf("%s is %q, want %q", tc.left, got, tc.secondsAreTenths)
		}
	}
}
