// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package connection

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
)

const (
	// firstReconnect and lastReconnect bound the pauses between attempts to reach a backend that
	// is not there. gRPC's own default grows to two minutes, far longer than a backend takes to
	// restart.
	firstReconnect = 100 * time.Millisecond
	lastReconnect  = time.Second

	// dialTimeout is generous for a unix socket, which answers or refuses at once.
	dialTimeout = 5 * time.Second
)

// Dial returns a connection to the backend at the unix socket with the given absolute path. It
// returns at once, whether a backend is there or not: the connection is made in the background and
// made again whenever it is lost, and a call waits for it until the deadline of its method. The
// connection is never left to go idle.
//
// There is no TLS: the file permissions of the socket and of its directory keep others out.
func Dial(socket string) (*grpc.ClientConn, error) {
	config, err := serviceConfigJSON(policies())
	if err != nil {
		return nil, fmt.Errorf("gRPC service config: %w", err)
	}
	// As a URL, because "%", "?" and "#" in a target are special to gRPC.
	target := (&url.URL{Scheme: "unix", Path: socket}).String()
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(config),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: firstReconnect, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastReconnect,
			},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithUnaryInterceptor(observe),
	)
	if err != nil {
		return nil, fmt.Errorf("gRPC connection to %s: %w", target, err)
	}
	conn.Connect()
	return conn, nil
}

// observe measures each call, all its repetitions included.
func observe(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	start := time.Now()
	err := invoke(ctx, method, req, reply, conn, options...)
	elapsed := time.Since(start)
	code := status.Code(err)
	callDuration.WithLabelValues(method, code.String()).Observe(elapsed.Seconds())
	klog.V(4).InfoS("Called oxide-backend", "method", method, "code", code, "duration", elapsed)
	return err
}
