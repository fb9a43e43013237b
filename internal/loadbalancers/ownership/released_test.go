// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ownership

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var webKey = Key{Scope: "cluster-1", Name: "default/web"}

const releasedLine = "oxide-ccm-released/v1 scope=cluster-1 name=default/web"

func TestWhatWasReleasedSaysSoInPlaceOfTheMarker(t *testing.T) {
	marker := someMarker.String()
	for _, tc := range []struct{ name, description, want string }{
		{"a marker", marker, releasedLine},
		{"a marker between text", "A\n" + marker + "\nB", "A\n" + releasedLine + "\nB"},
		{"two markers", marker + "\nA\n" + marker, releasedLine + "\nA"},
		{"released before, by another one", "A\noxide-ccm-released/v1 scope=x name=y", "A\n" + releasedLine},
		{"nothing", "", releasedLine},
		{"text alone", "A", "A\n" + releasedLine},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := WithReleased(tc.description, webKey)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if BearsMarker(got) {
				t.Error("it counts as marked")
			}
			if key, ok := ReleasedFrom(got); !ok || key != webKey {
				t.Errorf("it is read as %v, %t", key, ok)
			}
			if again, err := WithReleased(got, webKey); err != nil || again != got {
				t.Errorf("released twice it is %q, %v", again, err)
			}
			if marked, err := WithMarker(got, someMarker); err != nil || strings.Contains(marked, "released") {
				t.Errorf("marked again it is %q, %v", marked, err)
			}
		})
	}
}

func TestALineThatWasEditedReleasesNothing(t *testing.T) {
	for name, description := range map[string]string{
		"none":            "mine",
		"doubled":         releasedLine + "\n" + releasedLine,
		"a later version": strings.Replace(releasedLine, "/v1", "/v2", 1),
		"a field more":    releasedLine + " uid=x",
		"within a line":   "see " + releasedLine,
		"indented":        " " + releasedLine,
		"a marker":        someMarker.String(),
	} {
		if key, ok := ReleasedFrom(description); ok {
			t.Errorf("%s: read as %v", name, key)
		}
	}
}

func TestWhatCannotBeWrittenIsAnError(t *testing.T) {
	room := MaxDescription - utf8.RuneCountInString(releasedLine) - 1
	if _, err := WithReleased(strings.Repeat("ä", room), webKey); err != nil {
		t.Errorf("the line fits exactly, but: %v", err)
	}
	if _, err := WithReleased(strings.Repeat("ä", room+3), webKey); err == nil ||
		!strings.Contains(err.Error(), "remove 3 characters") {
		t.Errorf("got %v, want an error that says how many characters to remove", err)
	}
	if _, err := WithReleased("", Key{Scope: "a b", Name: "c"}); err == nil {
		t.Error("a key that could not be read again is written")
	}
}

// Whose address was released is read again as it was written into any description, which fits in Oxide.
func FuzzReleased(f *testing.F) {
	f.Add("", "s", "n")
	f.Add("The shop.\n"+someMarker.String(), "s", "n/m")
	f.Add(releasedLine+"\r\n"+releasedLine, "a b", "")
	f.Fuzz(func(t *testing.T, description, scope, name string) {
		key := Key{Scope: scope, Name: name}
		written, err := WithReleased(description, key)
		if err != nil {
			return
		}
		if utf8.RuneCountInString(written) > MaxDescription {
			t.Errorf("Oxide would answer 500 to %d characters", utf8.RuneCountInString(written))
		}
		if got, ok := ReleasedFrom(written); !ok || got != key || BearsMarker(written) {
			t.Errorf("wrote %+v into %q, read %+v, %t", key, written, got, ok)
		}
	})
}
