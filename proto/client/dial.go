// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

const (
	// firstReconnect and lastReconnect bound the pauses between attempts to reach a backend that
	// is not there. gRPC's own default grows to two minutes, far longer than a backend takes to
	// restart.
	firstReconnect = 100 * time.Millisecond
	lastReconnect  = time.Second

	// dialTimeout is generous for a unix socket, which answers or refuses at once.
	dialTimeout = 5 * time.Second

	// A backend that sends nothing for keepaliveTime is sent a ping; one that does not answer it
	// within keepaliveTimeout loses the connection. Ten seconds are the least that gRPC allows. A
	// server has to permit it: by default gRPC's refuses pings more often than every five minutes.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 10 * time.Second

	// maxAnswer is the largest message that is accepted: a plan of 10,000 load balancers fits.
	maxAnswer = 64 << 20
)

// Option changes how Dial connects.
type Option func(*options)

type options struct {
	dial     func(context.Context) (net.Conn, error)
	observe  UnaryObserver
	activity *Activity
	grpc     []grpc.DialOption
}

// UnaryObserver is called after each unary call, with the full name of its method, its status code
// and how long it took, repetitions and waiting for a connection included.
type UnaryObserver func(method string, code codes.Code, elapsed time.Duration)

// WithUnaryObserver has each unary call observed.
func WithUnaryObserver(observe UnaryObserver) Option {
	return func(o *options) { o.observe = observe }
}

// WithActivity records in `activity` when the backend last answered.
func WithActivity(activity *Activity) Option {
	return func(o *options) { o.activity = activity }
}

// WithDialer makes each connection by `dial` instead of at the socket, for example through a
// tunnel.
func WithDialer(dial func(context.Context) (net.Conn, error)) Option {
	return func(o *options) { o.dial = dial }
}

// WithDialOptions adds options of gRPC, for example a stats handler that traces calls.
func WithDialOptions(add ...grpc.DialOption) Option {
	return func(o *options) { o.grpc = append(o.grpc, add...) }
}

// Dial returns a connection to the backend at the unix socket with the given absolute path. It
// returns at once, whether a backend is there or not: the connection is made in the background and
// made again whenever it is lost, and a call waits for it until the deadline of its method. The
// connection never becomes idle, and is lost when the backend is silent for 20 seconds although it
// was asked for a sign of life.
//
// There is no TLS: the file permissions of the socket and of its directory keep others out. Where they
// keep out this process, calls fail at once with ErrClientDenied, as they do where the backend itself
// refuses it; the connection is tried again all the same.
func Dial(socket string, opts ...Option) (*grpc.ClientConn, error) {
	// As a URL, because "%", "?" and "#" in a target are special to gRPC.
	target := (&url.URL{Scheme: "unix", Path: socket}).String()
	return connect(target, "unix", socket, insecure.NewCredentials(), opts)
}

// DialTLS is Dial for a backend that serves TCP, at HOST:PORT (its flag --tls-listen). The
// configuration needs a certificate of the client, whose names say what it may do (--client), and
// the authority that has signed the backend's; its ServerName is that of the backend's certificate,
// by default the host. For certificates that are replaced while the program runs, it has
// GetClientCertificate.
//
// A backend that does not accept the certificate is one that cannot be reached: calls end with
// UNAVAILABLE when their time is up.
func DialTLS(address string, config *tls.Config, opts ...Option) (*grpc.ClientConn, error) {
	host, _, err := net.SplitHostPort(address)
	switch {
	case err != nil, strings.ContainsAny(address, "/"):
		return nil, fmt.Errorf("%.100q is not of the form HOST:PORT", address)
	case len(config.Certificates) == 0 && config.GetClientCertificate == nil:
		return nil, fmt.Errorf("the backend at %s takes a certificate of its clients: give one in the TLS "+
			"configuration", address)
	}
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName = host
	}
	return connect("passthrough:///"+address, "tcp", address, credentials.NewTLS(config), opts)
}

// connect connects to a target, whose connections are made to an address of a network.
func connect(target, network, address string, creds credentials.TransportCredentials, opts []Option,
) (*grpc.ClientConn, error) {
	config, err := serviceConfigJSON(policies())
	if err != nil {
		return nil, fmt.Errorf("gRPC service config: %w", err)
	}
	o := options{activity: new(Activity)}
	o.dial = func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	for _, apply := range opts {
		apply(&o)
	}
	conn, err := grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultServiceConfig(config),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: firstReconnect, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastReconnect,
			},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return o.activity.dial(ctx, o.dial)
		}),
		grpc.WithUnaryInterceptor(o.unary),
		grpc.WithStreamInterceptor(o.stream),
	}, o.grpc...)...)
	if err != nil {
		return nil, fmt.Errorf("gRPC connection to %s: %w", target, err)
	}
	conn.Connect()
	return conn, nil
}

// unary measures a call, all its repetitions included, and makes its error an *Error.
func (o *options) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, callOptions ...grpc.CallOption,
) error {
	start := time.Now()
	ctx, connected, cancel := o.activity.whileConnecting(ctx)
	defer cancel()
	defer connected()
	err := o.activity.asError(ctx, invoke(ctx, method, req, reply, conn, callOptions...))
	if o.observe != nil {
		o.observe(method, status.Code(err), time.Since(start))
	}
	return err
}

// stream opens a stream whose errors are *Errors.
func (o *options) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn,
	method string, open grpc.Streamer, callOptions ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, connected, cancel := o.activity.whileConnecting(ctx)
	stream, err := open(ctx, desc, conn, method, callOptions...)
	connected()
	if err != nil {
		err = o.activity.asError(ctx, err)
		cancel()
		return nil, err
	}
	return &clientStream{ClientStream: stream, activity: o.activity, cancel: cancel}, nil
}

// clientStream makes the errors of a stream *Errors; io.EOF stays io.EOF.
type clientStream struct {
	grpc.ClientStream
	activity *Activity
	// cancel frees what belongs to the stream; it has ended.
	cancel func()
}

func (s *clientStream) SendMsg(m any) error { return AsError(s.ClientStream.SendMsg(m)) }

func (s *clientStream) RecvMsg(m any) error {
	err := s.activity.received(s.ClientStream.RecvMsg(m))
	if err != nil {
		s.cancel()
	}
	return err
}

func (s *clientStream) CloseSend() error { return AsError(s.ClientStream.CloseSend()) }
