// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"strings"
	"testing"
	"unicode/utf8"

	v1 "k8s.io/api/core/v1"
)

// Whatever a Node has for its provider ID: it is one of Oxide that is read again as it was written, or
// none of Oxide, or there is one line of at most 400 bytes about it; and all who ask about the Node agree.
func FuzzProviderID(f *testing.F) {
	for _, seed := range []string{
		"", "oxide://" + id1, "oxide://" + strings.ToUpper(id1), "oxide://", "oxide:///" + id1, "OXIDE://x",
		"aws:///zone/i-1", "oxide://{" + id1 + "}", "oxide://\xff\n\u2028", "oxide://" + strings.Repeat("\x00", 300),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, kind, err := parseProviderID(text)
		node := &v1.Node{Spec: v1.NodeSpec{ProviderID: text}}
		asked, ours := InstanceID(node)
		if why := WhyNoInstance(node); ours != (why == "") || ours != (err == nil && kind == idOxide) {
			t.Errorf("%q names an instance: %t, kind %d, %v, and why it does not: %q", text, ours, kind, err, why)
		}
		switch {
		case err != nil:
			said := err.Error()
			if len(said) > 400 || strings.ContainsAny(said, "\r\n\u2028\x00") || !utf8.ValidString(said) {
				t.Errorf("it is no line of at most 400 bytes: %q", said)
			}
			if kind != idOxide || id != "" || !strings.HasPrefix(text, providerIDPrefix) {
				t.Errorf("%q is of kind %d, with the id %q", text, kind, id)
			}
		case kind == idOxide:
			again, _, err := parseProviderID(providerID(id))
			if err != nil || again != id || asked != id || !strings.EqualFold(providerID(id), text) {
				t.Errorf("%q names %q, which is read again as %q, %v", text, id, again, err)
			}
		case id != "" || strings.HasPrefix(text, providerIDPrefix):
			t.Errorf("%q is of kind %d, with the id %q", text, kind, id)
		}
	})
}
