// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

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
		_, err := n.finder.ProveAbsent(ctx, n.id, n.proof, instances.Full)
		wantError(t, err, oxide.KindEnded)
	})
	t.Run("it exists", func(t *testing.T) {
		n := newNodes(t)
		for _, state := range []string{"running", "stopped", "failed", "migrating", "creating"} {
			n.must(n.rack.SetRunState(n.id, state))
			n.forget()
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

// Of all that Oxide could say of the instance alone, while everything else is well, nothing but 404
// ObjectNotFound means that it is gone.
func TestInvariant1OnlyObjectNotFoundCounts(t *testing.T) {
	for _, tc := range []struct {
		status int
		code   string
		want   oxide.Kind
	}{
		{400, "", oxide.KindMalformed},
		{400, "InvalidRequest", oxide.KindRefused},
		{401, "Unauthorized", oxide.KindUnauthorized},
		{403, "Forbidden", oxide.KindForbidden},
		{404, "", oxide.KindNoSuchRoute},
		{404, "Not Found", oxide.KindNoSuchRoute},
		{409, "Conflict", oxide.KindRefused},
		{410, "Gone", oxide.KindBadResponse},
		{410, "ObjectNotFound", oxide.KindBadResponse},
		{500, "Internal", oxide.KindInternal},
		{503, "ObjectNotFound", oxide.KindUnavailable},
	} {
		t.Run(fmt.Sprint(tc.status, " ", tc.code), func(t *testing.T) {
			t.Parallel()
			n := newNodes(t)
			rack := n.hidden()
			n.handle(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1/instances/"+n.id {
					answer(tc.status, tc.code)(w, r)
					return
				}
				rack.ServeHTTP(w, r)
			})
			_, err := n.prove()
			wantError(t, err, tc.want)
			_, err = n.finder.ByID(t.Context(), n.id, instances.Full)
			wantError(t, err, tc.want)
		})
	}
}

// Whatever changes while the proof is being made, and changes back, an instance that exists is not
// called gone: here every stretch of the requests of a proof meets another answer than the rest. An
// instance that is younger than the list at hand is in no list.
func TestInvariant1ANodeIsNeverDeletedOnDoubtThatComesAndGoes(t *testing.T) {
	for name, meanwhile := range map[string]func(rack http.Handler) http.Handler{
		"token of another silo":   as(otherSiloToken),
		"token without any role":  as(strangerToken),
		"token that is unknown":   as(unknownToken),
		"404 without a code":      says(http.StatusNotFound, ""),
		"403":                     says(http.StatusForbidden, "Forbidden"),
		"500":                     says(http.StatusInternalServerError, "Internal"),
		"400, as from an old one": says(http.StatusBadRequest, ""),
	} {
		for _, tc := range []struct {
			listed   string
			requests int // of a proof by a client that has just been started
			rack     func(*nodes) http.Handler
		}{
			{"listed", 9, func(n *nodes) http.Handler { return n.rack.Handler() }},
			{"not listed", 12, (*nodes).hidden},
		} {
			t.Run(name+"/"+tc.listed, func(t *testing.T) {
				t.Parallel()
				n := newNodes(t)
				rack := tc.rack(n)
				spoilt := meanwhile(rack)
				for from := range tc.requests {
					for to := from + 1; to <= tc.requests; to++ {
						var count atomic.Int32 // the last reads of an instance are concurrent
						n.handle(func(w http.ResponseWriter, r *http.Request) {
							if now := int(count.Add(1)); now > from && now <= to {
								spoilt.ServeHTTP(w, r)
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
}

// While a proof is under way somebody else may notice that the token has become another silo's, and
// what the client knows of its silo and project changes. The proof goes on about its own.
func TestInvariant1AProofIsAboutTheProjectThatItBeganWith(t *testing.T) {
	// Who has just been started reads who he is, the list, and the instance, in four requests.
	const firstRead = 4
	for last := firstRead; last < firstRead+8; last++ {
		t.Run(strconv.Itoa(last), func(t *testing.T) {
			n := newNodes(t)
			ours := n.hidden()
			others := as(otherSiloToken)(n.rack.Handler())
			var count atomic.Int32
			var replaced atomic.Bool
			n.handle(func(w http.ResponseWriter, r *http.Request) {
				if replaced.Load() {
					others.ServeHTTP(w, r)
					return
				}
				now := int(count.Add(1))
				if now == last {
					// This request still has the old token; those that follow have the new one.
					replaced.Store(true)
					if _, err := n.client.ReadIdentity(context.Background()); err != nil {
						t.Error(err)
					}
				}
				if now == firstRead {
					// The new token was there for a moment before.
					others.ServeHTTP(w, r)
					return
				}
				ours.ServeHTTP(w, r)
			})
			n.connect(oxidesim.DefaultToken)
			if _, err := n.prove(); errors.Is(err, instances.ErrNotFound) {
				t.Errorf("the token is replaced after request %d: says gone", last)
			}
		})
	}
}

// as lets another token through.
func as(token string) func(http.Handler) http.Handler {
	return func(rack http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+token)
			rack.ServeHTTP(w, r)
		})
	}
}

// says gives the same answer to everything.
func says(status int, code string) func(http.Handler) http.Handler {
	return func(http.Handler) http.Handler { return answer(status, code) }
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
	n.forget()
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
