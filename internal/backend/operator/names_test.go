// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestInstancesGoByTheNameThatTheirOwnerKnows(t *testing.T) {
	n := namesOfInstances("c1", []*backendv1.Instance{{Id: "id-1", Name: "web"}, {Id: "id-2", Name: "db"}})
	n.learn(&backendv1.PlannedCandidate{InstanceId: "id-1", DisplayName: "web.example.com"},
		&backendv1.PlannedCandidate{InstanceId: "id-2"})
	for id, want := range map[string]string{"id-1": "web.example.com", "id-2": "db", "id-3": "id-3", "": ""} {
		if got := n.instance(id); got != want {
			t.Errorf("%q is %q, want %q", id, got, want)
		}
	}
	for called, want := range map[string]string{"web.example.com": "id-1", "db": "id-2", "id-2": "id-2"} {
		if got, err := n.find(called); got != want || err != nil {
			t.Errorf("%q is %q, %v, want %q", called, got, err, want)
		}
	}
}

func TestLoadBalancersOfOthersAreNamedWithTheirScope(t *testing.T) {
	n := &names{scope: "c1"}
	for _, tt := range []struct{ scope, want string }{{"c1", "shop/web"}, {"c2", "shop/web of c2"}} {
		if got := n.loadBalancer(&backendv1.LoadBalancerKey{Scope: tt.scope, Name: "shop/web"}); got != tt.want {
			t.Errorf("it is %q, want %q", got, tt.want)
		}
	}
}

// A user mistypes, leaves a domain out, or names something else altogether.
func TestNearestNamesAreOffered(t *testing.T) {
	all := []string{"worker-1", "worker-2", "worker-12", "control-1", "db.example.com"}
	for name, want := range map[string][]string{
		"worker-11": {"worker-1", "worker-12", "worker-2"},
		"wroker-2":  {"worker-2", "worker-12"},
		"db":        {},
		"db.exampl": {"db.example.com"},
		"nothing":   {},
		"":          {},
	} {
		if diff := cmp.Diff(want, nearest(name, all)); diff != "" {
			t.Errorf("for %q (-want +got):\n%s", name, diff)
		}
	}
}
