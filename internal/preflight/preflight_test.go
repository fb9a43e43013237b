// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package preflight_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/preflight"
)

var (
	tcp80 = firewall.Port{Protocol: firewall.TCP, Number: 80}
	udp53 = firewall.Port{Protocol: firewall.UDP, Number: 53}
)

func wantResult(t *testing.T, report preflight.Report, want preflight.Result) {
	t.Helper()
	if got := report.Result(); got != want {
		t.Errorf("the result is %s, want %s: %+v", got, want, report.Checks)
	}
}

func TestARackThatIsSetUpIsWell(t *testing.T) {
	r := start(t, oxidesim.Config{}, oxidesim.ServeOptions{TLS: true})
	r.instance("node-1")
	report := r.run()
	r.want(report, map[string]want{
		"API":          {preflight.OK, "2026060800.0.0", ""},
		"certificate":  {preflight.OK, "simulated Oxide rack CA", ""},
		"token":        {preflight.OK, "user demo in the silo demo", ""},
		"token expiry": {preflight.OK, "none of the user's tokens expires", ""},
		"project":      {preflight.OK, "demo (", ""},
		"role":         {preflight.OK, "admin on the project", ""},
		"instances":    {preflight.OK, "1 in the project", ""},
		"IPv4 pool":    {preflight.OK, "default is the silo's default", ""},
		"IPv6 pool":    {preflight.Note, "no default pool of IPv6 addresses, but default-v6", "floating-ip-pool"},
		"subnet pools": {preflight.OK, "subnets (default)", ""},
	})
	wantResult(t, report, preflight.OK)
}

func TestWhatKeepsTheAPIFromBeingReachedIsTold(t *testing.T) {
	tests := []struct {
		name  string
		edit  func(*rig)
		want  want
		serve oxidesim.ServeOptions
		rack  oxidesim.Config
	}{
		{
			name: "nothing listens", edit: func(r *rig) { r.at("https://127.0.0.1:1") },
			want: want{preflight.Failed, "connection refused", "--oxide-host or OXIDE_HOST"},
		},
		{
			name: "a host that does not resolve", edit: func(r *rig) { r.at("https://rack.invalid") },
			want: want{preflight.Failed, "rack.invalid", "--oxide-host or OXIDE_HOST"},
		},
		{
			name: "no TLS there", edit: func(r *rig) { r.cfg.Host.Scheme = "https" },
			want: want{preflight.Failed, "does not speak TLS", "--oxide-host or OXIDE_HOST"},
		},
		{
			name: "a private CA that is not trusted", edit: func(r *rig) { r.cfg.Authorities = nil },
			serve: oxidesim.ServeOptions{TLS: true},
			want:  want{preflight.Failed, "signed by an unknown authority", "--oxide-ca-file"},
		},
		{
			name: "an older rack", edit: func(*rig) {},
			rack: oxidesim.Config{APIVersion: "2026032500.0.0"},
			want: want{preflight.Failed, "is older than the Oxide API version", "update the rack"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, test.rack, test.serve)
			r.ports = []firewall.Port{tcp80}
			test.edit(r)
			report := r.run()
			skipped := want{preflight.Skipped, `the check "API" failed`, ""}
			r.want(report, map[string]want{
				"API": test.want, "certificate": skipped, "token": skipped, "project": skipped,
				"IPv4 pool": skipped, "port TCP 80": skipped,
			})
			wantResult(t, report, preflight.Failed)
		})
	}
}

func TestTheCertificatesEndIsWarnedOf(t *testing.T) {
	r := start(t, oxidesim.Config{}, oxidesim.ServeOptions{TLS: true})
	before := now
	t.Cleanup(func() { now = before })
	now = now.AddDate(1, 0, -7)
	r.want(r.run(), map[string]want{
		"certificate": {preflight.Warning, "valid until", "operator renew it"},
	})
}

