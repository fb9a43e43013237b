// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package preflight

import (
	"context"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// The names of the checks.
const (
	nameAPI         = "API"
	nameCertificate = "certificate"
	nameToken       = "token"
	nameExpiry      = "token expiry"
	nameProject     = "project"
	nameRole        = "role"
	nameInstances   = "instances"
	nameIPv4Pool    = "IPv4 pool"
	nameIPv6Pool    = "IPv6 pool"
	nameSubnetPools = "subnet pools"
)

// Options are what to look at.
type Options struct {
	// Ports are those that Services will use: the firewall should let them through.
	Ports []firewall.Port
	// ManageFirewall: rules are to be kept in firewalls for load balancers, with FirewallPriority.
	ManageFirewall   bool
	FirewallPriority int
	// TokenNote is what is to be known of where the token comes from; empty: nothing.
	TokenNote string
	// Now is the time that expiries are compared with.
	Now time.Time
}

// preflight is one run.
type preflight struct {
	client *oxide.Client
	opts   Options

	// user and instances are what earlier checks found.
	user      oxide.User
	instances []oxide.Instance
	known     *network

	checks []Check
}

// stage makes some checks of a name each, and reports whether those of the following stages make
// sense. It may end before it has made all.
type stage struct {
	names []string
	run   func(context.Context) bool
}

// Run makes all checks. Those that the failure of another one makes impossible are skipped.
func Run(ctx context.Context, client *oxide.Client, opts Options) Report {
	p := &preflight{client: client, opts: opts}
	obstacle := ""
	for _, stage := range []stage{
		{[]string{nameAPI, nameCertificate}, p.api},
		{[]string{nameToken, nameExpiry}, p.token},
		{[]string{nameProject, nameRole, nameInstances}, p.project},
		{[]string{nameIPv4Pool, nameIPv6Pool, nameSubnetPools}, p.pools},
		{p.portNames(), p.ports},
		{p.ruleNames(), p.rules},
	} {
		begin := len(p.checks)
		if obstacle == "" && !stage.run(ctx) {
			obstacle = p.checks[len(p.checks)-1].Name
		}
		if obstacle != "" {
			p.checks = append(p.checks, skip(obstacle, stage.names[len(p.checks)-begin:]...)...)
		}
	}
	return Report{Checks: p.checks}
}

func (p *preflight) add(name string, result Result, detail, remedy string) {
	p.checks = append(p.checks, Check{Name: name, Result: result, Detail: detail, Remedy: remedy})
}

// fail adds a check that an error ended. It returns false, as the stage that cannot go on.
func (p *preflight) fail(name string, err error, remedy string) bool {
	p.checks = append(p.checks, failed(name, err, remedy))
	return false
}
