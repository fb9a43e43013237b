// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

func TestParseHost(t *testing.T) {
	for _, tc := range []struct{ in, want, wantErr string }{
		{in: "https://silo.sys.example.com", want: "https://silo.sys.example.com"},
		{in: "https://silo.sys.example.com/", want: "https://silo.sys.example.com"},
		{in: "https://silo.sys.example.com:8443", want: "https://silo.sys.example.com:8443"},
		{in: "silo.sys.example.com", want: "https://silo.sys.example.com"},
		{in: "silo.sys.example.com:8443", want: "https://silo.sys.example.com:8443"},
		{in: "HTTPS://silo.example", want: "https://silo.example"},
		{in: "192.0.2.7", want: "https://192.0.2.7"},
		{in: "[2001:db8::7]:443", want: "https://[2001:db8::7]:443"},
		{in: "http://127.0.0.1:12220", want: "http://127.0.0.1:12220"},
		{in: "http://127.8.9.10", want: "http://127.8.9.10"},
		{in: "http://[::1]:12220", want: "http://[::1]:12220"},
		{in: "http://localhost:12220", want: "http://localhost:12220"},

		{in: "http://silo.sys.example.com", wantErr: "use https"},
		{in: "http://127.0.0.1.example.com", wantErr: "use https"},
		{in: "http://localhost.example.com", wantErr: "use https"},
		{in: "http://192.0.2.7", wantErr: "use https"},
		{in: "http://[2001:db8::1]", wantErr: "use https"},
		{in: "http://0.0.0.0", wantErr: "use https"},
		{in: "", wantErr: "names no host"},
		{in: "https://", wantErr: "names no host"},
		{in: "https://:443", wantErr: "names no host"},
		{in: "ftp://silo.example", wantErr: `its scheme is "ftp"`},
		{in: "unix:///run/oxide.sock", wantErr: `its scheme is "unix"`},
		{in: "https://me:hunter2@silo.example", wantErr: "user name or password"},
		{in: "http://me:hunter2@127.0.0.1", wantErr: "user name or password"},
		{in: "https://silo.example/v1", wantErr: "more than scheme, host and port"},
		{in: "https://silo.example?a=b", wantErr: "more than scheme, host and port"},
		{in: "https://silo.example?", wantErr: "more than scheme, host and port"},
		{in: "https://silo.example#a", wantErr: "more than scheme, host and port"},
		{in: "https://silo.example:https", wantErr: "not a URL"},
		{in: "https://me:hunter2@silo example", wantErr: "not a URL"},
		{in: "https://silo.example\n", wantErr: "not a URL"},
		{in: "https://%zz", wantErr: "not a URL"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := oxide.ParseHost(tc.in)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("got %v, %v; want %q", got, err, tc.wantErr)
				}
				if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("the error shows the password: %v", err)
				}
				return
			}
			if err != nil || got.String() != tc.want {
				t.Errorf("got %v, %v; want %s", got, err, tc.want)
			}
		})
	}
}

// names tells for texts whether each is valid as a name, and as an id.
var names = []struct {
	name, text string
	isName     bool
	isID       bool
}{
	{name: "one letter", text: "a", isName: true},
	{name: "letters, digits, hyphens", text: "node-1-b", isName: true},
	{name: "two hyphens", text: "a--b", isName: true},
	{name: "63 characters", text: strings.Repeat("a", 63), isName: true},
	{name: "31 hex digits", text: strings.Repeat("a", 31), isName: true},
	{name: "33 hex digits", text: strings.Repeat("a", 33), isName: true},
	{name: "36 characters like no id", text: strings.Repeat("a", 36), isName: true},
	{name: "64 characters", text: strings.Repeat("a", 64)},
	{name: "empty", text: ""},
	{name: "digit first", text: "1a"},
	{name: "hyphen first", text: "-a"},
	{name: "hyphen last", text: "a-"},
	{name: "dots", text: "node-1.example.com"},
	{name: "upper case", text: "Node"},
	{name: "upper case inside", text: "noDe"},
	{name: "underscore", text: "a_b"},
	{name: "slash", text: "a/b"},
	{name: "line break after it", text: "a\n"},
	{name: "not ASCII", text: "né"},
	{name: "id", text: "6a0f4a2c-52b1-4f8e-9d6e-2f1a5a3c7b10", isID: true},
	{name: "id that begins with a letter", text: "aa0f4a2c-52b1-4f8e-9d6e-2f1a5a3c7b10", isID: true},
	{name: "id in upper case", text: "6A0F4A2C-52B1-4F8E-9D6E-2F1A5A3C7B10", isID: true},
	{name: "id as 32 hex digits", text: "6a0f4a2c52b14f8e9d6e2f1a5a3c7b10", isID: true},
	{name: "32 hex digits that look like a name", text: strings.Repeat("a", 32), isID: true},
	{name: "id in braces", text: "{6a0f4a2c-52b1-4f8e-9d6e-2f1a5a3c7b10}"},
	{name: "id as URN", text: "urn:uuid:6a0f4a2c-52b1-4f8e-9d6e-2f1a5a3c7b10"},
	{name: "id with misplaced hyphens", text: "6a0f4a2c5-2b1-4f8e-9d6e-2f1a5a3c7b10"},
	{name: "id with a letter beyond f", text: "6a0f4a2c-52b1-4f8e-9d6e-2f1a5a3c7b1g"},
	{name: "id cut short", text: "6a0f4a2c-52b1-4f8e-9d6e-2f1a5a3c7b1"},
}

func TestValidNameIsWhatOxideAcceptsAsAName(t *testing.T) {
	for _, tc := range names {
		t.Run(tc.name, func(t *testing.T) {
			if got := oxide.ValidName(tc.text); got != tc.isName {
				t.Errorf("ValidName(%q) = %v", tc.text, got)
			}
		})
	}
}

func TestValidIDIsWhatOxideTakesForAnID(t *testing.T) {
	for _, tc := range names {
		t.Run(tc.name, func(t *testing.T) {
			if got := oxide.ValidID(tc.text); got != tc.isID {
				t.Errorf("ValidID(%q) = %v", tc.text, got)
			}
		})
	}
}
