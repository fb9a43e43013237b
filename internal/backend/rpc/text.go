// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxText bounds every text for people, in bytes: an event of Kubernetes has room for it.
	maxText = 400
	// maxCondition bounds what is said of a condition, which may hold a rule for the firewall; it
	// still fits into an event.
	maxCondition = 1000
	// maxQuoted bounds what is quoted of a request.
	maxQuoted = 100
	ellipsis  = "…"
)

// oneLine makes a text that may hold what callers and Oxide say fit for people: one line, not too
// long, without control characters.
func oneLine(text string) string { return bounded(text, maxText) }

func bounded(text string, limit int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if len(text) <= limit {
		return text
	}
	return cut(text, limit-len(ellipsis)) + ellipsis
}

// cut returns the beginning of a text that has at most this many bytes and ends with a whole
// character.
func cut(text string, limit int) string {
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

// quote quotes input for an error, and only the beginning of what is long.
func quote(input string) string {
	if quoted := strconv.Quote(input); len(quoted) <= maxQuoted {
		return quoted
	}
	// What cannot be printed takes several bytes when it is quoted.
	for limit := min(len(input)-1, maxQuoted); ; limit-- {
		if quoted := strconv.Quote(cut(input, limit)) + ellipsis; len(quoted) <= maxQuoted {
			return quoted
		}
	}
}
