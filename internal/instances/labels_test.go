// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"net/http"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
)

// The backend reads the project again every minute, for its readiness.
func TestTheNameOfTheProjectFollowsARename(t *testing.T) {
	w := newWorld(t)
	node := w.node("node-1")
	for _, name := range []string{"demo", "renamed"} {
		for _, view := range []instances.View{instances.Basic, instances.Full} {
			found, err := w.finder.ByIDNow(t.Context(), node.ID, view)
			w.must(err)
			if found.ProjectName != name {
				t.Errorf("view %d: the project is %q, want %q", view, found.ProjectName, name)
			}
		}
		if name == "demo" {
			w.call(http.MethodPut, "/v1/projects/demo", `{"name": "renamed"}`)
			_, err := w.client.ReadIdentity(t.Context())
			w.must(err)
		}
	}
}
