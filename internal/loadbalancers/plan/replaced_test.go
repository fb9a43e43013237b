// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import "testing"

// An address that was there before is not created: a user's own replaces another when it is
// attached, and one that was retained when its marker is renewed. What moves, and what is the
// first, replaces none.
func TestWhatWasThereBeforeSaysWhatItReplaces(t *testing.T) {
	const replaces = "replaces the floating IP 192.0.2.1, which is no longer desired: the address changes"
	retained := func(m *Marker) { m.Retained, m.Source = true, Source{Kind: ExternalSubnet}.String() }
	kept := ip("kept 203.0.113.4", retained)
	kept.Kind = ExternalSubnet
	old, existing := ip("old 192.0.2.1 n1"), from(Source{Existing: "name-mine"})
	for name, tc := range map[string]struct {
		found ips
		lb    *LoadBalancer
		typ   ActionType
		why   string
	}{
		"a user's own": {ips{old, foreign("mine 192.0.2.9")}, web(existing), ActionAttach, "it " + replaces},
		"one that was retained": {
			ips{old, kept}, web(from(Source{Kind: ExternalSubnet})), ActionMark,
			"its address 203.0.113.4, which was retained, " + replaces,
		},
		"a user's own, and there was none": {ips{foreign("mine 192.0.2.9")}, web(existing), ActionAttach, ""},
		"a user's own moves": {
			ips{old, foreign("mine 192.0.2.9 n2")},
			web(existing, publishing("192.0.2.9", "10.0.0.2")), ActionAttach, "",
		},
		"one that was retained, and there was none": {
			ips{kept}, web(from(Source{Kind: ExternalSubnet})), ActionMark, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := planned(tc.found, []*LoadBalancer{tc.lb}, cluster("n1", "n2 unhealthy"))
			said := 0
			for _, a := range r.Actions() {
				if a.Replaces {
					said++
				}
				if is := a.Type == tc.typ && tc.why != ""; a.Replaces != is || is && a.Why != tc.why {
					t.Errorf("%+v, want %q", a, tc.why)
				}
			}
			if want := min(len(tc.why), 1); said != want {
				t.Errorf("%d actions say so, want %d", said, want)
			}
		})
	}
}