func TestTheTokenIsLookedAt(t *testing.T) {
	in := func(d time.Duration) *time.Time { at := time.Now().Add(d); return &at }
	tests := []struct {
		name          string
		edit          func(*rig)
		token, expiry want
		result        preflight.Result
	}{
		{
			name: "unknown", edit: func(r *rig) { r.as("oxide-token-unknown") },
			token:  want{preflight.Failed, "HTTP 401", "put a valid one into the token file"},
			expiry: want{preflight.Skipped, `"token" failed`, ""}, result: preflight.Failed,
		},
		{
			name: "expired", edit: func(r *rig) { r.user("viewer", in(-time.Hour)) },
			token:  want{preflight.Failed, "unknown or expired", "put a valid one into the token file"},
			expiry: want{preflight.Skipped, `"token" failed`, ""}, result: preflight.Failed,
		},
		{
			name:  "the only one, about to expire",
			edit:  func(r *rig) { r.user("limited_collaborator", in(24*time.Hour)) },
			token: want{preflight.OK, "of the user cluster", ""},
			expiry: want{preflight.Warning, "the token expires on",
				"used without a restart"},
			result: preflight.Warning,
		},
		{
			name: "one of two, far from expiry",
			edit: func(r *rig) {
				r.user("limited_collaborator", in(1000*time.Hour))
				_, err := r.AddToken("cluster", "oxide-token-other")
				r.must(err)
			},
			token: want{preflight.OK, "of the user cluster", ""},
			expiry: want{preflight.OK, "the first of the user's 2 tokens to expire, perhaps this one",
				""},
			result: preflight.OK,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := healthy(t)
			test.edit(r)
			report := r.run()
			r.want(report, map[string]want{"token": test.token, "token expiry": test.expiry})
			wantResult(t, report, test.result)
		})
	}
}

func TestTheProjectAndTheRoleAreLookedAt(t *testing.T) {
	tests := []struct {
		name          string
		edit          func(*rig)
		project, role want
		result        preflight.Result
	}{
		{
			name: "a project that is not there", edit: func(r *rig) { r.cfg.Project = "other" },
			project: want{preflight.Failed, "does not exist, or the token has no role on it",
				"give the user demo the role viewer"},
			role: want{preflight.Skipped, `"project" failed`, ""}, result: preflight.Failed,
		},
		{
			name: "no role on it", edit: func(r *rig) { r.user("", nil) },
			project: want{preflight.Failed, "the token has no role on it", "give the user cluster the role viewer"},
			role:    want{preflight.Skipped, `"project" failed`, ""}, result: preflight.Failed,
		},
		{
			name: "viewer of the project", edit: func(r *rig) { r.user("viewer", nil) },
			project: want{preflight.OK, "can be read", ""},
			role: want{preflight.Warning, "viewer on the project: enough for nodes, not for Services",
				"the role limited_collaborator"},
			result: preflight.Warning,
		},
		{
			name: "viewer of the project, and the silo's policy is hidden",
			edit: func(r *rig) {
				r.user("viewer", nil)
				_, err := r.AddFault(oxidesim.Fault{
					Operation: "policy_view", Status: 403, ErrorCode: "Forbidden",
				})
				r.must(err)
			},
			project: want{preflight.OK, "can be read", ""},
			role: want{preflight.Warning, "unless the silo's policy, which this user may not read",
				"the role limited_collaborator"},
			result: preflight.Warning,
		},
		{
			name:    "viewer of the silo",
			edit:    func(r *rig) { r.must(r.SetSiloRole("demo", "viewer")) },
			project: want{preflight.OK, "can be read", ""},
			role: want{preflight.Warning, "viewer on the project: enough for nodes, not for Services",
				"the role limited_collaborator"},
			result: preflight.Warning,
		},
		{
			name: "limited collaborator of the silo",
			edit: func(r *rig) {
				r.user("viewer", nil)
				r.must(r.SetSiloRole("cluster", "limited_collaborator"))
			},
			project: want{preflight.OK, "can be read", ""},
			role:    want{preflight.OK, "limited_collaborator on the project: enough for all", ""},
			result:  preflight.OK,
		},
		{
			name:    "limited collaborator of the project",
			edit:    func(r *rig) { r.user("limited_collaborator", nil) },
			project: want{preflight.OK, "can be read", ""},
			role:    want{preflight.OK, "limited_collaborator on the project: enough for all", ""},
			result:  preflight.OK,
		},
		{
			name: "the policy cannot be read",
			edit: func(r *rig) {
				_, err := r.AddFault(oxidesim.Fault{Operation: "project_policy_view", Status: 500})
				r.must(err)
			},
			project: want{preflight.OK, "can be read", ""},
			role:    want{preflight.Note, "which takes the role viewer", ""},
			result:  preflight.OK,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := healthy(t)
			test.edit(r)
			report := r.run()
			r.want(report, map[string]want{"project": test.project, "role": test.role})
			wantResult(t, report, test.result)
		})
	}
}

