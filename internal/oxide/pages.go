// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"errors"
)

// pageLimit is the page size of lists: large, because each page costs a request. Oxide silently caps
// it, at 10,000 for now.
const pageLimit = 10_000

// page is one page of a list.
type page[T any] struct {
	items []T
	next  string
	// tail is as in pageEnd.
	tail []string
}

// The ways in which JSON can be something else than what was asked for.
var (
	errNoID   = errors.New("it holds no object with an id")
	errNoList = errors.New("it holds no list")
	errNoSign = errors.New("it is no sign of life of Oxide's")
	errNoEnd  = errors.New("it is a list that names the same next page again and again")
)

// toPage converts a page. A list that is missing is no empty list.
func toPage[A, T any](
	items []A, next string, convert func(A) (T, error),
) (page[T], error) {
	if items == nil {
		return page[T]{}, errNoList
	}
	p := page[T]{items: make([]T, 0, len(items)), next: next}
	for _, item := range items {
		v, err := convert(item)
		if err != nil {
			return page[T]{}, err
		}
		p.items = append(p.items, v)
	}
	return p, nil
}

// toTailedPage is toPage for a list in the order of ids that this client changes itself.
func toTailedPage[A, T any](
	items []A, next string, convert func(A) (T, error), id func(T) string,
) (page[T], error) {
	p, err := toPage(items, next, convert)
	for _, last := range p.items[max(0, len(p.items)-maxTail):] {
		p.tail = append(p.tail, id(last))
	}
	return p, err
}

// readAll reads a list to its end. Oxide names a next page after every page that is not empty, so only
// an empty page shows for certain that a list has ended: a page that is not full may as well have been
// cut, by a cap below what was asked for. Reading the empty page each time would double the requests,
// so a page that is not full is taken for the last one where listEnds knows it to be.
func readAll[T any](
	ctx context.Context, c *Client, op operation,
	fetch func(ctx context.Context, limit *int, token string) (page[T], error),
) ([]T, error) {
	return readUntil(ctx, c, op, nil, fetch)
}

// readUntil is readAll, but reads no further once isWhole, if it is not nil, knows from something else
// than this list that it has all items.
func readUntil[T any](
	ctx context.Context, c *Client, op operation, isWhole func(all []T) bool,
	fetch func(ctx context.Context, limit *int, token string) (page[T], error),
) ([]T, error) {
	var all []T
	limit, token := c.pageLimit, ""
	var before pageEnd
	for {
		p, err := read(ctx, c, op, func(ctx context.Context) (page[T], error) {
			return fetch(ctx, &limit, token)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, p.items...)
		c.ends.shows(op.id, len(p.items))
		if more := len(p.items) > 0 || p.next != ""; before.items > 0 {
			c.ends.follows(before, more)
		} else if !more && len(all) == 0 {
			c.ends.follows(pageEnd{list: op.id, of: op.of, first: true}, false)
		}
		switch p.next {
		case "":
			return all, nil
		case token:
			return nil, &Error{Operation: op.doing, Kind: KindBadResponse, Detail: errNoEnd.Error()}
		}
		token, before = p.next, pageEnd{}
		if len(p.items) < limit {
			before = pageEnd{
				list: op.id, of: op.of, next: p.next, tail: p.tail, items: len(p.items),
				first: len(all) == len(p.items),
			}
			if c.ends.isLast(before) || isWhole != nil && isWhole(all) {
				return all, nil
			}
		}
	}
}

// DoubtLists has all lists read to their end the next time, once in ten minutes at most: something was
// not in one of them that should be.
func (c *Client) DoubtLists() { c.ends.doubt() }
