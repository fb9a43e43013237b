// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// fields reads one JSON object of a request body as strictly as the rack does: names of
// fields are case-sensitive, required ones must be there, types must match, unknown fields
// are ignored. The first mistake sticks, and is told by done; every getter then returns a
// zero value. Objects inside the object share the mistake.
type fields struct {
	at     string
	values map[string]json.RawMessage
	err    *error
}

// parseFields reads a whole body, which must be one JSON object.
func parseFields(body []byte) *fields {
	f := &fields{err: new(error)}
	if len(bytes.TrimSpace(body)) == 0 {
		f.fail("unable to parse JSON body: EOF while parsing a value")
		return f
	}
	if err := json.Unmarshal(body, &f.values); err != nil {
		f.fail("unable to parse JSON body: " + err.Error())
	} else if f.values == nil {
		f.fail("unable to parse JSON body: expected an object")
	}
	return f
}

func (f *fields) fail(msg string) {
	if *f.err == nil {
		*f.err = badInput("%s", msg)
	}
}

// done is the first mistake found, if any.
func (f *fields) done() error { return *f.err }

func (f *fields) wrong(key, want string) {
	f.fail(fmt.Sprintf("unable to parse JSON body: %s%s: expected %s", f.at, key, want))
}

// raw finds a field; null counts as absent.
func (f *fields) raw(key string) (json.RawMessage, bool) {
	v, ok := f.values[key]
	return v, ok && string(v) != "null"
}

// has says that a field is there and not null.
func (f *fields) has(key string) bool {
	_, ok := f.raw(key)
	return ok
}

// must reports a required field that is missing altogether (null included if not nullable).
func (f *fields) must(key string, nullable bool) {
	v, ok := f.values[key]
	if !ok {
		f.fail(fmt.Sprintf("unable to parse JSON body: missing field `%s%s`", f.at, key))
	} else if !nullable && string(v) == "null" {
		f.wrong(key, "a value, found null")
	}
}

func decode[T any](f *fields, key, want string) (T, bool) {
	var out T
	v, ok := f.raw(key)
	if !ok {
		return out, false
	}
	if err := json.Unmarshal(v, &out); err != nil {
		f.wrong(key, want)
		return out, false
	}
	return out, true
}

func opt[T any](f *fields, key, want string) *T {
	if v, ok := decode[T](f, key, want); ok {
		return &v
	}
	return nil
}

func need[T any](f *fields, key, want string) T {
	f.must(key, false)
	v, _ := decode[T](f, key, want)
	return v
}

func (f *fields) str(key string) string     { return need[string](f, key, "a string") }
func (f *fields) optStr(key string) *string { return opt[string](f, key, "a string") }
func (f *fields) boolean(key string) bool   { return need[bool](f, key, "a boolean") }
func (f *fields) uint16(key string) uint16  { return need[uint16](f, key, "a u16") }
func (f *fields) uint64(key string) uint64  { return need[uint64](f, key, "a u64") }
func (f *fields) int64(key string) int64    { return need[int64](f, key, "an i64") }

// bytes is a number of bytes: not negative, and of 63 bits.
func (f *fields) bytes(key string) uint64 {
	n := f.uint64(key)
	if n > math.MaxInt64 {
		f.wrong(key, "a number of bytes below 2^63")
	}
	return n
}

func (f *fields) optBytes(key string) *uint64 {
	if !f.has(key) {
		return nil
	}
	n := f.bytes(key)
	return &n
}

// boolOr is a boolean with a default; null is no boolean.
func (f *fields) boolOr(key string, otherwise bool) bool {
	v, present := f.values[key]
	if !present {
		return otherwise
	}
	if string(v) == "null" {
		f.wrong(key, "a boolean")
	}
	b, ok := decode[bool](f, key, "a boolean")
	return b && ok
}

func (f *fields) name(key string) string {
	s := f.str(key)
	if *f.err == nil && !validName(s) {
		f.wrong(key, "a valid name")
	}
	return s
}

