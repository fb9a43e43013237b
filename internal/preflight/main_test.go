// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package preflight_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/preflight"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// now is when the tests take place.
var now = time.Now()

// userToken is the token of a user who has a role on the project alone.
const userToken = "oxide-token-0000000000000000000000000000000000000001"

// rig is a simulated rack that is looked at.
type rig struct {
	*oxidesim.Server
	t     *testing.T
	cfg   oxide.Config
	ports []firewall.Port
	// note is about where the token comes from.
	note string
	// manage: rules are to be kept in the firewall.
	manage bool
}

func start(t *testing.T, cfg oxidesim.Config, options oxidesim.ServeOptions) *rig {
	t.Helper()
	r := &rig{Server: oxidesim.StartWith(t, cfg, options), t: t}
	r.cfg = oxide.Config{Project: oxidesim.DefaultProject, UserAgent: "test"}
	r.at(r.URL)
	r.as(oxidesim.DefaultToken)
	if r.CAPEM != nil {
		file := filepath.Join(t.TempDir(), "ca.pem")
		r.must(os.WriteFile(file, r.CAPEM, 0o600))
		var err error
		r.cfg.Authorities, err = oxide.CAFile(file)
		r.must(err)
	}
	return r
}

// healthy is a rack with two instances.
func healthy(t *testing.T) *rig {
	t.Helper()
	r := start(t, oxidesim.Config{}, oxidesim.ServeOptions{})
	r.instance("node-1")
	r.instance("node-2")
	return r
}

func (r *rig) at(host string) {
	r.t.Helper()
	var err error
	if r.cfg.Host, err = oxide.ParseHost(host); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) as(token string) {
	r.t.Helper()
	var err error
	if r.cfg.Token, err = oxide.StaticToken(token); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) instance(name string) {
	r.t.Helper()
	if _, err := r.AddInstance(oxidesim.DefaultProject, oxidesim.InstanceSeed{Name: name}); err != nil {
		r.t.Fatal(err)
	}
}

// user adds a user with a role on the project alone, whose token may expire, and works as that.
func (r *rig) user(role string, expires *time.Time) {
	r.t.Helper()
	r.must(r.Apply(oxidesim.Seed{Silos: []oxidesim.SiloSeed{{
		Name: oxidesim.DefaultSilo,
		Users: []oxidesim.UserSeed{{
			Name: "cluster", Tokens: []oxidesim.TokenSeed{{Secret: userToken, Expires: expires}},
		}},
	}}}))
	if role != "" {
		r.must(r.SetProjectRole(oxidesim.DefaultProject, "cluster", role))
	}
	r.as(userToken)
}

// firewall replaces the rules of the default VPC.
func (r *rig) firewall(rules string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPut,
		r.URL+"/v1/vpc-firewall-rules?project=demo&vpc=default",
		strings.NewReader(`{"rules": [`+rules+`]}`))
	r.must(err)
	req.Header.Set("Authorization", "Bearer "+oxidesim.DefaultToken)
	resp, err := http.DefaultTransport.RoundTrip(req)
	r.must(err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("write the firewall: HTTP %d", resp.StatusCode)
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// run makes the preflight and holds what is true of every report.
func (r *rig) run() preflight.Report {
	r.t.Helper()
	client, err := oxide.New(r.cfg, prometheus.NewRegistry())
	r.must(err)
	defer client.Close()
	before := r.State()
	report := preflight.Run(r.t.Context(), client, preflight.Options{
		Ports: r.ports, TokenNote: r.note, Now: now, ManageFirewall: r.manage, FirewallPriority: 1000,
	})
	if after := r.State(); len(after.FloatingIPs) != len(before.FloatingIPs) {
		r.t.Error("the preflight changed something")
	}
	names := map[string]bool{}
	for _, check := range report.Checks {
		if names[check.Name] {
			r.t.Errorf("two checks are named %q", check.Name)
		}
		names[check.Name] = true
		for _, text := range []string{check.Detail, check.Remedy} {
			if strings.ContainsAny(text, "\n\t") || strings.Contains(text, "oxide-token-") {
				r.t.Errorf("%s: more than one line, or a token: %q", check.Name, text)
			}
		}
		if check.Detail == "" {
			r.t.Errorf("%s says nothing", check.Name)
		}
		needsRemedy := check.Result == preflight.Failed || check.Result == preflight.Warning
		if needsRemedy && check.Remedy == "" {
			r.t.Errorf("%s has no remedy: %s", check.Name, check.Detail)
		}
	}
	for _, name := range []string{
		"API", "certificate", "token", "token expiry", "project", "role", "instances", "IPv4 pool",
		"IPv6 pool", "subnet pools",
	} {
		if !names[name] {
			r.t.Errorf("the report has no %q", name)
		}
	}
	return report
}

// want is what a check should say: its result, and parts of its detail and its remedy.
type want struct {
	result preflight.Result
	detail string
	remedy string
}

func (r *rig) want(report preflight.Report, wanted map[string]want) {
	r.t.Helper()
	for _, check := range report.Checks {
		w, ok := wanted[check.Name]
		if !ok {
			continue
		}
		delete(wanted, check.Name)
		if check.Result != w.result || !strings.Contains(check.Detail, w.detail) ||
			!strings.Contains(check.Remedy, w.remedy) {
			r.t.Errorf("%s: got %+v\nwant %+v", check.Name, check, w)
		}
	}
	for name := range wanted {
		r.t.Errorf("the report has no %q", name)
	}
}
