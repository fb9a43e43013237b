// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"github.com/google/uuid"
)

// ref is a reference to an object by id or by name, as paths, queries and bodies carry them.
type ref struct {
	id   uuid.UUID
	name string
}

func (r ref) isID() bool { return r.name == "" }

// validName applies the rules for names: 1 to 63 of a-z, 0-9 and '-', a letter first, no '-'
// last, and nothing that could be taken for a UUID.
func validName(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] < 'a' || s[0] > 'z' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	_, isID := parseID(s)
	return !isID
}

// parseID reads a UUID: hyphenated or 32 bare digits, as a URN or in braces too.
func parseID(s string) (uuid.UUID, bool) {
	const braced = 38 // the library takes any two characters for braces
	if len(s) == braced && (s[0] != '{' || s[braced-1] != '}') {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(s)
	return id, err == nil
}

// parseRef reads an id or a name; anything that parses as a UUID is an id.
func parseRef(s string) (ref, bool) {
	if id, ok := parseID(s); ok {
		return ref{id: id}, true
	}
	return ref{name: s}, validName(s)
}

// validHostname: labels of letters, digits and inner hyphens, joined by dots, at most 253.
func validHostname(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	label := 0
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			if label == 0 || label > 63 || s[i-1] == '-' {
				return false
			}
			label = 0
			continue
		}
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && (c != '-' || label == 0) {
			return false
		}
		label++
	}
	return true
}
