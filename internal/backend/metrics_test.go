// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"maps"
	"math"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// gathered returns the gauges and counters of a registry whose names begin with a prefix, by their names
// and the values of their labels.
func gathered(t *testing.T, registry *prometheus.Registry, prefix string) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		name, ok := strings.CutPrefix(family.GetName(), prefix)
		if !ok {
			continue
		}
		for _, each := range family.GetMetric() {
			key := []string{name}
			for _, label := range each.GetLabel() {
				key = append(key, label.GetValue())
			}
			all[strings.Join(key, " ")] = each.GetGauge().GetValue() + each.GetCounter().GetValue()
		}
	}
	return all
}

// roomsOf are the gauges of a client with a token.
func roomsOf(t *testing.T, rack *oxidesim.Server, secret string) (*rooms, *prometheus.Registry) {
	t.Helper()
	host, err := oxide.ParseHost(rack.URL)
	if err != nil {
		t.Fatal(err)
	}
	token, err := oxide.StaticToken(secret)
	if err != nil {
		t.Fatal(err)
	}
	client, err := oxide.New(oxide.Config{Host: host, Token: token, Project: oxidesim.DefaultProject},
		prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	registry := prometheus.NewRegistry()
	return newRooms(registry, client), registry
}

func TestTheRoomOfPoolsIsShownToViewersOfTheFleet(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	if _, err := rack.AddFloatingIP(oxidesim.DefaultProject, oxidesim.FloatingIPSeed{Name: "one"}); err != nil {
		t.Fatal(err)
	}
	r, registry := roomsOf(t, rack, oxidesim.DefaultOperatorToken)
	if !r.read(t.Context()) {
		t.Fatal("Oxide was not available")
	}
	all := gathered(t, registry, "oxide_backend_pool_addresses")
	want := map[string]float64{
		// The labels are ordered by their names: ip_version, kind, pool.
		" v4 floating-ip default": 241, "_free v4 floating-ip default": 240,
		" v6 floating-ip default-v6": 65520, "_free v6 floating-ip default-v6": 65520,
		" v4 external-subnet subnets": 256, "_free v4 external-subnet subnets": 256,
		" v6 external-subnet subnets-v6": math.Pow(2, 64), "_free v6 external-subnet subnets-v6": math.Pow(2, 64),
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("room (-want +got):\n%s", diff)
	}

	r, registry = roomsOf(t, rack, oxidesim.DefaultToken)
	if !r.read(t.Context()) {
		t.Fatal("Oxide was not available")
	}
	if all := gathered(t, registry, "oxide_backend_pool_addresses"); len(all) != 0 {
		t.Errorf("a user without a role on the fleet is shown %v", all)
	}
}

// What was known stays known while Oxide is away: an alert must not end by that.
func TestTheRoomOfPoolsStaysWhileOxideIsAway(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	r, registry := roomsOf(t, rack, oxidesim.DefaultOperatorToken)
	r.read(t.Context())
	before := gathered(t, registry, "oxide_backend_")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r.read(ctx) {
		t.Error("Oxide was available")
	}
	if diff := cmp.Diff(before, gathered(t, registry, "oxide_backend_")); diff != "" {
		t.Errorf("what is known (-before +after):\n%s", diff)
	}
}

func TestTheFirstExpiryOfATokenIsShown(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	at := func(days int) time.Time { return now.AddDate(0, 0, days) }
	for name, tc := range map[string]struct {
		expires []time.Time
		want    float64
	}{
		"no token":              {nil, math.Inf(1)},
		"one that never does":   {[]time.Time{{}}, math.Inf(1)},
		"two":                   {[]time.Time{at(9), at(3)}, float64(at(3).Unix())},
		"one that has already":  {[]time.Time{at(-1), at(30)}, float64(at(30).Unix())},
		"one, and one for ever": {[]time.Time{{}, at(5)}, float64(at(5).Unix())},
	} {
		t.Run(name, func(t *testing.T) {
			var tokens []oxide.AccessToken
			for _, expires := range tc.expires {
				tokens = append(tokens, oxide.AccessToken{Expires: expires})
			}
			if got := firstExpiry(tokens, now); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
	registry := prometheus.NewRegistry()
	newRooms(registry, nil)
	if got := gathered(t, registry, "oxide_backend_token_"); !math.IsInf(got["expiry_timestamp_seconds"], 1) {
		t.Errorf("before Oxide was asked: %v", got)
	}
}

// Thousands of series that are zero for ever cost whoever keeps them, and hide the others.
func TestMethodsWithoutCallsHaveNoSeries(t *testing.T) {
	registry := prometheus.NewRegistry()
	inProcessWith(t, registry, nil, func(t *testing.T, conn *grpc.ClientConn, _ *pipes, _ context.CancelFunc) {
		if all := gathered(t, registry, "oxide_backend_grpc_server_"); len(all) != 0 {
			t.Errorf("before any call: %v", all)
		}
		_, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		all := gathered(t, registry, "oxide_backend_grpc_server_")
		const started = "started_total Check grpc.health.v1.Health unary"
		if all[started] != 1 {
			t.Errorf("after one call: %v", all)
		}
		for key := range all {
			if !strings.Contains(key, " Check ") {
				t.Errorf("a method without calls has the series %s", key)
			}
		}
	})
}

// What is served has to be explained, and what is explained to be served: metrics with labels as soon as
// there is something to say.
func TestThePageOfMetricsHasThoseThatAreServed(t *testing.T) {
	registry := prometheus.NewRegistry()
	token, err := oxide.StaticToken("none")
	if err != nil {
		t.Fatal(err)
	}
	p, err := assemble(t.Context(), Config{
		Oxide: oxide.Config{Host: &url.URL{Scheme: "http", Host: "localhost"}, Token: token},
	}, registry)
	if err != nil {
		t.Fatal(err)
	}
	defer p.client.Close()
	defer p.manager.Stop(t.Context())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "` | "); strings.HasPrefix(line, "| `oxide_backend_") {
			documented[strings.TrimPrefix(cells[0], "| `")] = strings.Contains(line, " |  | ")
		}
	}
	served := map[string]bool{}
	for _, family := range families {
		served[family.GetName()] = true
		if _, ok := documented[family.GetName()]; !ok {
			t.Errorf("%s is not on the page", family.GetName())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		if withoutLabels := documented[name]; withoutLabels && !served[name] {
			t.Errorf("%s is on the page, and not served", name)
		}
	}
	if len(served) < 6 {
		t.Errorf("only %d metrics are served: %v", len(served), served)
	}
}
