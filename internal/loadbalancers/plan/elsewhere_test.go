// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// Who names an address of their own that is attached to an instance which never was a node keeps
// what serves, and that still fails over: the other one is left there.
func TestWhatIsAttachedElsewhereReplacesNothing(t *testing.T) {
	forget := func(in *Input) { delete(in.FormerCandidates, "n3") }
	for name, tc := range map[string]struct {
		kind ownership.Kind
		had  Address
	}{
		"a floating IP":                    {FloatingIP, ip("a 192.0.2.1 n1")},
		"an external subnet":               {ExternalSubnet, ip("a 192.0.2.1 n1")},
		"a floating IP of two of a user's": {FloatingIP, foreign("a 192.0.2.1 n1")},
	} {
		t.Run(name, func(t *testing.T) {
			mine := foreign("mine 192.0.2.9 n3")
			mine.Kind = tc.kind
			lb := web(from(Source{Kind: tc.kind, Existing: "name-mine"}), publishing("192.0.2.1", "10.0.0.1"))
			p := planWeb(ips{tc.had, mine}, lb, cluster("n1", "n2"), forget)
			same(t, "actions", []string(nil), briefly(p))
			if !isProblem(p.Problem, ReasonInvalid, tc.kind.String()+" name-mine is attached to the "+
				"instance instance-n3, which never was a node of this cluster: detach it there first") {
				t.Errorf("problem %v", p.Problem)
			}
			p = planWeb(ips{tc.had, mine}, lb, cluster("n1 unhealthy", "n2"), forget)
			same(t, "actions", []string{"detach a n1", "attach a n2"}, briefly(p))
		})
	}
}

// An address that another cluster of the same id has put somewhere replaces nothing, either.
func TestWhatAnotherClusterHasPutSomewhereReplacesNothing(t *testing.T) {
	forget := func(in *Input) { delete(in.FormerCandidates, "n3") }
	theirs := ip("theirs 192.0.2.9 n3", func(m *Marker) { m.OwnerUID = "uid-of-theirs" })
	lb := web(from(Source{Addr: theirs.Addr}), publishing("192.0.2.1", "10.0.0.1"))
	p := planWeb(ips{ip("a 192.0.2.1 n1"), theirs}, lb, cluster("n1", "n2"), forget)
	same(t, "actions", []string(nil), briefly(p))
	same(t, "conditions", []ConditionType{ForeignAttachment}, conditionsOf(p))
	if len(p.Kept) != 1 || p.Kept[0].ID != "a" {
		t.Errorf("kept %v", p.Kept)
	}
}
