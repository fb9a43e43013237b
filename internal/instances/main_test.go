// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Who there is besides the default user: somebody in another silo, and somebody in the same silo
// who may do nothing.
const (
	otherSiloToken = "oxide-token-07e4"
	strangerToken  = "oxide-token-57a2"
	unknownToken   = "oxide-token-bad1"
)

// ourProject and secondProject are projects of the default silo, as stories name them.
const (
	ourProject    = "demo/demo"
	secondProject = "demo/second"
)

// anID is a well-formed id that nothing has.
const anID = "6a0f4a2c-52b1-4f8e-9d6e-2f1a5a3c7b10"

// world is a simulated rack with two silos of the same project name, an entrance in front of it,
// and a Finder.
type world struct {
	t    testing.TB
	rack *oxidesim.Simulator
	// enter handles each request to the rack, by default with the rack's own handler.
	enter     atomic.Pointer[http.HandlerFunc]
	host      string
	rackURL   string
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	close     func()
	client    *oxide.Client
	inventory *instances.Inventory
	finder    *instances.Finder
	addresses addresses
	project   string
}

// lbMark is how the description of a load balancer's address begins in these tests.
const lbMark = "lb:"

func newWorld(t testing.TB) *world {
	t.Helper()
	server := oxidesim.Start(t, oxidesim.Config{})
	w := &world{
		t: t, rack: server.Simulator, rackURL: server.URL, project: oxidesim.DefaultProject,
	}
	if err := w.rack.Apply(oxidesim.Seed{Silos: []oxidesim.SiloSeed{
		{
			Name: oxidesim.DefaultSilo,
			Users: []oxidesim.UserSeed{
				{Name: "stranger", Tokens: []oxidesim.TokenSeed{{Secret: strangerToken}}},
			},
			Projects: []oxidesim.ProjectSeed{{Name: "second"}},
		},
		{
			Name: "other",
			Users: []oxidesim.UserSeed{{
				Name: "somebody", SiloRole: "collaborator",
				Tokens: []oxidesim.TokenSeed{{Secret: otherSiloToken}},
			}},
			Projects: []oxidesim.ProjectSeed{{Name: oxidesim.DefaultProject}},
		},
	}}); err != nil {
		t.Fatal(err)
	}
	w.handle(w.rack.Handler().ServeHTTP)
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		(*w.enter.Load())(rw, r)
	}))
	t.Cleanup(front.Close)
	w.host, w.close = front.URL, front.Close
	w.connect(oxidesim.DefaultToken)
	return w
}

func (w *world) handle(h http.HandlerFunc) { w.enter.Store(&h) }

// connect starts anew with a token: nothing is remembered of silo and project.
func (w *world) connect(token string) {
	w.t.Helper()
	source, err := oxide.StaticToken(token)
	if err != nil {
		w.t.Fatal(err)
	}
	w.connectBy(source)
}

func (w *world) connectBy(source *oxide.TokenSource) {
	w.t.Helper()
	host, err := oxide.ParseHost(w.host)
	if err != nil {
		w.t.Fatal(err)
	}
	w.client, err = oxide.New(oxide.Config{
		Host: host, Token: source, Project: w.project, UserAgent: "test",
		Dial: w.dial,
	}, prometheus.NewRegistry())
	if err != nil {
		w.t.Fatal(err)
	}
	w.forget()
}

// forget starts anew with an empty inventory; silo and project are still known.
func (w *world) forget() {
	w.inventory = instances.NewInventory(w.client, &w.addresses)
	w.finder = instances.NewFinder(w.client, w.inventory)
}

// addresses knows load balancers' addresses by how their descriptions begin, and by their names.
type addresses struct {
	names map[string]bool
	// known is whether all are known.
	known bool
}

func (a *addresses) IsLoadBalancerAddress(_, name, description string, _ netip.Addr) bool {
	return strings.HasPrefix(description, lbMark) || a.names[name]
}

func (a *addresses) Complete() bool { return a.known }

// endpoint returns where packets arrive on an instance; the zero value: nowhere.
func (w *world) endpoint(id string) instances.Endpoint {
	w.t.Helper()
	found, err := w.finder.Endpoints(w.t.Context(), []string{id})
	w.must(err)
	return found[id]
}

// add adds a running instance to a project.
func (w *world) add(project string, seed oxidesim.InstanceSeed) oxidesim.Instance {
	w.t.Helper()
	if seed.NIC == "" {
		seed.NIC = "v4"
	}
	added, err := w.rack.AddInstance(project, seed)
	if err != nil {
		w.t.Fatal(err)
	}
	return added
}

func (w *world) node(name string) oxidesim.Instance {
	w.t.Helper()
	return w.add(ourProject, oxidesim.InstanceSeed{Name: name})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) fault(f oxidesim.Fault) {
	w.t.Helper()
	_, err := w.rack.AddFault(f)
	w.must(err)
}

// call sends a request to the rack as the default user, for what the Finder never does.
func (w *world) call(method, path, body string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.rackURL+path,
		strings.NewReader(body))
	w.must(err)
	req.Header.Set("Authorization", "Bearer "+oxidesim.DefaultToken)
	resp, err := http.DefaultTransport.RoundTrip(req)
	w.must(err)
	defer resp.Body.Close()
	if resp.StatusCode > 299 {
		w.t.Fatalf("%s %s: HTTP %d", method, path, resp.StatusCode)
	}
}

// wantError checks what an error means; gone is never it.
func wantError(t testing.TB, err error, kind oxide.Kind) {
	t.Helper()
	if errors.Is(err, instances.ErrNotFound) {
		t.Fatalf("says gone: %v", err)
	}
	if !oxide.IsKind(err, kind) {
		t.Errorf("error %v, want kind %d", err, kind)
	}
	checkText(t, err)
}

func wantNotFound(t testing.TB, err error, text string) {
	t.Helper()
	if !errors.Is(err, instances.ErrNotFound) {
		t.Fatalf("error %v, want that it does not exist", err)
	}
	if err.Error() != text {
		t.Errorf("got %q, want %q", err, text)
	}
}

// checkText holds that an error is one line of at most about 500 characters.
func checkText(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if text := fmt.Sprint(err); strings.ContainsAny(text, "\n\r\t") || len(text) > 500 {
		t.Errorf("not one short line (%d bytes): %q", len(text), text)
	}
}
