// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	_ "golang.org/x/crypto/x509roots/fallback" // for an image without authorities of its own
	"golang.org/x/sync/errgroup"

	version "github.com/oxidecomputer/oxide-cloud-controller-manager"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/access"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/rpc"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/pools"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing/otlp"
)

// Run serves until the context ends, and then ends in order: it is no longer healthy, takes no
// further calls, and waits a while for those in flight.
func Run(ctx context.Context, cfg Config) error {
	slog.SetDefault(slog.New(cfg.Logger))
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	if cfg.TokenNote != "" {
		slog.Warn(cfg.TokenNote)
	}
	stopTracing, err := startTracing(ctx, cfg.Tracing)
	if err != nil {
		return err
	}
	defer stopTracing()
	p, err := assemble(ctx, cfg, registry)
	if err != nil {
		return err
	}
	defer p.client.Close()
	server, manager := p.server, p.manager

	var sockets listeners
	defer sockets.Close()
	if err := sockets.open(cfg); err != nil {
		return err
	}
	slog.Info("serving", "version", version.String(), "socket", cfg.SocketPath,
		"shared_socket", cfg.SharedSocketPath, "tls", cfg.TLSListen,
		"oxide_host", cfg.Oxide.Host.String(), "project", cfg.Oxide.Project)

	ctx, cancel := endWithParent(ctx, cfg.Parent)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.serve(ctx, sockets.rpc) })
	group.Go(func() error { return serveHTTP(ctx, sockets.health, healthHandler(server.ready)) })
	group.Go(func() error { return serveHTTP(ctx, sockets.metrics, metricsHandler(registry)) })
	group.Go(func() error { server.ready.watch(ctx); return nil })
	if sockets.metrics != nil {
		// Nobody else is shown what it reads.
		group.Go(func() error { p.rooms.watch(ctx); return nil })
	}
	err = group.Wait()
	stopManager(ctx, manager)
	slog.Info("stopped")
	return err
}

// startTracing sends spans, if the environment names a collector.
func startTracing(ctx context.Context, cfg *otlp.Config) (stop func(), err error) {
	if cfg != nil {
		slog.Info("tracing", "endpoint", cfg.Endpoint(), "from", cfg.Setting())
	}
	return otlp.Start(ctx, cfg, otlp.Program{
		Name: "oxide-backend", Version: version.String(),
		Report: func(problem string) { slog.Warn(problem) },
	})
}

// parts are what the program is made of.
type parts struct {
	client  *oxide.Client
	manager *session.Manager
	server  *server
	rooms   *rooms
}

// assemble makes the parts, which do nothing yet, and registers all their metrics.
func assemble(ctx context.Context, cfg Config, registerer prometheus.Registerer) (*parts, error) {
	client, err := oxide.New(cfg.Oxide, registerer)
	if err != nil {
		return nil, err
	}
	addresses := &ownership.Registry{}
	inventory := instances.NewInventory(client, addresses)
	finder := instances.NewFinder(client, inventory)
	manager := session.NewManager(ctx, session.Config{
		API: client, Inventory: finder, Watcher: inventory,
		FloatingIPs: inventory.FloatingIPs(), Registry: addresses,
		ReadOnly: cfg.Oxide.ReadOnly, TimeScale: cfg.TimeScale, Registerer: registerer,
		ManageFirewall: cfg.ManageFirewall, FirewallPriority: int(cfg.FirewallPriority),
	})
	registerBuild(registerer)
	registerLoad(registerer, manager)
	policy := &access.Policy{
		UID: uint32(os.Geteuid()), Clients: cfg.Clients, Refused: registerRefused(registerer).Inc,
	}
	options := policy.ServerOptions(cfg.TLSCredentials, rpc.Mutates, rpc.ErrTooManyCalls)
	server := newServer(ctx, registerer, cfg, client, options,
		rpc.NewBackendService(client, manager, version.String(), rpc.Mode{
			ReadOnly: cfg.Oxide.ReadOnly, KeepsFirewallRules: cfg.ManageFirewall && !cfg.Oxide.ReadOnly,
		}),
		rpc.NewInstanceService(finder, inventory, registerInventory(registerer, inventory)),
		rpc.NewLoadBalancerService(manager),
		rpc.NewAddressService(manager),
		rpc.NewFirewallService(manager),
		rpc.NewPoolService(pools.NewLister(client)),
	)
	return &parts{
		client: client, manager: manager, server: server, rooms: newRooms(registerer, client),
	}, nil
}

// changesTimeout is how long changes that were sent to Oxide are waited for at the end, and the
// attachment that belongs to a detachment.
const changesTimeout = 8 * time.Second

func stopManager(ctx context.Context, manager *session.Manager) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changesTimeout)
	defer cancel()
	manager.Stop(ctx)
}

// endWithParent returns a context that ends when the parent's pipe does: whatever kills the parent,
// the kernel closes its end of the pipe.
func endWithParent(
	ctx context.Context, parent *os.File,
) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if parent != nil {
		go func() {
			_, _ = parent.Read(make([]byte, 1))
			slog.Info("the parent process has ended")
			cancel()
		}()
	}
	return ctx, cancel
}