func (f *fields) optName(key string) *string {
	if !f.has(key) {
		return nil
	}
	s := f.name(key)
	return &s
}

// ref is a required name or id.
func (f *fields) ref(key string) ref {
	r, ok := parseRef(f.str(key))
	if *f.err == nil && !ok {
		f.wrong(key, "a name or an id")
	}
	return r
}

func (f *fields) optRef(key string) *ref {
	if !f.has(key) {
		return nil
	}
	r := f.ref(key)
	return &r
}

// list reports a null where only a list will do; absent is empty.
func (f *fields) list(key string) {
	if v, ok := f.values[key]; ok && string(v) == "null" {
		f.wrong(key, "a list, found null")
	}
}

// refs is a list of names or ids; absent is empty.
func (f *fields) refs(key string) []ref {
	f.list(key)
	list, _ := decode[[]string](f, key, "a list of names or ids")
	out := make([]ref, 0, len(list))
	for _, s := range list {
		r, ok := parseRef(s)
		if !ok {
			f.wrong(key, "a list of names or ids")
		}
		out = append(out, r)
	}
	return out
}

func (f *fields) id(key string) uuid.UUID {
	id, ok := parseID(f.str(key))
	if *f.err == nil && !ok {
		f.wrong(key, "a UUID")
	}
	return id
}

// enum is a required string out of a closed set.
func (f *fields) enum(key string, values ...string) string {
	s := f.str(key)
	if *f.err == nil && !slices.Contains(values, s) {
		f.wrong(key, "one of "+strings.Join(values, ", "))
	}
	return s
}

func (f *fields) optEnum(key string, values ...string) *string {
	if !f.has(key) {
		return nil
	}
	s := f.enum(key, values...)
	return &s
}

// enumOr is a string out of a closed set, with a default; null is none of them.
func (f *fields) enumOr(key, otherwise string, values ...string) string {
	if _, present := f.values[key]; !present {
		return otherwise
	}
	return f.enum(key, values...)
}

func (f *fields) addr(key string) netip.Addr {
	a, err := netip.ParseAddr(f.str(key))
	if *f.err == nil && (err != nil || a.Zone() != "") {
		f.wrong(key, "an IP address")
	}
	return a
}

func (f *fields) prefix(key string) netip.Prefix {
	p, err := netip.ParsePrefix(f.str(key))
	if *f.err == nil && err != nil {
		f.wrong(key, "an IP network")
	}
	return p
}

// prefixes is a list of IP networks; absent is empty.
func (f *fields) prefixes(key string) []netip.Prefix {
	f.list(key)
	list, _ := decode[[]string](f, key, "a list of IP networks")
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			f.wrong(key, "a list of IP networks")
		}
		out = append(out, p)
	}
	return out
}

func (f *fields) child(key string, v map[string]json.RawMessage) *fields {
	return &fields{at: f.at + key + ".", values: v, err: f.err}
}

// object is a required object inside this one.
func (f *fields) object(key string) *fields {
	v := need[map[string]json.RawMessage](f, key, "an object")
	return f.child(key, v)
}

// optObject is an object inside this one, or nil.
func (f *fields) optObject(key string) *fields {
	v, ok := decode[map[string]json.RawMessage](f, key, "an object")
	if !ok {
		return nil
	}
	return f.child(key, v)
}

// defaulted is an object inside this one, or nil if it is absent; it cannot be null.
func (f *fields) defaulted(key string) *fields {
	if _, ok := f.values[key]; !ok {
		return nil
	}
	return f.object(key)
}

// objects is a list of objects; absent is empty.
func (f *fields) objects(key string) []*fields {
	f.list(key)
	list, _ := decode[[]map[string]json.RawMessage](f, key, "a list of objects")
	out := make([]*fields, 0, len(list))
	for i, v := range list {
		out = append(out, f.child(fmt.Sprintf("%s[%d]", key, i), v))
	}
	return out
}