func TestAProjectWithoutInstancesIsWarnedOf(t *testing.T) {
	r := start(t, oxidesim.Config{}, oxidesim.ServeOptions{})
	r.ports = []firewall.Port{tcp80}
	r.want(r.run(), map[string]want{
		"instances":   {preflight.Warning, "none", "name the project"},
		"port TCP 80": {preflight.Skipped, "no instance to reach", ""},
	})
}

// A user with a role on a project alone may not list pools, and needs not.
func TestPoolsThatMayNotBeListedDoNoHarm(t *testing.T) {
	r := healthy(t)
	r.user("limited_collaborator", nil)
	report := r.run()
	unknown := want{preflight.Note, "only viewers of the silo may list them; that does no harm", ""}
	r.want(report, map[string]want{
		"IPv4 pool": unknown, "IPv6 pool": unknown, "subnet pools": unknown,
	})
	wantResult(t, report, preflight.OK)
}

func TestPoolsAreLookedAtByFamily(t *testing.T) {
	pools := func(p ...oxidesim.PoolSeed) *oxidesim.Seed {
		seed := oxidesim.DefaultSeed()
		seed.Pools = p
		return &seed
	}
	link := func(byDefault bool) []oxidesim.PoolLinkSeed {
		return []oxidesim.PoolLinkSeed{{Silo: "demo", Default: byDefault}}
	}
	tests := []struct {
		name string
		seed *oxidesim.Seed
		want map[string]want
	}{
		{"none", pools(), map[string]want{
			"IPv4 pool": {preflight.Warning, "no pool of IPv4 addresses", "operator link one"},
			"IPv6 pool": {preflight.Note, "no pool of IPv6 addresses", "operator link one"},
		}},
		{"no default", pools(oxidesim.PoolSeed{Name: "public", Silos: link(false)}), map[string]want{
			"IPv4 pool": {preflight.Warning, "no default pool of IPv4 addresses, but public",
				"oxide.computer/floating-ip-pool"},
		}},
		{"multicast does not count",
			pools(oxidesim.PoolSeed{Name: "cast", PoolType: "multicast", Silos: link(true)}),
			map[string]want{"IPv4 pool": {preflight.Warning, "no pool of IPv4 addresses", ""}}},
		{"both families", pools(oxidesim.PoolSeed{Name: "four", Silos: link(true)},
			oxidesim.PoolSeed{Name: "six", IPVersion: "v6", Silos: link(true)}),
			map[string]want{
				"IPv4 pool": {preflight.OK, "four is the silo's default", ""},
				"IPv6 pool": {preflight.OK, "six is the silo's default", ""},
			}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, oxidesim.Config{Seed: test.seed}, oxidesim.ServeOptions{})
			r.want(r.run(), test.want)
		})
	}
}

func TestSubnetPoolsAreNamed(t *testing.T) {
	seed := oxidesim.DefaultSeed()
	seed.SubnetPools = []oxidesim.SubnetPoolSeed{
		{Name: "nets", Silos: []oxidesim.PoolLinkSeed{{Silo: "demo", Default: true}}},
	}
	r := start(t, oxidesim.Config{Seed: &seed}, oxidesim.ServeOptions{})
	r.want(r.run(), map[string]want{"subnet pools": {preflight.OK, "nets (default)", ""}})
	seed.SubnetPools = nil
	r = start(t, oxidesim.Config{Seed: &seed}, oxidesim.ServeOptions{})
	r.want(r.run(), map[string]want{"subnet pools": {preflight.Note, "the silo has none", ""}})
}

