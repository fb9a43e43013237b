// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package otlp

import (
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
)

// ServerOptions trace the unary calls of a server, below the spans of those who call it. Tracing
// that is off takes no option.
func ServerOptions() []grpc.ServerOption {
	if !tracing.Enabled() {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(instrumentation()...))}
}

// DialOptions trace the unary calls of a client.
func DialOptions() []grpc.DialOption {
	if !tracing.Enabled() {
		return nil
	}
	return []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(instrumentation()...))}
}

func instrumentation() []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(tracing.Provider()),
		otelgrpc.WithPropagators(tracing.Propagator()),
		otelgrpc.WithFilter(isTraced),
	}
}

// isTraced reports whether a call has a span. A stream that lasts as long as its programs would
// have one that is sent when they end, and what is asked of each server again and again is no news.
func isTraced(call *stats.RPCTagInfo) bool {
	switch _, method, _ := strings.Cut(strings.TrimPrefix(call.FullMethodName, "/"), "/"); method {
	case "SyncLoadBalancers", "WatchInstances", "GetInfo":
		return false
	}
	return !strings.HasPrefix(call.FullMethodName, "/grpc.")
}
