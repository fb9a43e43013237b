// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package access

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatAClientMayDoIsParsed(t *testing.T) {
	clients, err := ParseClients([]string{
		"uid:1001=read",
		"spiffe://example.com/a?b=c=scope:edge.example.com,addresses",
		"ops.example.com=all",
		"uid:*=scope:a,scope:b",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Clients{
		"uid:1001": {},
		"spiffe://example.com/a?b=c": {
			scopes: map[string]bool{"edge.example.com": true}, addresses: true,
		},
		"ops.example.com": {all: true},
		"uid:*":           {scopes: map[string]bool{"a": true, "b": true}},
	}
	if diff := cmp.Diff(want, clients, cmp.AllowUnexported(Rights{})); diff != "" {
		t.Error(diff)
	}
}

func TestAFaultyClientIsRefusedInOneLine(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []string
		want   string
	}{
		{"no rights", []string{"uid:1"}, "not of the form"},
		{"no identity", []string{"=read"}, "not of the form"},
		{"no right at all", []string{"a="}, `"" is no right`},
		{"an unknown right", []string{"a=write"}, `"write" is no right: give read, addresses`},
		{"a space", []string{"a=read, all"}, `" all" is no right`},
		{"a scope of other signs", []string{"a=scope:x/y"}, `"x/y" is no scope`},
		{"an empty scope", []string{"a=scope:"}, `"" is no scope`},
		{"a user by name", []string{"uid:root=read"}, `"uid:root" is no user`},
		{"a negative user", []string{"uid:-1=read"}, `"uid:-1" is no user`},
		{"a user too great", []string{"uid:4294967296=read"}, "is no user"},
		{"twice", []string{"a=read", "a=all"}, `"a" is given twice`},
		{"one user written in two ways", []string{"uid:1=read", "uid:01=all"}, `"uid:1" is given twice`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseClients(tt.values)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, tt.want)
			}
		})
	}
}

func TestRightsOfAllNamesOfAClientCount(t *testing.T) {
	clients, err := ParseClients([]string{"a=scope:x", "b=addresses", "uid:*=scope:every", "uid:7=scope:seven"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		names         Identities
		known         bool
		allowed, lack []string
	}{
		{Identities{"a", "b"}, true, []string{"read", "scope:x", "addresses"}, []string{"scope:y", "all"}},
		{Identities{"a", "stranger"}, true, []string{"scope:x"}, []string{"addresses"}},
		{Identities{"uid:7"}, true, []string{"scope:every", "scope:seven"}, []string{"all"}},
		{Identities{"uid:8"}, true, []string{"scope:every"}, []string{"scope:seven"}},
		{Identities{"stranger"}, false, nil, []string{"scope:x"}},
		{nil, false, nil, nil},
	} {
		t.Run(strings.Join(tt.names, " "), func(t *testing.T) {
			rights, known := clients.of(tt.names)
			if known != tt.known {
				t.Errorf("known: %t, want %t", known, tt.known)
			}
			for _, right := range tt.allowed {
				if missing := rights.lacks([]string{right}); len(missing) > 0 {
					t.Errorf("the right %s is missing", right)
				}
			}
			for _, right := range tt.lack {
				if missing := rights.lacks([]string{right}); len(missing) == 0 {
					t.Errorf("the right %s is there", right)
				}
			}
		})
	}
}
