// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"fmt"
	"slices"
	"strconv"
)

// ids are the ids of some objects.
func ids[M any](messages []M, idOf func(M) string) []string {
	var out []string
	for _, message := range messages {
		out = append(out, idOf(message))
	}
	return out
}

// maxPages bounds how many pages of one object each are read.
const maxPages = 50

// pages reads a list in pages of one object, and compares them with the list in one page, which
// must be ordered. Where there is more than a page takes, only its beginning is compared.
func pages[M any](c *checker, what string, whole []string, idOf func(M) string,
	page func(token string) (objects []M, next string, err error),
) {
	c.holds(slices.IsSorted(whole), what+": the order", "ordered by id", whole)
	var got []string
	token := ""
	for len(got) < min(len(whole), maxPages) {
		objects, next, err := page(token)
		c.must(what+" with a page token", err)
		if len(objects) > 1 {
			c.fatal(what+" with page_size 1", "at most one object", strconv.Itoa(len(objects)))
		}
		got = append(got, ids(objects, idOf)...)
		if len(next) > 512 {
			c.fail(what+": the page token", "at most 512 bytes", strconv.Itoa(len(next)))
		}
		if token = next; token == "" {
			break
		}
		if len(objects) == 0 {
			c.fatal(what+" with page_size 1", "an object on each page but the last", "none, and a token")
		}
	}
	if len(got) == len(whole) && token != "" {
		c.fail(what+": the page token after the last object", "none", token)
	}
	want := whole[:min(len(whole), maxPages)]
	c.holds(slices.Equal(got, want), what+": the pages joined", fmt.Sprint(want), got)
}
