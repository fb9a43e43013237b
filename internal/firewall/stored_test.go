// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package firewall

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shown is a rule as Oxide shows it, with everything that a rule can have.
const shown = `{
	"id": "0c5f2d3a-53c8-4f5e-8f7c-2f8f1f0f5d8e", "vpc_id": "9b9c6c1e-6d0e-4f61-a1a7-3c1de84e0c59",
	"time_created": "2026-01-02T03:04:05Z", "time_modified": "2026-01-02T03:04:05Z",
	"name": "ann", "description": "<Ann's> & Bob's", "status": "enabled", "direction": "inbound",
	"action": "allow", "priority": 65534,
	"targets": [{"type":"vpc","value":"default"},{"type":"subnet","value":"nodes"},
		{"type":"instance","value":"a"},{"type":"ip","value":"fd00::1"},{"type":"ip_net","value":"10.0.0.0/8"}],
	"filters": {"hosts": [{"type":"ip_net","value":"::/0"}], "ports": ["22","80-90"],
		"protocols": [{"type":"tcp"},{"type":"udp"},{"type":"icmp","value":null},
			{"type":"icmp6","value":{"icmp_type":3,"code":"0-2"}}]}
}`

func TestARuleIsWrittenBackAsItIs(t *testing.T) {
	for name, text := range map[string]string{
		"with everything":      shown,
		"matching anything":    with(t, `"filters"`, `{"hosts":null,"ports":null,"protocols":null}`),
		"filters left out":     with(t, `"filters"`, `{}`),
		"without any target":   with(t, `"targets"`, `[]`),
		"outbound, denied":     with(t, `"action"`, `"deny"`, `"direction"`, `"outbound"`),
		"with a large integer": with(t, `"priority"`, `65535`),
	} {
		t.Run(name, func(t *testing.T) {
			stored, err := ParseStored(json.RawMessage(text))
			if err != nil || stored.Unwritable() != "" {
				t.Fatalf("unwritable %q, %v", stored.Unwritable(), err)
			}
			want, got := fields(t, text), fields(t, stored.Raw())
			for _, set := range []string{"id", "vpc_id", "time_created", "time_modified"} {
				delete(want, set)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What this version does not know, wherever it is, keeps the rule from being written back.
func TestWhatIsNotKnownIsNotWrittenBack(t *testing.T) {
	for _, tc := range []struct{ name, text, says string }{
		{"a new field", with(t, `"logging"`, `true`), "the field logging"},
		{"a new status", with(t, `"status"`, `"dry_run"`), `the status "dry_run"`},
		{"a new direction", with(t, `"direction"`, `"both"`), "the direction"},
		{"a new action", with(t, `"action"`, `"reject"`), "the action"},
		{"an action of another shape", with(t, `"action"`, `{"type":"allow"}`), "the action"},
		{"a new kind of target", with(t, `"targets"`, `[{"type":"tag","value":"web"}]`), `the type "tag" in its targets`},
		{"a target with more", with(t, `"targets"`, `[{"type":"vpc","value":"a","region":"b"}]`), "the field region"},
		{"targets of another shape", with(t, `"targets"`, `null`), "the targets"},
		{"a new kind of host", with(t, `"filters"`, `{"hosts":[{"type":"domain","value":"x"}]}`), "in its filters.hosts"},
		{"a new protocol", with(t, `"filters"`, `{"protocols":[{"type":"sctp"}]}`), "in its filters.protocols"},
		{"a protocol with a value", with(t, `"filters"`, `{"protocols":[{"type":"tcp","value":{"flags":"syn"}}]}`),
			"a value of the type tcp"},
		{"an ICMP filter with more", with(t, `"filters"`,
			`{"protocols":[{"type":"icmp","value":{"icmp_type":1,"code":null,"echo":1}}]}`), "echo"},
		{"a new filter", with(t, `"filters"`, `{"users":["ann"]}`), "the field filters.users"},
		{"no priority", without(t, "priority"), "no priority"},
		{"a priority that is none", with(t, "priority", `70000`), "the priority 70000"},
		{"a priority of another shape", with(t, "priority", `"high"`), `the priority "high"`},
		{"no text as its description", with(t, "description", `null`), "the description null"},
		{"ports of another shape", with(t, "filters", `{"ports":[{"first":80}]}`), `the filters.ports [{"first":80}]`},
		{"a port with a name", with(t, "filters", `{"ports":["80","http"]}`), "the filters.ports"},
		{"a port that is null", with(t, "filters", `{"ports":[null]}`), "the filters.ports [null]"},
		{"a target without a value", with(t, "targets", `[{"type":"vpc"}]`), "the value of the type vpc in its targets"},
		{"a host with a value of another shape", with(t, "filters", `{"hosts":[{"type":"ip","value":{"v4":"10.0.0.1"}}]}`),
			"the value of the type ip in its filters.hosts"},
		{"an ICMP type with a name", with(t, "filters",
			`{"protocols":[{"type":"icmp","value":{"icmp_type":"echo"}}]}`), "the icmp_type in its filters.protocols"},
		{"an ICMP code that is a number", with(t, "filters",
			`{"protocols":[{"type":"icmp","value":{"icmp_type":3,"code":4}}]}`), "the code in its filters.protocols"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stored, err := ParseStored(json.RawMessage(tc.text))
			if err != nil || stored.Name != "ann" {
				t.Fatalf("%+v, %v", stored, err)
			}
			if !strings.Contains(stored.Unwritable(), tc.says) || strings.Contains(stored.Unwritable(), "\n") {
				t.Errorf("it says %q, want %q", stored.Unwritable(), tc.says)
			}
		})
	}
}

func TestARuleWithoutANameIsAnError(t *testing.T) {
	for _, text := range []string{`{}`, `[]`, `{"name":""}`, `{"name":7}`, `null`, `x`} {
		if stored, err := ParseStored(json.RawMessage(text)); err == nil {
			t.Errorf("%s is %+v", text, stored)
		}
	}
}

func fields(t *testing.T, text string) map[string]any {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// with returns the rule with some fields as given, by quoted name.
func with(t *testing.T, pairs ...string) string {
	t.Helper()
	all := fields(t, shown)
	for i := 0; i < len(pairs); i += 2 {
		all[strings.Trim(pairs[i], `"`)] = json.RawMessage(pairs[i+1])
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func without(t *testing.T, field string) string {
	t.Helper()
	all := fields(t, shown)
	delete(all, field)
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Whatever comes is read or refused, and what can be written back is JSON.
func FuzzStored(f *testing.F) {
	f.Add([]byte(shown))
	f.Add([]byte(`{"name":"a","filters":{"protocols":[{"type":"icmp","value":{"icmp_type":1}}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		stored, err := ParseStored(text)
		if err == nil && !json.Valid([]byte(stored.Raw())) {
			t.Errorf("%q is written as %q", text, stored.Raw())
		}
	})
}
