// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"slices"
	"strings"
)

// maxTypos is how many letters a misspelt annotation differs in.
const maxTypos = 2

// Misspelt returns those of an object's annotations that are nearly, but not quite, known ones,
// with the known one that each may mean. Others under the prefix are somebody else's.
func Misspelt(all map[string]string) map[string]string {
	found := make(map[string]string)
	for name := range all {
		if !strings.HasPrefix(name, Prefix) || slices.Contains(Known(), name) {
			continue
		}
		for _, known := range Known() {
			if within(maxTypos, name, known) {
				found[name] = known
			}
		}
	}
	return found
}

// within reports whether so many letters, put in, taken out or changed, suffice to get from a to b.
func within(edits int, a, b string) bool {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	if a == "" || b == "" || edits == 0 {
		return max(len(a), len(b)) <= edits
	}
	return within(edits-1, a[1:], b) || within(edits-1, a, b[1:]) || within(edits-1, a[1:], b[1:])
}
