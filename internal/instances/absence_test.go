// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
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

func (n *nodes) prove() (instances.Instance, error) {
	return n.finder.ProveAbsent(n.t.Context(), n.id, n.proof)
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
		kind: oxide.KindMalformed,
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
		notProven: "no other node names an instance",
	},
	{
		name:      "it would be its own witness",
		arise:     func(n *nodes) { n.proof.Witnesses = []string{n.id, n.id} },
		notProven: "no other node names an instance",
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

// The domain's half of invariant 1: of an instance whose node would be deleted, "gone" is said only
// if it is beyond doubt.
func TestInvariant1ANodeIsNeverDeletedOnDoubt(t *testing.T) {
	for _, d := range doubts {
		t.Run("exists/"+d.name, func(t *testing.T) {
			t.Parallel()
			n := newNodes(t)
			d.arise(n)
			found, err := n.prove()
			if errors.Is(err, instances.ErrNotFound) {
				t.Fatalf("says gone: %v", err)
			}
			if err == nil && found.ID != n.id {
				t.Errorf("returned %s", found.ID)
			}
		})
		t.Run("deleted/"+d.name, func(t *testing.T) {
			t.Parallel()
			n := newNodes(t)
			d.arise(n)
			n.must(n.rack.RemoveInstance(n.id))
			_, err := n.prove()
			if d.notProven == "" {
				wantError(t, err, d.kind)
				return
			}
			var notProven *instances.NotProvenError
			if !errors.As(err, &notProven) || errors.Is(err, instances.ErrNotFound) {
				t.Fatalf("error %v, want that it is not proven", err)
			}
			if !strings.Contains(err.Error(), d.notProven) {
				t.Errorf("got %q, want %q", err, d.notProven)
			}
			checkText(t, err)
		})
	}
	t.Run("the caller has gone", func(t *testing.T) {
		n := newNodes(t)
		n.must(n.rack.RemoveInstance(n.id))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := n.finder.ProveAbsent(ctx, n.id, n.proof)
		wantError(t, err, oxide.KindEnded)
	})
	t.Run("it exists", func(t *testing.T) {
		n := newNodes(t)
		for _, state := range []string{"running", "stopped", "failed", "migrating", "creating"} {
			n.must(n.rack.SetRunState(n.id, state))
			found, err := n.prove()
			if err != nil || found.ID != n.id || found.RunState != state {
				t.Errorf("%s: got %s %s, %v", state, found.ID, found.RunState, err)
			}
		}
	})
	t.Run("it exists in another project", func(t *testing.T) {
		n := newNodes(t)
		n.project = "second"
		n.connect(oxidesim.DefaultToken)
		if _, err := n.prove(); !instances.IsElsewhere(err) ||
			errors.Is(err, instances.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

// answer sends an error as Oxide does.
func answer(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"request_id": %q, "error_code": %q, "message": "m"}`, anID, code)
	}
}

// Whatever changes while the proof is being made, and changes back, an instance that exists is not
// called gone: here every stretch of the requests of a proof meets another answer than the rest.
func TestInvariant1ANodeIsNeverDeletedOnDoubtThatComesAndGoes(t *testing.T) {
	n := newNodes(t)
	rack := n.rack.Handler()
	as := func(token string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+token)
			rack.ServeHTTP(w, r)
		}
	}
	const requests = 9 // of a proof of absence by a client that has just been started
	for name, meanwhile := range map[string]http.HandlerFunc{
		"token of another silo":   as(otherSiloToken),
		"token without any role":  as(strangerToken),
		"token that is unknown":   as(unknownToken),
		"404 without a code":      answer(http.StatusNotFound, ""),
		"403":                     answer(http.StatusForbidden, "Forbidden"),
		"500":                     answer(http.StatusInternalServerError, "Internal"),
		"400, as from an old one": answer(http.StatusBadRequest, ""),
	} {
		t.Run(name, func(t *testing.T) {
			for from := range requests {
				for to := from + 1; to <= requests; to++ {
					var count atomic.Int32 // the last reads of an instance are concurrent
					n.handle(func(w http.ResponseWriter, r *http.Request) {
						if now := int(count.Add(1)); now > from && now <= to {
							meanwhile(w, r)
							return
						}
						rack.ServeHTTP(w, r)
					})
					n.connect(oxidesim.DefaultToken)
					found, err := n.prove()
					if errors.Is(err, instances.ErrNotFound) {
						t.Errorf("from request %d to %d: says gone", from+1, to)
					}
					if err == nil && found.ID != n.id {
						t.Errorf("from request %d to %d: returned %q", from+1, to, found.ID)
					}
				}
			}
		})
	}
}

func TestInvariant1WhatIsGoneBeyondDoubtIsCalledGone(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before func(*nodes)
	}{
		{"deleted", func(*nodes) {}},
		{"deleted, and another has its name now", func(n *nodes) {
			if again := n.node("node-1"); again.ID == n.id {
				n.t.Fatal("the same id again")
			}
		}},
		{"deleted, and the project is renamed", func(n *nodes) {
			n.call(http.MethodPut, "/v1/projects/demo", `{"name": "renamed"}`)
		}},
		{"deleted, and the rack falters meanwhile", func(n *nodes) {
			n.fault(oxidesim.Fault{Status: 503, Nth: []int{1, 3, 6}})
		}},
		{"deleted, and some of the witnesses as well", func(n *nodes) {
			n.proof.Witnesses = []string{anID, n.id, n.witness}
		}},
		{"deleted, and the backend has just been started", func(n *nodes) {
			n.connect(oxidesim.DefaultToken)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n := newNodes(t)
			n.must(n.rack.RemoveInstance(n.id))
			tc.before(n)
			_, err := n.prove()
			wantNotFound(t, err, "instance "+n.id+" does not exist")
		})
	}
}

// The proof reads the instance itself, twice, and never takes an earlier answer.
func TestInvariant1AbsenceIsReadDirectly(t *testing.T) {
	n := newNodes(t)
	if _, err := n.prove(); err != nil {
		t.Fatal(err)
	}
	n.must(n.rack.RemoveInstance(n.id))
	for range 2 {
		n.rack.ResetCounters()
		_, err := n.prove()
		wantNotFound(t, err, "instance "+n.id+" does not exist")
		if by := n.rack.Counters()["instance_view"]; by[404] != 2 || by[200] != 1 {
			t.Errorf("answers %v, want two 404 and one witness", by)
		}
		if got := n.rack.Count("project_view"); got != 3 {
			t.Errorf("the project was read %d times, want 3", got)
		}
	}
}

func TestProofAsksFiveWitnessesAtMost(t *testing.T) {
	n := newNodes(t)
	n.must(n.rack.RemoveInstance(n.id))
	n.proof.Witnesses = nil
	for i := range 50 {
		n.proof.Witnesses = append(n.proof.Witnesses, fmt.Sprintf("%s%02d", anID[:34], i))
	}
	n.rack.ResetCounters()
	_, err := n.prove()
	var notProven *instances.NotProvenError
	if !errors.As(err, &notProven) {
		t.Fatalf("got %v", err)
	}
	checkText(t, err)
	if got := n.rack.Count("instance_view"); got != 1+5 {
		t.Errorf("%d instances were read, want the instance and five witnesses", got)
	}
}
