// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"math"
	"net/url"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	version "github.com/oxidecomputer/oxide-cloud-controller-manager"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const (
	// roomInterval is how often Oxide is asked for what only metrics show.
	roomInterval = 10 * time.Minute
	// roomRetry is the same after Oxide was not available.
	roomRetry = time.Minute
	// roomTimeout bounds one such reading, with the retries of its requests.
	roomTimeout = 2 * time.Minute
)

// The kinds of addresses and pools, as labels have them.
const (
	kindFloatingIP     = "floating-ip"
	kindExternalSubnet = "external-subnet"
)

// Collectors returns what collects the metrics of the program, without those of the Go runtime and of
// the process. It is for their description: nothing runs.
func Collectors(ctx context.Context) ([]prometheus.Collector, error) {
	var all recorder
	token, err := oxide.StaticToken("none")
	if err != nil {
		return nil, err
	}
	p, err := assemble(ctx, Config{
		Oxide: oxide.Config{Host: &url.URL{Scheme: "http", Host: "localhost"}, Token: token},
	}, &all)
	if err != nil {
		return nil, err
	}
	p.manager.Stop(ctx)
	p.client.Close()
	return all, nil
}

// recorder records what is registered.
type recorder []prometheus.Collector

// Register implements prometheus.Registerer.
func (r *recorder) Register(c prometheus.Collector) error {
	*r = append(*r, c)
	return nil
}

// MustRegister implements prometheus.Registerer.
func (r *recorder) MustRegister(all ...prometheus.Collector) { *r = append(*r, all...) }

// Unregister implements prometheus.Registerer.
func (*recorder) Unregister(prometheus.Collector) bool { return false }

// registerBuild registers what the program is.
func registerBuild(registerer prometheus.Registerer) {
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "oxide_backend_build_info",
		Help: "1, with the versions of the program, of Go and of the Oxide API that it speaks.",
	}, []string{"version", "go_version", "oxide_api_version"})
	build.WithLabelValues(version.String(), runtime.Version(), oxide.APIVersion).Set(1)
	registerer.MustRegister(build)
}

// registerRefused registers the counter of refused connections.
func registerRefused(registerer prometheus.Registerer) prometheus.Counter {
	refused := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "oxide_backend_refused_peers_total",
		Help: "Connections of clients that may do nothing: processes of other users, and certificates, " +
			"that --client does not name.",
	})
	registerer.MustRegister(refused)
	return refused
}

// loadCollector collects how full the fullest instance is, from what sessions know of addresses.
type loadCollector struct {
	manager     *session.Manager
	most, limit *prometheus.Desc
}

func registerLoad(registerer prometheus.Registerer, manager *session.Manager) {
	registerer.MustRegister(&loadCollector{
		manager: manager,
		most: prometheus.NewDesc("oxide_backend_instance_addresses_most",
			"The most addresses that any one instance of the project carries, by kind (floating-ip or "+
				"external-subnet), ephemeral ones not counted; 0 where no session of load balancers runs.",
			[]string{"kind"}, nil),
		limit: prometheus.NewDesc("oxide_backend_instance_addresses_limit",
			"How many addresses one instance can carry, by kind, ephemeral ones among them.",
			[]string{"kind"}, nil),
	})
}

// Describe implements prometheus.Collector.
func (c *loadCollector) Describe(descs chan<- *prometheus.Desc) { descs <- c.most; descs <- c.limit }

// Collect implements prometheus.Collector.
func (c *loadCollector) Collect(metrics chan<- prometheus.Metric) {
	for _, load := range c.manager.Load() {
		kind := kindFloatingIP
		if load.Kind == ownership.ExternalSubnet {
			kind = kindExternalSubnet
		}
		metrics <- prometheus.MustNewConstMetric(c.most, prometheus.GaugeValue, float64(load.Most), kind)
		metrics <- prometheus.MustNewConstMetric(c.limit, prometheus.GaugeValue, float64(load.Limit), kind)
	}
}

