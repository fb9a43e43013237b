// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"time"

	"github.com/google/uuid"
)

// maxDescription is the width of the description column; nothing checks it before the
// database does, so a longer text is a 500 and not a 400.
const maxDescription = 512

// meta is what every row has. Project decides who may see the row (zero: not in a project);
// parent is what the name is unique in: the project, the VPC, the router, the instance…
type meta struct {
	id          uuid.UUID
	project     uuid.UUID
	parent      uuid.UUID
	name        string
	description string
	created     time.Time
	modified    time.Time
}

func (m *meta) base() *meta { return m }

// row is any object kept in a table.
type row interface{ base() *meta }

type nameKey struct {
	parent uuid.UUID
	name   string
}

// table holds the live rows of one kind, found by id, by name within a parent, and by
// parent. Deleted rows are simply gone: their names are free again at once.
type table[T row] struct {
	kind     string
	rows     map[uuid.UUID]T
	names    map[nameKey]T
	children map[uuid.UUID]map[uuid.UUID]T
}

func newTable[T row](kind string) *table[T] {
	return &table[T]{
		kind:     kind,
		rows:     make(map[uuid.UUID]T),
		names:    make(map[nameKey]T),
		children: make(map[uuid.UUID]map[uuid.UUID]T),
	}
}

// checkNew says what the database would say of a row that is about to be inserted.
func (t *table[T]) checkNew(parent uuid.UUID, name, description string) error {
	if len([]rune(description)) > maxDescription {
		return internal()
	}
	if _, taken := t.names[nameKey{parent, name}]; taken {
		return alreadyExists(t.kind, name)
	}
	return nil
}

// insert adds a row whose meta is filled in.
func (t *table[T]) insert(r T) error {
	m := r.base()
	if err := t.checkNew(m.parent, m.name, m.description); err != nil {
		return err
	}
	t.rows[m.id] = r
	t.names[nameKey{m.parent, m.name}] = r
	if t.children[m.parent] == nil {
		t.children[m.parent] = make(map[uuid.UUID]T)
	}
	t.children[m.parent][m.id] = r
	return nil
}

func (t *table[T]) remove(r T) {
	m := r.base()
	delete(t.rows, m.id)
	delete(t.names, nameKey{m.parent, m.name})
	delete(t.children[m.parent], m.id)
	if len(t.children[m.parent]) == 0 {
		delete(t.children, m.parent)
	}
}

// rename gives a row another name and description; nil keeps the old one. A taken name is a
// 500: the unique violation of an UPDATE is not mapped to a better answer.
func (t *table[T]) rename(r T, name, description *string, now time.Time) error {
	m := r.base()
	if description != nil && len([]rune(*description)) > maxDescription {
		return internal()
	}
	if name != nil && *name != m.name {
		if _, taken := t.names[nameKey{m.parent, *name}]; taken {
			return internal()
		}
		delete(t.names, nameKey{m.parent, m.name})
		m.name = *name
		t.names[nameKey{m.parent, m.name}] = r
	}
	if description != nil {
		m.description = *description
	}
	m.modified = now
	return nil
}

// in lists the rows of one parent, in no order.
func (t *table[T]) in(parent uuid.UUID) []T {
	out := make([]T, 0, len(t.children[parent]))
	for _, r := range t.children[parent] {
		out = append(out, r)
	}
	return out
}

// all lists every row, in no order.
func (t *table[T]) all() []T {
	out := make([]T, 0, len(t.rows))
	for _, r := range t.rows {
		out = append(out, r)
	}
	return out
}

// named finds a row by its name within a parent.
func (t *table[T]) named(parent uuid.UUID, name string) (T, error) {
	r, ok := t.names[nameKey{parent, name}]
	if !ok {
		return r, notFoundByName(t.kind, name)
	}
	return r, nil
}
