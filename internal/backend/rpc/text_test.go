// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestTextsAreOneShortLine(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"one line", "all is well", "all is well"},
		{"several lines", " a\r\n\tb \u2028 c ", "a b c"},
		{"control characters", "a\x00\x1b[31mb\u0085", "a [31mb"},
		{"not UTF-8", "a\xffb", "a\uFFFDb"},
		{"as long as may be", strings.Repeat("x", 400), strings.Repeat("x", 400)},
		{"too long", strings.Repeat("x", 401), strings.Repeat("x", 397) + "…"},
		{"cut within a character", strings.Repeat("x", 396) + "éé" + "yy",
			strings.Repeat("x", 396) + "…"},
	} {
		if got := oneLine(tc.text); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestQuotedInputIsShort(t *testing.T) {
	if got := quote("a\nb"); got != `"a\nb"` {
		t.Errorf("got %s", got)
	}
	for _, input := range []string{
		strings.Repeat("x", 98), strings.Repeat("x", 99), strings.Repeat("x", 1<<20),
		strings.Repeat("\x00", 1000), strings.Repeat("é", 60), strings.Repeat("\u202e", 40),
	} {
		got := quote(input)
		if len(got) > maxQuoted || !utf8.ValidString(got) || len(got) < maxQuoted-12 {
			t.Errorf("%d bytes: %s", len(got), got)
		}
	}
}

// Whatever is in a text or is quoted, it becomes one line of UTF-8 of at most 400 bytes, 100 for what is quoted.
func FuzzTexts(f *testing.F) {
	f.Add("a\nb", "\xff")
	f.Fuzz(func(t *testing.T, text, input string) {
		for _, got := range []string{oneLine(text), oneLine(quote(input) + " " + text)} {
			if len(got) > maxText || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
				t.Errorf("%q", got)
			}
		}
		if got := quote(input); len(got) > maxQuoted || !utf8.ValidString(got) {
			t.Errorf("%q", got)
		}
	})
}
