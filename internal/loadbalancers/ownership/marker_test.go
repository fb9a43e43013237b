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

var someMarker = Marker{
	Key:      Key{Scope: "9b9c6c1e-6d0e-4f61-a1a7-3c1de84e0c59", Name: "default/web"},
	OwnerUID: "0c5f2d3a-53c8-4f5e-8f7c-2f8f1f0f5d8e",
	Family:   IPv4,
	Source:   "default",
}

func TestMarkerIsReadAsItWasWritten(t *testing.T) {
	for name, change := range map[string]func(*Marker){
		"plain":       func(*Marker) {},
		"retained":    func(m *Marker) { m.Retained = true },
		"IPv6":        func(m *Marker) { m.Family = IPv6 },
		"a pool":      func(m *Marker) { m.Source = Source{Pool: "public-1"}.String() },
		"longest key": func(m *Marker) { m.Key.Name = strings.Repeat("n", 63) + "/" + strings.Repeat("s", 63) },
	} {
		t.Run(name, func(t *testing.T) {
			want := someMarker
			change(&want)
			got, ok := ParseMarker(want.String())
			if !ok {
				t.Fatalf("%q is not understood", want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMarkerThatWasEditedIsNotBelieved(t *testing.T) {
	line := someMarker.String()
	for name, description := range map[string]string{
		"none":             "the web shop's address",
		"empty":            "",
		"doubled":          line + "\n" + line,
		"a later version":  strings.Replace(line, "/v1", "/v2", 1),
		"a field missing":  strings.Replace(line, " family=v4", "", 1),
		"a field more":     line + " color=red",
		"other order":      strings.Replace(line, "scope=", "uid=", 1),
		"upper case":       strings.ToUpper(line),
		"indented":         "  " + line,
		"two spaces":       strings.Replace(line, " name=", "  name=", 1),
		"within a line":    "see " + line,
		"trailing space":   line + " ",
		"unknown family":   strings.Replace(line, "family=v4", "family=v5", 1),
		"empty scope":      strings.Replace(line, someMarker.Key.Scope, "", 1),
		"a strange letter": strings.Replace(line, "default/web", "default/wéb", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := ParseMarker(description); ok {
				t.Errorf("%q is believed: %+v", description, got)
			}
		})
	}
}

func TestTheUsersOwnTextIsPreserved(t *testing.T) {
	line := someMarker.String()
	old := someMarker
	old.OwnerUID = "someone-before"
	for _, tc := range []struct{ name, description, want string }{
		{"empty", "", line},
		{"text", "The shop.", "The shop.\n" + line},
		{"two lines", "The shop.\nAsk Ann.", "The shop.\nAsk Ann.\n" + line},
		{"text ends with a newline", "The shop.\n", "The shop.\n\n" + line},
		{"an old marker before text", old.String() + "\nThe shop.", line + "\nThe shop."},
		{"an old marker between text", "A\n" + old.String() + "\nB", "A\n" + line + "\nB"},
		{"two old markers", old.String() + "\n" + old.String(), line},
		{"a damaged marker", "A\noxide-ccm/v1 scope=", "A\n" + line},
		{"a released line", "A\noxide-ccm-released/v1 scope=x name=y\nB", "A\n" + line + "\nB"},
		{"a released line and a marker", "oxide-ccm-released/v1 x\n" + old.String() + "\nB", line + "\nB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := WithMarker(tc.description, someMarker)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if parsed, ok := ParseMarker(got); !ok || parsed != someMarker {
				t.Errorf("the marker is not found again: %+v", parsed)
			}
		})
	}
}

func TestADescriptionWithoutRoomIsLeftAlone(t *testing.T) {
	room := MaxDescription - utf8.RuneCountInString(someMarker.String()) - 1
	if _, err := WithMarker(strings.Repeat("ä", room), someMarker); err != nil {
		t.Errorf("the marker fits exactly, but: %v", err)
	}
	_, err := WithMarker(strings.Repeat("ä", room+3), someMarker)
	if err == nil || !strings.Contains(err.Error(), "remove 3 characters") {
		t.Errorf("got %v, want an error that says how many characters to remove", err)
	}
}

// A marker that is written into any description is read again as it was, twice is as once, and fits in Oxide.
func FuzzMarker(f *testing.F) {
	f.Add("", someMarker.Key.Scope, someMarker.Key.Name, "uid", "default")
	f.Add("The shop.\n"+someMarker.String(), "s", "n", "u", "pool:x")
	f.Add("oxide-ccm/v1 scope=\r\noxide-ccm/", "a b", "", "\n", "address:2001:db8::1")
	f.Fuzz(func(t *testing.T, description, scope, name, uid, source string) {
		m := Marker{Key: Key{Scope: scope, Name: name}, OwnerUID: uid, Family: IPv6, Source: source}
		marked, err := WithMarker(description, m)
		if err != nil {
			return
		}
		if utf8.RuneCountInString(marked) > MaxDescription {
			t.Errorf("Oxide would answer 500 to %d characters", utf8.RuneCountInString(marked))
		}
		if got, ok := ParseMarker(marked); !ok || got != m {
			t.Errorf("wrote %+v into %q, read %+v, %v", m, description, got, ok)
		}
		again, err := WithMarker(marked, m)
		if err != nil || again != marked {
			t.Errorf("marking twice changes %q to %q, %v", marked, again, err)
		}
	})
}