// roomReader is what Oxide is asked for metrics alone.
type roomReader interface {
	AccessTokens(ctx context.Context) ([]oxide.AccessToken, error)
	IPPools(ctx context.Context) ([]oxide.IPPool, error)
	IPPoolUse(ctx context.Context, id string) (oxide.PoolUse, error)
	SubnetPools(ctx context.Context) ([]oxide.SubnetPool, error)
	SubnetPoolUse(ctx context.Context, id string) (oxide.PoolUse, error)
}

// rooms are the gauges of what runs out.
type rooms struct {
	reader         roomReader
	tokenExpiry    prometheus.Gauge
	capacity, free *prometheus.GaugeVec
}

func newRooms(registerer prometheus.Registerer, reader roomReader) *rooms {
	labels := []string{"pool", "kind", "ip_version"}
	r := &rooms{
		reader: reader,
		tokenExpiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oxide_backend_token_expiry_timestamp_seconds",
			Help: "When the first of the tokens expires that the token's user has, as Unix time: Oxide does " +
				"not say which of them is in use. Infinite while none expires, or that is not known.",
		}),
		capacity: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oxide_backend_pool_addresses",
			Help: "How many addresses a pool of the silo has, by its name and kind (floating-ip or " +
				"external-subnet), where the token's user may know: a viewer of its silo and of the fleet.",
		}, labels),
		free: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "oxide_backend_pool_addresses_free",
			Help: "How many addresses of a pool are free, where the token's user may know.",
		}, labels),
	}
	r.tokenExpiry.Set(math.Inf(1))
	registerer.MustRegister(r.tokenExpiry, r.capacity, r.free)
	return r
}

// watch asks Oxide now and then, until the context ends.
func (r *rooms) watch(ctx context.Context) {
	for ctx.Err() == nil {
		interval := roomInterval
		if !r.read(ctx) {
			interval = roomRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(interval):
		}
	}
}

// read asks Oxide once, and reports whether it was available: if not, everything stays as it was. Pools
// whose room the user may not know are left out.
func (r *rooms) read(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, roomTimeout)
	defer cancel()
	tokens, tokensErr := r.reader.AccessTokens(ctx)
	pools, poolsErr := r.reader.IPPools(ctx)
	subnets, subnetsErr := r.reader.SubnetPools(ctx)
	for _, err := range []error{tokensErr, poolsErr, subnetsErr, ctx.Err()} {
		if err != nil && !oxide.IsKind(err, oxide.KindForbidden) && !oxide.IsKind(err, oxide.KindNotFound) {
			return false
		}
	}
	if tokensErr == nil {
		r.tokenExpiry.Set(firstExpiry(tokens, time.Now()))
	}
	var known []knownRoom
	for _, pool := range pools {
		if room, err := r.reader.IPPoolUse(ctx, pool.ID); pool.Unicast && err == nil {
			known = append(known, knownRoom{pool.Name, kindFloatingIP, pool.Bits, room})
		}
	}
	for _, pool := range subnets {
		if room, err := r.reader.SubnetPoolUse(ctx, pool.ID); err == nil {
			known = append(known, knownRoom{pool.Name, kindExternalSubnet, pool.Bits, room})
		}
	}
	r.capacity.Reset()
	r.free.Reset()
	for _, of := range known {
		version := map[int]string{32: "v4", 128: "v6"}[of.bits]
		r.capacity.WithLabelValues(of.pool, of.kind, version).Set(of.room.Capacity)
		r.free.WithLabelValues(of.pool, of.kind, version).Set(of.room.Free)
	}
	return true
}

// knownRoom is the room of one pool.
type knownRoom struct {
	pool, kind string
	bits       int
	room       oxide.PoolUse
}

// firstExpiry returns when the first of the tokens expires that have not yet, as Unix time; infinite if
// none does.
func firstExpiry(tokens []oxide.AccessToken, now time.Time) float64 {
	first := math.Inf(1)
	for _, token := range tokens {
		if token.Expires.After(now) {
			first = min(first, float64(token.Expires.Unix()))
		}
	}
	return first
}