func TestTheFirewallIsAskedForPorts(t *testing.T) {
	const (
		web = `{"name": "web", "description": "", "status": "enabled", "direction": "inbound",
			"action": "allow", "priority": 100, "targets": [{"type": "vpc", "value": "default"}],
			"filters": {"ports": ["80"], "protocols": [{"type": "tcp"}]}}`
		webOnOne = `{"name": "web", "description": "", "status": "enabled", "direction": "inbound",
			"action": "allow", "priority": 100, "targets": [{"type": "instance", "value": "node-1"}],
			"filters": {"ports": ["80"], "protocols": [{"type": "tcp"}]}}`
		nothing = `{"name": "nothing", "description": "", "status": "enabled", "direction": "inbound",
			"action": "deny", "priority": 50, "targets": [{"type": "vpc", "value": "default"}],
			"filters": {}}`
	)
	tests := []struct {
		name, rules string
		want        map[string]want
		result      preflight.Result
	}{
		{"closed by default", "", map[string]want{
			"port TCP 80": {preflight.Failed, "closes it at 2 of 2 instances: node-1, node-2",
				`"ports":["53","80"],"protocols":[{"type":"tcp"},{"type":"udp"}]`},
			"port UDP 53": {preflight.Failed, "closes it at 2 of 2 instances", "the rule above"},
		}, preflight.Failed},
		{"one of two open", web, map[string]want{
			"port TCP 80": {preflight.OK, "lets it through to 2 instances", ""},
			"port UDP 53": {preflight.Failed, "closes it", "in the firewall of the VPC default"},
		}, preflight.Failed},
		{"open to one instance", webOnOne, map[string]want{
			"port TCP 80": {preflight.Failed, "closes it at 1 of 2 instances: node-2", "vpc"},
		}, preflight.Failed},
		{"denied by a rule", web + "," + nothing, map[string]want{
			"port TCP 80": {preflight.Failed, "denied by the rule nothing", `"priority":49`},
		}, preflight.Failed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := healthy(t)
			r.ports = []firewall.Port{tcp80, udp53}
			r.firewall(test.rules)
			report := r.run()
			r.want(report, test.want)
			wantResult(t, report, test.result)
		})
	}
}

func TestAViewerMayAskForPorts(t *testing.T) {
	r := healthy(t)
	r.user("viewer", nil)
	r.ports = []firewall.Port{tcp80}
	r.want(r.run(), map[string]want{"port TCP 80": {preflight.Failed, "closes it", "add the rule"}})
}

func TestAFailedListIsAFailedCheck(t *testing.T) {
	for operation, name := range map[string]string{
		"instance_list": "instances", "ip_pool_list": "IPv4 pool", "subnet_pool_list": "subnet pools",
		"vpc_firewall_rules_view": "port TCP 80",
	} {
		t.Run(operation, func(t *testing.T) {
			r := healthy(t)
			r.ports = []firewall.Port{tcp80}
			_, err := r.AddFault(oxidesim.Fault{Operation: operation, Status: 500})
			r.must(err)
			report := r.run()
			r.want(report, map[string]want{name: {preflight.Failed, "HTTP 500", "again"}})
			wantResult(t, report, preflight.Failed)
		})
	}
}

// What Oxide cannot do at the moment is no reason to change a setting, and a check that runs once
// promises no second try.
func TestAdviceIsForTheErrorThatItStandsBeside(t *testing.T) {
	for _, tt := range []struct{ operation, check string }{
		{"ping", "API"}, {"current_user_view", "token"}, {"project_view", "project"},
		{"instance_list", "instances"},
	} {
		for _, status := range []int{503, 500} {
			t.Run(fmt.Sprintf("%d to %s", status, tt.operation), func(t *testing.T) {
				r := healthy(t)
				_, err := r.AddFault(oxidesim.Fault{Operation: tt.operation, Status: status})
				r.must(err)
				report := r.run()
				r.want(report, map[string]want{tt.check: {
					preflight.Failed, fmt.Sprintf("(HTTP %d)", status), "check again in a minute",
				}})
				for _, check := range report.Checks {
					text := check.Detail + check.Remedy
					if strings.Contains(text, "tried again") || strings.Contains(text, "correct the name") {
						t.Errorf("%s: %+v", check.Name, check)
					}
				}
			})
		}
	}
}

func TestAnIgnoredSettingOfTheTokenIsNamed(t *testing.T) {
	r := healthy(t)
	r.note = "the file in OXIDE_TOKEN_FILE is ignored"
	r.want(r.run(), map[string]want{"token": {preflight.OK, r.note, ""}})
	r.as("oxide-token-unknown")
	r.want(r.run(), map[string]want{"token": {preflight.Failed, r.note, "put a valid one"}})
}

// Only where Oxide says that there is no such project may its name be wrong.
func TestAnAnswerThatIsNotUnderstoodIsNoWrongName(t *testing.T) {
	r := healthy(t)
	_, err := r.AddFault(oxidesim.Fault{Operation: "project_view", Status: 200, Body: `{"name": "demo"}`})
	r.must(err)
	r.want(r.run(), map[string]want{"project": {
		preflight.Failed, "cannot be understood", "check again in a minute",
	}})
}
