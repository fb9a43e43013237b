// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package progress

import "testing"

// Cells stand below each other, also where a character has several bytes.
func TestATableIsLegibleAsText(t *testing.T) {
	got := Table([][]string{{"what", "n"}, {"größer", "12"}})
	want := "| what   | n  |\n|--------|----|\n| größer | 12 |\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
