// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"strings"
	"testing"
)

func TestProviderIDs(t *testing.T) {
	for _, tt := range []struct {
		in      string
		id      string
		kind    idKind
		wantErr bool
	}{
		{"", "", idAbsent, false},
		{"oxide://" + id1, id1, idOxide, false},
		{"oxide://" + strings.ToUpper("abcdef01-1111-4111-8111-111111111111"),
			"abcdef01-1111-4111-8111-111111111111", idOxide, false},
		{"aws:///zone/i-1", "", idForeign, false},
		{"oxidefs://" + id1, "", idForeign, false},
		{"OXIDE://" + id1, "", idForeign, false},
		{"oxide://", "", idOxide, true},
		{"oxide:///" + id1, "", idOxide, true},
		{"oxide://" + id1 + "/", "", idOxide, true},
		{"oxide://" + id1 + " ", "", idOxide, true},
		{"oxide://" + strings.ReplaceAll(id1, "-", ""), "", idOxide, true},
		{"oxide://{" + id1 + "}", "", idOxide, true},
		{"oxide://urn:uuid:" + id1, "", idOxide, true},
		{"oxide://worker-1", "", idOxide, true},
		{"oxide://" + strings.Repeat("g", 36), "", idOxide, true},
	} {
		t.Run(tt.in, func(t *testing.T) {
			id, kind, err := parseProviderID(tt.in)
			if id != tt.id || kind != tt.kind || (err != nil) != tt.wantErr {
				t.Errorf("parseProviderID() = %q, %d, %v; want %q, %d, error: %v",
					id, kind, err, tt.id, tt.kind, tt.wantErr)
			}
		})
	}
	if got := providerID(id1); got != "oxide://"+id1 {
		t.Errorf("providerID() = %q", got)
	}
}
