// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import "testing"

// An address that is attached nowhere does not come to an instance that another one of its load
// balancer is yet to leave, nor to one to which a request under way still brings another: there
// would be two for a while. Such an instance, one that is drained, would take it as the last
// choice.
func TestASiblingWaitsUntilTheOtherAddressHasLeft(t *testing.T) {
	for name, tc := range map[string]struct {
		at       string
		inFlight map[string]InFlight
	}{
		"it is there":            {at: "n1"},
		"it is on its way there": {inFlight: map[string]InFlight{"a": {Instance: "n1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			found := ips{ip("a 192.0.2.1 " + tc.at), ip("bb 192.0.2.2")}
			p := planWeb(found, web(several(2)), cluster("n1 draining", "n2"),
				func(in *Input) { in.InFlight = tc.inFlight })
			same(t, "targets", "- n2", targets(p))
		})
	}
	t.Run("and comes then", func(t *testing.T) {
		found := ips{ip("a 192.0.2.1 n2"), ip("bb 192.0.2.2")}
		same(t, "targets", "n1 n2", targets(planWeb(found, web(several(2)), cluster("n1 draining", "n2"))))
	})
}
