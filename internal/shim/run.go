// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	"k8s.io/cloud-provider/app/config"
	genericcontrollermanager "k8s.io/controller-manager/app"
	"k8s.io/klog/v2"

	version "github.com/oxidecomputer/oxide-cloud-controller-manager"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendprocess"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/connection"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/events"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/reachability"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/services"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing/otlp"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// stopTimeout is how long the framework may take to return once it is asked to stop. While it
// starts up it does not listen.
const stopTimeout = 5 * time.Second

// running is one run of the process: what is started, and why it ends.
type running struct {
	options *Options
	ctx     context.Context //nolint:containedctx // the framework wants it before the run begins
	end     context.CancelCauseFunc
	conn    *connection.Conn

	provider *provider.Provider

	// loadBalancers is made with the provider, which uses it, and run as a controller of its own; nil:
	// that controller is switched off, and no Service is read.
	loadBalancers *services.Controller

	// prober runs with loadBalancers; nil: nodes are not probed.
	prober *reachability.Prober
}

// newRun prepares a run that ends with ctx, or when something that it cannot do without fails.
func newRun(ctx context.Context, options *Options) *running {
	r := &running{options: options}
	r.ctx, r.end = context.WithCancelCause(ctx)
	return r
}

// stop is closed when the run is to end.
func (r *running) stop() <-chan struct{} { return r.ctx.Done() }

// run starts a backend if the user named none, connects, and runs the framework until it ends. Its
// error is nil when the process was asked to stop.
func (r *running) run(logFormat string, framework func() error) error {
	defer r.end(nil)
	stopTracing, err := startTracing(r.ctx, r.options.tracing)
	if err != nil {
		return &exitError{code: exitFailed, err: err}
	}
	defer stopTracing()
	socket := r.options.socket
	token := backendprocess.InheritedToken()
	if r.options.Backend != "" && token != nil {
		_ = token.Close() // it is for no backend but our own
	}
	if r.options.Backend == "" {
		child, err := r.startBackend(logFormat, token)
		if err != nil {
			return err
		}
		defer func() {
			if err := child.Stop(); err != nil {
				klog.ErrorS(err, "Stopped oxide-backend")
			}
		}()
		socket = child.SocketPath()
	}

	conn, err := connection.Dial(socket, client.WithDialOptions(otlp.DialOptions()...))
	if err != nil {
		return &exitError{code: exitFailed, err: err}
	}
	defer func() { _ = conn.Close() }()
	r.conn = conn
	if r.options.Backend == "" {
		// Only our own: what it has to say about its configuration comes alone, and not between
		// the lines of the framework's start. Another one may come later.
		connection.AwaitFirst(r.ctx, conn, r.options.BackendUnreachableExit)
	}
	if r.ctx.Err() == nil {
		err = r.runFramework(framework)
	}

	var cause *exitError
	switch {
	case errors.As(context.Cause(r.ctx), &cause):
		return cause
	case err != nil:
		return &exitError{code: exitFailed, err: err, printed: true}
	}
	return nil
}

// startTracing sends spans, if the environment names a collector.
func startTracing(ctx context.Context, config *otlp.Config) (stop func(), err error) {
	if config != nil {
		klog.InfoS("Tracing", "endpoint", config.Endpoint(), "from", config.Setting())
	}
	return otlp.Start(ctx, config, otlp.Program{
		Name: "ccm-shim", Version: version.String(),
		Report: func(problem string) { klog.InfoS("Spans are lost", "why", problem) },
	})
}

// runFramework runs the framework until it ends, or until it had the time to do so after the run
// ended.
func (r *running) runFramework(framework func() error) error {
	done := make(chan error, 1)
	go func() { done <- framework() }()
	select {
	case err := <-done:
		return err
	case <-r.ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(stopTimeout):
		return nil
	}
}

