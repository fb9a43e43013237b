// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Whatever a client sends for a page token: it is one that was made for this list and these filters, and
// gives back the key that was put in, or it is refused in one line of at most 400 bytes that names the field.
func FuzzPageTokens(f *testing.F) {
	of := func(scope string, key ...string) string {
		return encodePageToken(&backendv1.ListLoadBalancersRequest{Scope: scope}, key...)
	}
	f.Add("c1", of("c1", "c1", "default/web"), "c1", "default/web")
	f.Add("", of("", "c1", ""), "", "\x00")
	f.Add("c2", of("c1", "c1", "default/web"), "a\x00b", "c")
	f.Add("", "YWFh\n", strings.Repeat("s", 600), "n")
	f.Add("\xff", "====", "\xff", "")
	f.Fuzz(func(t *testing.T, scope, token, first, second string) {
		any := func(string) bool { return true }
		req := &backendv1.ListLoadBalancersRequest{Scope: scope, PageToken: token}
		for _, list := range []listRequest{req, &backendv1.ListAddressesRequest{PageToken: token}} {
			key, err := decodePageToken(list, any, any)
			switch {
			case err != nil:
				text := toStatus(err).Message()
				if len(text) > maxText || strings.ContainsAny(text, "\r\n") || !strings.Contains(text, "page_token") {
					t.Errorf("%q is refused with %q", token, text)
				}
			case len(key) != 2:
				t.Errorf("%q has %d parts", token, len(key))
			case token != "" && (len(token) > maxPageToken || encodePageToken(list, key...) != token):
				t.Errorf("%q is read as %q, which is written as another token", token, key)
			}
		}
		if after, err := validateList(req); err == nil && token != "" &&
			(len(after) != 2 || !tokenPattern.MatchString(after[0]) || scope != "" && after[0] != scope) {
			t.Errorf("%q is accepted with the key %q, in the scope %q", token, after, scope)
		}
		made := encodePageToken(req, first, second)
		if strings.Contains(first+second, "\x00") || len(made) > maxPageToken || !utf8.ValidString(scope) {
			return // no key of ours, or no request that can arrive
		}
		again := &backendv1.ListLoadBalancersRequest{Scope: scope, PageToken: made, PageSize: 7}
		if key, err := decodePageToken(again, any, any); err != nil || !slices.Equal(key, []string{first, second}) {
			t.Errorf("%q and %q are read again as %q, %v", first, second, key, err)
		}
		again.Scope += "x"
		if _, err := decodePageToken(again, any, any); err == nil {
			t.Errorf("the token of the scope %q is taken for %q", scope, again.GetScope())
		}
	})
}
