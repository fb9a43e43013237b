// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/sanity"
)

// wrongBackend is a backend that is wrong in one way, and the cases that must notice it.
type wrongBackend struct {
	name  string
	cases []string
	wrong

	// reader: it gives everybody all rights.
	reader bool

	// args are further arguments of the real backend behind it.
	args []string
}

// sample is of how many wrong backends one is run with the race detector, with which they are slow. `make unit`
// runs all of them without it.
const sample = 6

// Promise: the suite notices what it is for. Each backend is wrong in one way, and each case that is named
// must fail.
func TestEachWrongBackendFails(t *testing.T) {
	t.Parallel()
	all := slices.Concat(wrongErrors(), wrongReads(), wrongChanges(), wrongOwners(), wrongSessions(),
		wrongPlacements(), wrongVersions())
	named := make(map[string]bool)
	for i, one := range all {
		if raceEnabled && i%sample != 0 {
			continue
		}
		for _, name := range one.cases {
			named[name] = true
		}
		t.Run(strings.ReplaceAll(one.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			one.fails(t)
		})
	}
	t.Logf("of %d wrong backends these fail %d of %d cases", len(all), len(named), len(sanity.Cases()))
}

// fails runs the cases that must fail.
func (one *wrongBackend) fails(t *testing.T) {
	r := start(t, append([]string{"--manage-firewall"}, one.args...)...)
	options := r.options(startProxy(r, r.socket, one.wrong))
	if one.reader {
		options.DialReader = options.Dial // who may only read may do everything
	}
	options.Select, options.Settle = selecting(one.cases...), 2*time.Second
	report, err := sanity.Run(t.Context(), options)
	if report == nil {
		t.Fatal(err) // else what a wrong backend keeps could not be removed, which is right
	}
	text := failuresOf(report)
	t.Log("\n" + text)
	if strings.Contains(text, "panic: ") {
		t.Error("a case did not cope with it")
	}
	for _, name := range one.cases {
		at := slices.IndexFunc(report.Results, func(r sanity.Result) bool { return r.Name == name })
		switch {
		case at < 0:
			t.Errorf("there is no case %s", name)
		case report.Results[at].Outcome != sanity.Failed:
			t.Errorf("%s: %s", name, report.Results[at].Outcome)
		}
	}
}

// Promise: the suite accepts what a newer backend sends. Between it and the real backend, each answer gets a
// field, each session and watch an event, and what is listed a value that no revision has.
func TestANewerBackendConforms(t *testing.T) {
	if raceEnabled {
		t.Skip("it takes long with the race detector; `make unit` runs it without")
	}
	t.Parallel()
	r := start(t, "--manage-firewall")
	options := r.options(startProxy(r, r.socket, newer))
	options.Select = regexp.MustCompile(
		`^(backend|skew|instances|machines|pools|session/(life|again|observes)|watch/snapshot|plan/|orphans/|` +
			`addresses/(list|reserve|adopt|attach-m))`)
	report, err := sanity.Run(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	check(t, report, mayBeSkipped)
	t.Log(report.Summary())
}

const unknownNumber = 9999

func addUnknown(m proto.Message) {
	r := m.ProtoReflect()
	r.SetUnknown(append(r.GetUnknown(),
		protowire.AppendVarint(protowire.AppendTag(nil, unknownNumber, protowire.VarintType), 1)...))
}

var newer = wrong{
	response: func(c *call, m proto.Message) []proto.Message {
		var out []proto.Message
		switch m := m.(type) {
		case *backendv1.GetInfoResponse:
			m.ApiRevision += 100
			m.Features = append(m.GetFeatures(), unknownNumber)
		case *backendv1.SyncLoadBalancersResponse:
			if state := m.GetState(); state != nil {
				state.Conditions = append(state.GetConditions(), &backendv1.Condition{
					Type: unknownNumber, Message: "of a newer backend",
				})
			}
			unknown := &backendv1.SyncLoadBalancersResponse{}
			addUnknown(unknown)
			out = append(out, unknown)
		case *backendv1.WatchInstancesResponse:
			unknown := &backendv1.WatchInstancesResponse{}
			addUnknown(unknown)
			out = append(out, unknown)
		}
		addUnknown(m)
		return append(out, m)
	},
}
