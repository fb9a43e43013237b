// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// renameProject renames a project of the default silo, as its owner would.
func (r *rig) renameProject(from, to string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPut,
		r.URL+"/v1/projects/"+from, strings.NewReader(fmt.Sprintf(`{"name": %q}`, to)))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+oxidesim.DefaultToken)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("rename the project: HTTP %d", resp.StatusCode)
	}
}

// addSilo adds a silo with a project and a user of the given token who may do all in it.
func (r *rig) addSilo(name, project, token string) {
	r.t.Helper()
	if err := r.Apply(oxidesim.Seed{Silos: []oxidesim.SiloSeed{{
		Name: name,
		Users: []oxidesim.UserSeed{{
			Name: "user-of-" + name, SiloRole: "collaborator",
			Tokens: []oxidesim.TokenSeed{{Secret: token}},
		}},
		Projects: []oxidesim.ProjectSeed{{Name: project}},
	}}}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) mustIdentity() oxide.Identity {
	r.t.Helper()
	id, err := r.Identity(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

func TestIdentityIsReadOnce(t *testing.T) {
	r := start(t, oxidesim.Config{})
	id := r.mustIdentity()
	if id.SiloName != "demo" || id.ProjectName != "demo" || !oxide.ValidID(id.SiloID) ||
		!oxide.ValidID(id.ProjectID) {
		t.Errorf("got %+v", id)
	}
	if again := r.mustIdentity(); again != id {
		t.Errorf("got %+v, then %+v", id, again)
	}
	if a, b := r.Count("current_user_view"), r.Count("project_view"); a != 1 || b != 1 {
		t.Errorf("%d and %d requests, want one of each", a, b)
	}
	if _, err := r.ReadIdentity(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a, b := r.Count("current_user_view"), r.Count("project_view"); a != 2 || b != 2 {
		t.Errorf("%d and %d requests, want ReadIdentity to ask anew", a, b)
	}
}

func TestOlderRackIsToldByIdentity(t *testing.T) {
	r := start(t, oxidesim.Config{APIVersion: "2026032500.0.0"})
	for range 2 { // it is no state that is remembered
		_, err := r.Identity(t.Context())
		wantKind(t, err, oxide.KindVersionUnsupported)
		if !strings.Contains(err.Error(), "is older than the Oxide API version 2026060800") {
			t.Errorf("got %s", err)
		}
	}
}

func TestARackThatBecameOlderIsToldByEachRead(t *testing.T) {
	r := start(t, oxidesim.Config{})
	r.mustIdentity()
	if err := r.SetAPIVersion("2026032500.0.0"); err != nil {
		t.Fatal(err)
	}
	_, err := r.Instances(t.Context())
	wantKind(t, err, oxide.KindVersionUnsupported)
	if err := r.SetAPIVersion(oxidesim.DefaultAPIVersion); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Instances(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestProjectThatCannotBeReadIsProjectNotFound(t *testing.T) {
	t.Run("unknown", func(t *testing.T) {
		r := start(t, oxidesim.Config{}, func(cfg *oxide.Config) { cfg.Project = "other" })
		_, err := r.Identity(t.Context())
		wantKind(t, err, oxide.KindProjectNotFound)
		if !strings.Contains(err.Error(), "--oxide-project or OXIDE_PROJECT") {
			t.Errorf("does not name the setting: %s", err)
		}
	})
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprint("role revoked, identity known: ", known), func(t *testing.T) {
			r := start(t, oxidesim.Config{})
			if known {
				r.mustIdentity()
			}
			if err := r.SetSiloRole("demo", "none"); err != nil {
				t.Fatal(err)
			}
			for _, operation := range []string{"instance_list", "floating_ip_list"} {
				wantKind(t, reads[operation](t.Context(), r.Client), oxide.KindProjectNotFound)
			}
			_, err := r.ReadIdentity(t.Context())
			wantKind(t, err, oxide.KindProjectNotFound)
		})
	}
}

func TestRenamedProjectIsStillTheSame(t *testing.T) {
	r := start(t, oxidesim.Config{})
	node := r.instance(oxidesim.InstanceSeed{})
	id := r.mustIdentity()
	r.renameProject("demo", "renamed")
	// Somebody else takes the name.
	if err := r.Apply(oxidesim.Seed{Silos: []oxidesim.SiloSeed{{
		Name: "demo", Projects: []oxidesim.ProjectSeed{{Name: "demo"}},
	}}}); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Client.Instances(t.Context()); err != nil || len(got) != 1 ||
		got[0].ID != node.ID {
		t.Errorf("list: %v, %v", got, err)
	}
	fip, err := r.CreateFloatingIP(t.Context(), "web", "", oxide.IPAllocator{DefaultPool4: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Server.FloatingIPs() {
		if f.ID == fip.ID && f.Project != "renamed" {
			t.Errorf("the address is in the project %s", f.Project)
		}
	}
	id.ProjectName = "renamed"
	got, err := r.ReadIdentity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(id, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A token that is replaced by one of another silo leads to that silo's project of the configured
// name, and to nothing of the first silo.
func TestIdentityFollowsTheTokenToAnotherSilo(t *testing.T) {
	r, file := startRotating(t)
	before := r.mustIdentity()
	otherToken := tokenPrefix + "abc"
	r.addSilo("other", "demo", otherToken)
	file.write(otherToken)
	after, err := r.ReadIdentity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.SiloName != "other" || after.SiloID == before.SiloID ||
		after.ProjectID == before.ProjectID {
		t.Errorf("before %+v\nafter  %+v", before, after)
	}
	if got := r.mustIdentity(); got != after {
		t.Errorf("still known as %+v", got)
	}
}

// gate holds back requests until it is opened.
type gate struct {
	arrived chan struct{}
	opened  chan struct{}
}

func (g gate) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case g.arrived <- struct{}{}:
		default:
		}
		<-g.opened
		next.ServeHTTP(w, r)
	})
}

func TestConcurrentCallersOfIdentityShareOneRead(t *testing.T) {
	g := gate{arrived: make(chan struct{}, 1), opened: make(chan struct{})}
	r := startBehind(t, g.before)

	// The first caller, whose request it is, goes while the request is under way.
	firstCtx, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := r.Identity(firstCtx)
		first <- err
	}()
	<-g.arrived
	var others sync.WaitGroup
	results := make(chan error, 20)
	for range cap(results) {
		others.Go(func() {
			id, err := r.Identity(t.Context())
			if err == nil && id.ProjectName != "demo" {
				err = fmt.Errorf("got %+v", id)
			}
			results <- err
		})
	}
	leave()
	select {
	case err := <-first:
		wantKind(t, err, oxide.KindEnded)
	case <-time.After(10 * time.Second):
		t.Fatal("the caller that went waits for the answer all the same")
	}
	close(g.opened)
	others.Wait()
	close(results)
	for err := range results {
		if err != nil {
			t.Error(err)
		}
	}
	if a, b := r.Count("current_user_view"), r.Count("project_view"); a != 1 || b != 1 {
		t.Errorf("%d and %d requests, want one of each", a, b)
	}
}

func TestFailedReadOfTheIdentityIsNotRemembered(t *testing.T) {
	r := start(t, oxidesim.Config{})
	r.fault(oxidesim.Fault{Operation: "current_user_view", Status: 500, Times: 1})
	_, err := r.Identity(t.Context())
	wantKind(t, err, oxide.KindInternal)
	r.mustIdentity()
}