// startBackend starts the backend as a child and ends the run when the child ends by itself. The token
// is as in backendprocess.Config.
func (r *running) startBackend(logFormat string, token *os.File) (*backendprocess.Process, error) {
	executable, err := backendprocess.Locate()
	if err != nil {
		return nil, &exitError{code: exitMisconfigured, err: err}
	}
	child, err := backendprocess.Start(backendprocess.Config{
		Executable: executable,
		Arguments:  r.options.backendArguments(logFormat),
		Token:      token,
		Stdout:     os.Stdout,
		Stderr:     os.Stderr,
	})
	if err != nil {
		return nil, &exitError{code: exitFailed, err: err}
	}
	go func() {
		<-child.Done()
		exit := child.Exit()
		code := exitFailed
		if exit.Code == exitMisconfigured {
			// Starting it again would end in the same way: its configuration is wrong.
			code = exitMisconfigured
		}
		r.end(&exitError{code: code, err: exit})
	}()
	// The framework ends the process without unwinding when it loses its lease.
	klog.OsExit = func(code int) {
		child.Abandon()
		os.Exit(code)
	}
	return child, nil
}

// cloud makes the provider. The framework calls it on every replica, before the leader election,
// once logging and configuration are in place.
func (r *running) cloud(c *config.CompletedConfig) cloudprovider.Interface {
	registerBuild()
	connection.RegisterMetrics()
	trimCaches(c.SharedInformers)
	go func() {
		err := connection.WatchReachability(r.ctx, r.conn, r.options.BackendUnreachableExit)
		if err != nil {
			r.end(&exitError{code: exitFailed, err: fmt.Errorf("%w for %s: see its log; this "+
				"process ends so that a replica whose backend works can take over",
				err, r.options.BackendUnreachableExit)})
		}
	}()
	var recorder record.EventRecorder = c.EventBroadcaster.NewRecorder(scheme.Scheme,
		v1.EventSource{Component: "ccm-shim"})
	if r.options.ReadOnly {
		recorder = &record.FakeRecorder{} // which drops what it is given
	}
	reporter := events.NewReporter(recorder)
	leads := make(chan struct{})
	configured := provider.Config{
		Instances:       backendv1.NewInstanceServiceClient(r.conn),
		Nodes:           c.Client.CoreV1().Nodes(),
		Reporter:        reporter,
		RemovalInterval: r.options.NodeRemovalInterval,
		Topology:        r.options.topology(),
		Leading:         func() { close(leads) },
	}
	if genericcontrollermanager.IsControllerEnabled(services.Name, app.ControllersDisabledByDefault,
		c.ComponentConfig.Generic.Controllers) {
		r.loadBalancers = r.newLoadBalancers(reporter)
		configured.LoadBalancers = r.loadBalancers
	}
	r.provider = provider.New(configured)
	r.provider.RegisterMetrics()
	if election := c.ComponentConfig.Generic.LeaderElection; election.LeaderElect {
		go standby{
			leases: c.Client.CoordinationV1().Leases(election.ResourceNamespace),
			lease:  election.ResourceName,
		}.watch(r.ctx, leads)
	}
	return r.provider
}

// newLoadBalancers makes what keeps the load balancers, and the prober that it uses.
func (r *running) newLoadBalancers(reporter *events.Reporter) *services.Controller {
	balancing := services.Config{
		Conn:              r.conn,
		ClusterID:         r.options.ClusterID,
		AdoptedClusterIDs: r.options.AdoptedClusterIDs,
		LegacyClusterName: r.options.LegacyClusterName,
		ReservedPorts:     r.options.reservedPorts,
		NodeName:          r.options.NodeName,
		ClassedOnly:       r.options.ClassedOnly,
		ReadOnly:          r.options.ReadOnly,
		Reporter:          reporter,
		TimeScale:         r.options.TimeScale,
		Superseded: func(err error) {
			r.end(&exitError{code: exitFailed, err: fmt.Errorf("another process has taken over: %w", err)})
		},
	}
	if r.options.ProbeNodes {
		r.prober = reachability.New(func(node string) { r.loadBalancers.ReachabilityChanged(node) })
		balancing.Prober = r.prober
	}
	return services.New(balancing)
}
