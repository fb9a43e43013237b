// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ownership

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// validName is what Oxide accepts as a name, apart from UUIDs.
var validName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Whatever a load balancer is called, what belongs to it has a name that Oxide accepts; the same one each
// time, and not the one of another load balancer, family or source.
func FuzzName(f *testing.F) {
	f.Add("cluster-1", "default/web", "default", "cluster-1", "default/web", "pool:edge", 0)
	f.Add("s", "a/b", "x", "s", "a-b", "x", 3)
	f.Add("s", "", "", "", "s", "", -1)
	f.Add("s", strings.Repeat("ä", 300), "\x00", "s1", "\xff/\n", "2:ab,", 1<<20)
	f.Fuzz(func(t *testing.T, scope, name, source, otherScope, otherName, otherSource string, counter int) {
		key, other := Key{Scope: scope, Name: name}, Key{Scope: otherScope, Name: otherName}
		made := Name(key, IPv4, source, counter)
		for _, each := range []string{made, KeptRuleName(key, IPv6, counter), RuleName(key)} {
			if !validName.MatchString(each) || len(each) > maxName {
				t.Errorf("%+v has the name %q, which Oxide refuses", key, each)
			}
		}
		if readable := ReadableName(key); !strings.HasPrefix(made, readable) {
			t.Errorf("%q does not begin with %q", made, readable)
		}
		if made != Name(key, IPv4, source, counter) {
			t.Errorf("%q is another name the next time", made)
		}
		if made == Name(key, IPv6, source, counter) {
			t.Errorf("both families have the name %q", made)
		}
		if (key != other || source != otherSource) && made == Name(other, IPv4, otherSource, counter) {
			t.Errorf("%+v from %q and %+v from %q have the name %q", key, source, other, otherSource, made)
		}
		if legacy := LegacyName("kubernetes", key); len(legacy) > maxName || strings.HasSuffix(legacy, "-") {
			t.Errorf("the existing one would call it %q", legacy)
		}
		if !IsGeneratedName(made) {
			t.Errorf("%q is not known as a name that only we would give", made)
		}
	})
}

// Whatever somebody writes into a description: it has a marker, or was released, or was reserved, or
// nothing of these, never two; and what the user wrote is what is left when our lines are taken out.
func FuzzDescription(f *testing.F) {
	f.Add("")
	f.Add("The shop.\n" + someMarker.String() + "\nours")
	f.Add(someMarker.String() + "\r\n" + releasedLine)
	f.Add(MarkerPrefix + "\n" + MarkerPrefix)
	f.Add("oxide-ccm-reserved/v1 source=floating-ip\n\n\xff" + reservedPrefix)
	f.Fuzz(func(t *testing.T, description string) {
		marker, marked := ParseMarker(description)
		_, released := ReleasedFrom(description)
		if marked && !BearsMarker(description) {
			t.Errorf("%q has the marker %+v and bears none", description, marker)
		}
		if marked {
			again, ok := ParseMarker(marker.String())
			if !ok || again != marker {
				t.Errorf("%+v is read again as %+v, %t", marker, again, ok)
			}
		}
		without := WithoutMarker(description)
		if BearsMarker(without) || WithoutMarker(without) != without {
			t.Errorf("without its marker %q is %q", description, without)
		}
		if !BearsMarker(description) && without != description {
			t.Errorf("%q has no marker and becomes %q", description, without)
		}
		own := OwnText(description)
		if OwnText(own) != own || BearsMarker(own) || len(own) > len(description) {
			t.Errorf("the own text of %q is %q", description, own)
		}
		if _, still := ReleasedFrom(own); still {
			t.Errorf("the own text of %q is still released", description)
		}
		_, _ = ParseReservation(description)
		written, err := WithMarker(description, someMarker)
		switch _, still := ReleasedFrom(written); {
		case err != nil && (strings.Contains(err.Error(), "\n") || len(err.Error()) > 400):
			t.Errorf("it is no short line: %v", err)
		case err == nil && (still || utf8.RuneCountInString(written) > MaxDescription):
			t.Errorf("marked, %q is %q", description, written)
		case err == nil && OwnText(written) != own:
			t.Errorf("the own text %q became %q (released %t)", own, OwnText(written), released)
		}
	})
}
