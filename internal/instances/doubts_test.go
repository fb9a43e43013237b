// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// nodes is a world with an instance, which the question is about, and a witness, and the proof that
// its node carries.
type nodes struct {
	*world
	id      string
	witness string
	proof   instances.Proof
}

func newNodes(t testing.TB) *nodes {
	t.Helper()
	n := &nodes{world: newWorld(t)}
	n.id, n.witness = n.node("node-1").ID, n.node("node-2").ID
	identity, err := n.client.Identity(t.Context())
	n.must(err)
	n.proof = instances.Proof{
		SiloID: identity.SiloID, ProjectID: identity.ProjectID, Witnesses: []string{n.witness},
	}
	return n
}

// hidden is the rack, whose list of instances shows none: it is older than they are.
func (n *nodes) hidden() http.Handler {
	rack := n.rack.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/instances" {
			rack.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		rack.ServeHTTP(answer, r)
		if answer.Code != http.StatusOK {
			maps.Copy(w.Header(), answer.Header())
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"items": [], "next_page": null}`))
	})
}

func (n *nodes) prove() (instances.Instance, error) {
	return n.finder.ProveAbsent(n.t.Context(), n.id, n.proof, instances.Full)
}

// doubt is a situation in which the instance must not be called gone.
type doubt struct {
	name  string
	arise func(*nodes)
	// kind or notProven is the error when the instance has been deleted.
	kind      oxide.Kind
	notProven string
}

var doubts = []doubt{
	{
		name:  "the role is revoked",
		arise: func(n *nodes) { n.must(n.rack.SetSiloRole("demo", "none")) },
		kind:  oxide.KindProjectNotFound,
	},
	{
		name: "the role is revoked, and the backend has just been started",
		arise: func(n *nodes) {
			n.must(n.rack.SetSiloRole("demo", "none"))
			n.connect(oxidesim.DefaultToken)
		},
		kind: oxide.KindProjectNotFound,
	},
	{
		name:  "the token has expired",
		arise: func(n *nodes) { n.rack.RevokeToken(oxidesim.DefaultToken) },
		kind:  oxide.KindUnauthorized,
	},
	{
		name:  "403 for the instance",
		arise: func(n *nodes) { n.fault(oxidesim.Fault{Operation: "instance_view", Status: 403}) },
		kind:  oxide.KindForbidden,
	},
	{
		name:  "403 for the project",
		arise: func(n *nodes) { n.fault(oxidesim.Fault{Operation: "project_view", Status: 403}) },
		kind:  oxide.KindForbidden,
	},
	{
		name:  "404 without a code for the instance",
		arise: func(n *nodes) { n.fault(oxidesim.Fault{Operation: "instance_view", Status: 404}) },
		kind:  oxide.KindNoSuchRoute,
	},
	{
		name: "404 from a proxy for everything",
		arise: func(n *nodes) {
			n.fault(oxidesim.Fault{Status: 404, Body: "<html>", ContentType: "text/html"})
		},
		kind: oxide.KindBadResponse,
	},
	{
		name:  "the rack is down",
		arise: func(n *nodes) { n.close() },
		kind:  oxide.KindUnavailable,
	},
	{
		name:  "the rack answers 503",
		arise: func(n *nodes) { n.fault(oxidesim.Fault{Status: 503}) },
		kind:  oxide.KindUnavailable,
	},
	{
		name:  "500 for the project once the instance was not found",
		arise: func(n *nodes) { n.fault(oxidesim.Fault{Operation: "project_view", Status: 500}) },
		kind:  oxide.KindInternal,
	},
	{
		name: "500 for the project at the very end",
		arise: func(n *nodes) {
			n.fault(oxidesim.Fault{Operation: "project_view", Status: 500, Nth: []int{3}})
		},
		kind: oxide.KindInternal,
	},
	{
		name: "500 for the witness",
		arise: func(n *nodes) {
			n.fault(oxidesim.Fault{Operation: "instance_view", Status: 500, Nth: []int{2}})
		},
		kind: oxide.KindInternal,
	},
	{
		name: "the rack has become older than the client",
		arise: func(n *nodes) {
			older := oxidesim.Start(n.t, oxidesim.Config{APIVersion: "2026032500.0.0"})
			n.handle(older.Handler().ServeHTTP)
		},
		kind: oxide.KindVersionUnsupported,
	},
	{
		name: "the rack is older than the client, which has just been started",
		arise: func(n *nodes) {
			older := oxidesim.Start(n.t, oxidesim.Config{APIVersion: "2026032500.0.0"})
			n.handle(older.Handler().ServeHTTP)
			n.connect(oxidesim.DefaultToken)
		},
		kind: oxide.KindVersionUnsupported,
	},
	{
		name:      "the token is of another silo, whose project has the same name",
		arise:     func(n *nodes) { n.connect(otherSiloToken) },
		notProven: "but the token belongs to the silo",
	},
	{
		name: "the token was replaced by one of another silo",
		arise: func(n *nodes) {
			file := filepath.Join(n.t.(*testing.T).TempDir(), "token")
			n.must(os.WriteFile(file, []byte(oxidesim.DefaultToken), 0o600))
			source, err := oxide.TokenFile(file)
			n.must(err)
			n.connectBy(source)
			_, err = n.client.Identity(n.t.Context())
			n.must(err)
			n.must(os.WriteFile(file, []byte(otherSiloToken), 0o600))
			n.rack.RevokeToken(oxidesim.DefaultToken)
		},
		kind: oxide.KindProjectNotFound,
	},
	{
		name: "another project is configured, which can be read",
		arise: func(n *nodes) {
			n.project = "second"
			n.connect(oxidesim.DefaultToken)
		},
		notProven: "but oxide-project names the project",
	},
	{
		name: "another project is configured, the only one that can be read",
		arise: func(n *nodes) {
			n.must(n.rack.SetProjectRole(secondProject, "stranger", "viewer"))
			n.project = "second"
			n.connect(strangerToken)
		},
		notProven: "but oxide-project names the project",
	},
	{
		name:      "the node has no stamp",
		arise:     func(n *nodes) { n.proof.SiloID, n.proof.ProjectID = "", "" },
		notProven: "it was seen in the silo",
	},
	{
		name:      "the node has the stamp of the silo alone",
		arise:     func(n *nodes) { n.proof.ProjectID = "" },
		notProven: "it was seen in the project",
	},
	{
		name:      "there is no witness",
		arise:     func(n *nodes) { n.proof.Witnesses = nil },
		notProven: "no other instance was named",
	},
	{
		name:      "it would be its own witness",
		arise:     func(n *nodes) { n.proof.Witnesses = []string{n.id, n.id} },
		notProven: "no other instance was named",
	},
	{
		name:      "the witness is gone, too",
		arise:     func(n *nodes) { n.must(n.rack.RemoveInstance(n.witness)) },
		notProven: "none of 1 other instances is visible either",
	},
	{
		name: "the witness is in another project",
		arise: func(n *nodes) {
			second := n.add(secondProject, oxidesim.InstanceSeed{Name: "node-3"})
			n.proof.Witnesses = []string{second.ID}
		},
		notProven: "none of 1 other instances is visible either",
	},
}
