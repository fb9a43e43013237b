// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"sort"
	"strconv"
)

const (
	defaultPageSize = 100
	maxPageSize     = 10000
	maxTokenLength  = 512

	byName     = "name_ascending"
	byNameDesc = "name_descending"
	byID       = "id_ascending"
)

var (
	nameOrIDSorts = []string{byName, byNameDesc, byID}
	idSorts       = []string{byID}
)

// scan is where a paginated list starts, how it is sorted, and how much of it is wanted.
type scan struct {
	limit  int
	sortBy string
	after  *string
}

// pageToken is what the opaque page token holds: the parameters of the scan (sort_by and the
// selectors) and, as last_seen, the value of the one column that the scan is sorted by.
// Everything but limit comes from it.
type pageToken struct {
	Version string            `json:"v"`
	Start   map[string]string `json:"page_start"`
}

// resultsPage is the JSON of a page. NextPage is set on every page that has items, the last
// one included: only an empty page ends a scan.
type resultsPage[V any] struct {
	Items    []V     `json:"items"`
	NextPage *string `json:"next_page"`
}

// beginScan reads the pagination parameters, before anything else is read from the query: a
// page token replaces the query.
func (c *call) beginScan(sorts []string) error {
	c.scan = scan{limit: defaultPageSize, sortBy: sorts[0]}
	if c.query.Has("limit") {
		n, err := strconv.ParseUint(c.query.Get("limit"), 10, 32)
		if err != nil || n == 0 {
			return badInput("unable to parse query string: limit: expected a positive u32")
		}
		c.scan.limit = int(min(n, maxPageSize))
	}
	if c.query.Has("page_token") {
		return c.resumeScan(c.query.Get("page_token"), sorts)
	}
	if c.query.Has("sort_by") {
		c.scan.sortBy = c.query.Get("sort_by")
		if !slices.Contains(sorts, c.scan.sortBy) {
			return badInput("unable to parse query string: sort_by: unknown variant")
		}
	}
	return nil
}

func (c *call) resumeScan(token string, sorts []string) error {
	var t pageToken
	raw, err := base64.URLEncoding.DecodeString(token)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		err = d.Decode(&t)
	}
	if err != nil || t.Version != "v1" || len(token) > maxTokenLength ||
		!slices.Contains(sorts, t.Start["sort_by"]) {
		return badInput("failed to parse pagination token")
	}
	last := t.Start["last_seen"]
	c.scan.sortBy, c.scan.after = t.Start["sort_by"], &last
	c.query = url.Values{}
	for k, v := range t.Start {
		if k != "sort_by" && k != "last_seen" {
			c.query.Set(k, v)
		}
	}
	return nil
}

func (c *call) nextToken(last string) *string {
	t := pageToken{Version: "v1", Start: map[string]string{}}
	for k := range c.query {
		if k != "limit" {
			t.Start[k] = c.query.Get(k)
		}
	}
	t.Start["sort_by"], t.Start["last_seen"] = c.scan.sortBy, last
	s := base64.URLEncoding.EncodeToString(mustJSON(t))
	return &s
}

// pageOf cuts the page that the scan asks for out of rows. It is a keyset over one column:
// of rows that share a name, those beyond a page boundary are never seen.
func pageOf[T row, V any](c *call, rows []T, view func(T) V) resultsPage[V] {
	key := func(r T) string { return r.base().name }
	if c.scan.sortBy == byID {
		key = func(r T) string { return r.base().id.String() }
	}
	return pageBy(c, rows, key, view)
}

func pageBy[T, V any](c *call, rows []T, key func(T) string, view func(T) V) resultsPage[V] {
	before := func(a, b string) bool { return a < b }
	if c.scan.sortBy == byNameDesc {
		before = func(a, b string) bool { return a > b }
	}
	if c.scan.after != nil {
		rows = slices.DeleteFunc(rows, func(r T) bool { return !before(*c.scan.after, key(r)) })
	}
	sort.Slice(rows, func(i, j int) bool { return before(key(rows[i]), key(rows[j])) })
	rows = rows[:min(len(rows), c.fault.capped(c.scan.limit))]
	page := resultsPage[V]{Items: make([]V, 0, len(rows))}
	for _, r := range rows {
		if !c.fault.omits() {
			page.Items = append(page.Items, view(r))
		}
	}
	if n := len(rows); n > 0 {
		page.NextPage = c.nextToken(key(rows[n-1]))
	}
	return page
}

// wholePage is the answer of the few lists that are not paginated.
func wholePage[V any](items []V) resultsPage[V] {
	if items == nil {
		items = []V{}
	}
	return resultsPage[V]{Items: items}
}
