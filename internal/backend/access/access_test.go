// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package access

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/access/accesstest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mutates is what the backend has for it, of the calls in these tests.
func mutates(method string) bool {
	return !strings.Contains(method, "/Get") && !strings.Contains(method, "/List")
}

// serve serves the API, of which each call that is allowed is answered UNIMPLEMENTED.
func serve(t *testing.T, policy *Policy, tlsCredentials credentials.TransportCredentials,
	listener net.Listener,
) {
	t.Helper()
	denied := func(err error) error {
		if e := new(DeniedError); errors.As(err, &e) {
			return status.Error(codes.PermissionDenied, err.Error())
		}
		return err
	}
	server := grpc.NewServer(append([]grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo,
			handler grpc.UnaryHandler,
		) (any, error) {
			answer, err := handler(ctx, req)
			return answer, denied(err)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo,
			handler grpc.StreamHandler,
		) error {
			return denied(handler(srv, stream))
		}),
	}, policy.ServerOptions(tlsCredentials, mutates,
		status.Error(codes.ResourceExhausted, "too many"))...)...)
	backendv1.RegisterBackendServiceServer(server, backendv1.UnimplementedBackendServiceServer{})
	backendv1.RegisterInstanceServiceServer(server, backendv1.UnimplementedInstanceServiceServer{})
	backendv1.RegisterAddressServiceServer(server, backendv1.UnimplementedAddressServiceServer{})
	backendv1.RegisterFirewallServiceServer(server, backendv1.UnimplementedFirewallServiceServer{})
	backendv1.RegisterLoadBalancerServiceServer(server, sessions{})
	healthv1.RegisterHealthServer(server, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// sessions reads the first item of a session.
type sessions struct {
	backendv1.UnimplementedLoadBalancerServiceServer
}

func (s sessions) SyncLoadBalancers(stream grpc.BidiStreamingServer[
	backendv1.SyncLoadBalancersRequest, backendv1.SyncLoadBalancersResponse]) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	return s.UnimplementedLoadBalancerServiceServer.SyncLoadBalancers(stream)
}

func connect(t *testing.T, target string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// calls are one or more of each kind of call, with the right that it takes.
var calls = []struct {
	name, right string
	call        func(ctx context.Context, conn *grpc.ClientConn) error
}{
	{"GetInfo", "read", func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := backendv1.NewBackendServiceClient(conn).GetInfo(ctx, new(backendv1.GetInfoRequest))
		return err
	}},
	{"WatchInstances", "read", func(ctx context.Context, conn *grpc.ClientConn) error {
		watch, err := backendv1.NewInstanceServiceClient(conn).
			WatchInstances(ctx, new(backendv1.WatchInstancesRequest))
		if err == nil {
			_, err = watch.Recv()
		}
		return err
	}},
	{"ReserveAddress", "addresses", func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := backendv1.NewAddressServiceClient(conn).
			ReserveAddress(ctx, new(backendv1.ReserveAddressRequest))
		return err
	}},
	{"AttachAddress", "addresses", func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := backendv1.NewAddressServiceClient(conn).
			AttachAddress(ctx, new(backendv1.AttachAddressRequest))
		return err
	}},
	{"ReleaseAddress", "all", func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := backendv1.NewAddressServiceClient(conn).
			ReleaseAddress(ctx, new(backendv1.ReleaseAddressRequest))
		return err
	}},
	{"AdoptAddress", "scope:mine", func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := backendv1.NewAddressServiceClient(conn).AdoptAddress(ctx, &backendv1.AdoptAddressRequest{
			Key: &backendv1.LoadBalancerKey{Scope: "mine", Name: "a"},
		})
		return err
	}},
	{"RebalanceLoadBalancers", "scope:mine", rebalance(false)},
	{"a rebalance on trial", "read", rebalance(true)},
	{"RemoveFirewallRules", "scope:mine", func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := backendv1.NewFirewallServiceClient(conn).
			RemoveFirewallRules(ctx, &backendv1.RemoveFirewallRulesRequest{Scope: "mine"})
		return err
	}},
	{"an acting session", "scope:mine", session(&backendv1.OpenSession{Scope: "mine"})},
	{"a session that takes another scope over", "scope:mine,scope:other",
		session(&backendv1.OpenSession{Scope: "mine", AdoptedScopes: []string{"other"}})},
	{"a session that observes", "read", session(&backendv1.OpenSession{Scope: "mine", ObserveOnly: true})},
}

func rebalance(dryRun bool) func(context.Context, *grpc.ClientConn) error {
	return func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := backendv1.NewLoadBalancerServiceClient(conn).RebalanceLoadBalancers(ctx,
			&backendv1.RebalanceLoadBalancersRequest{Scope: "mine", DryRun: dryRun})
		return err
	}
}

func session(open *backendv1.OpenSession) func(context.Context, *grpc.ClientConn) error {
	return func(ctx context.Context, conn *grpc.ClientConn) error {
		stream, err := backendv1.NewLoadBalancerServiceClient(conn).SyncLoadBalancers(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&backendv1.SyncLoadBalancersRequest{
			Item: &backendv1.SyncLoadBalancersRequest_Open{Open: open},
		}); err != nil && !errors.Is(err, io.EOF) { // then the stream has ended already, and Recv says why
			return err
		}
		_, err = stream.Recv()
		return err
	}
}

// isAllowed reports whether a call reached the API.
func isAllowed(t *testing.T, err error) bool {
	t.Helper()
	switch status.Code(err) {
	case codes.Unimplemented:
		return true
	case codes.PermissionDenied:
	default:
		t.Errorf("the call failed: %v", err)
	}
	return false
}

func TestACallTakesItsRightAndNoOther(t *testing.T) {
	uid := uint32(os.Geteuid())
	for _, tt := range []struct {
		rights  string
		allowed []string
	}{
		{"read", []string{"read"}},
		{"addresses", []string{"read", "addresses"}},
		{"scope:mine", []string{"read", "scope:mine"}},
		{"scope:other", []string{"read"}},
		{"scope:mine,scope:other", []string{"read", "scope:mine", "scope:other"}},
		{"all", []string{"read", "addresses", "scope:mine", "scope:other", "all"}},
	} {
		t.Run(tt.rights, func(t *testing.T) {
			// This process is none of the backend's own user, as far as the backend knows.
			clients, err := ParseClients([]string{identityOfUID(uid)[0] + "=" + tt.rights})
			if err != nil {
				t.Fatal(err)
			}
			conn := dialSocket(t, &Policy{UID: uid + 1, Clients: clients})
			for _, call := range calls {
				err := call.call(t.Context(), conn)
				want := strings.Contains(","+strings.Join(tt.allowed, ",")+",", ","+call.right+",")
				if got := isAllowed(t, err); got != want {
					t.Errorf("%s: allowed is %t, want %t (%v)", call.name, got, want, err)
				}
				if !want && !strings.Contains(status.Convert(err).Message(), "lacks the right ") {
					t.Errorf("%s: %v does not name the right that is missing", call.name, err)
				}
			}
		})
	}
}

func TestTheBackendsOwnUserMayDoEverything(t *testing.T) {
	conn := dialSocket(t, &Policy{UID: uint32(os.Geteuid())})
	for _, call := range calls {
		if err := call.call(t.Context(), conn); !isAllowed(t, err) {
			t.Errorf("%s: %v", call.name, err)
		}
	}
}

func TestWhoHasNoRightIsCountedAndRefusedWithARemedy(t *testing.T) {
	uid := uint32(os.Geteuid())
	refused := make(chan struct{}, 1)
	conn := dialSocket(t, &Policy{UID: uid + 1, Refused: func() { refused <- struct{}{} }})
	for _, call := range calls {
		err := call.call(t.Context(), conn)
		if isAllowed(t, err) || !strings.Contains(status.Convert(err).Message(), "run it as the user") {
			t.Errorf("%s: %v", call.name, err)
		}
	}
	<-refused
	if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), new(healthv1.HealthCheckRequest)); err != nil {
		t.Errorf("its health may be asked by all: %v", err)
	}
}

// A client with too many connections harms nobody but itself.
func TestConnectionsOfAClientAreBounded(t *testing.T) {
	uid := uint32(os.Geteuid())
	for _, tt := range []struct {
		name    string
		clients []string
		most    int
	}{
		{"one that may read", []string{identityOfUID(uid)[0] + "=read"}, maxConnections},
		{"one that may do nothing", nil, maxDeniedConnections},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clients, err := ParseClients(tt.clients)
			if err != nil {
				t.Fatal(err)
			}
			server := &serverCredentials{policy: &Policy{UID: uid + 1, Clients: clients}}
			listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "b.sock"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			accept := func() (net.Conn, error) {
				client, err := net.Dial("unix", listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = client.Close() })
				raw, err := listener.Accept()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = raw.Close() })
				conn, _, err := server.ServerHandshake(raw)
				return conn, err
			}
			var first net.Conn
			for range tt.most {
				conn, err := accept()
				if err != nil {
					t.Fatal(err)
				}
				first = conn
			}
			if _, err := accept(); err == nil {
				t.Errorf("connection %d is served", tt.most+1)
			}
			for range 2 {
				_ = first.Close()
			}
			if _, err := accept(); err != nil {
				t.Errorf("after one was closed: %v", err)
			}
			if _, err := accept(); err == nil {
				t.Error("a connection that is closed twice counts twice")
			}
		})
	}
}

// A greedy client has as many calls as it may have, over as many connections as it likes: one more
// is refused on each, until it has ended some.
func TestCallsOfAClientAreBounded(t *testing.T) {
	uid := uint32(os.Geteuid())
	for _, tt := range []struct {
		name    string
		clients []string
		most    int
	}{
		{"one that may read", []string{identityOfUID(uid)[0] + "=read"}, maxCalls},
		{"one that may do nothing", nil, maxDeniedCalls},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clients, err := ParseClients(tt.clients)
			if err != nil {
				t.Fatal(err)
			}
			policy := &Policy{UID: uid + 1, Clients: clients}
			path := filepath.Join(t.TempDir(), "b.sock")
			listener, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			serve(t, policy, nil, listener)
			conns := []*grpc.ClientConn{
				connect(t, "unix:"+path, insecure.NewCredentials()),
				connect(t, "unix:"+path, insecure.NewCredentials()),
			}
			ctx, end := context.WithCancel(t.Context())
			for i := range tt.most {
				watch, err := healthv1.NewHealthClient(conns[i%2]).Watch(ctx, new(healthv1.HealthCheckRequest))
				if err == nil {
					_, err = watch.Recv()
				}
				if err != nil {
					t.Fatalf("call %d: %v", i+1, err)
				}
			}
			check := func(i int) codes.Code {
				_, err := healthv1.NewHealthClient(conns[i]).Check(t.Context(), new(healthv1.HealthCheckRequest))
				return status.Code(err)
			}
			for i := range conns {
				if got := check(i); got != codes.ResourceExhausted {
					t.Errorf("call %d: %s", tt.most+1, got)
				}
			}
			end()
			for check(0) != codes.OK { // once the server knows
				if t.Context().Err() != nil {
					t.Fatal("what has ended still counts")
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
}

// The own user's calls are not counted: no number of them, and of nobody else's, is too many.
func TestCallsOfTheOwnUserAreNotBounded(t *testing.T) {
	conn := dialSocket(t, &Policy{UID: uint32(os.Geteuid())})
	for i := range 2 * maxCalls {
		watch, err := healthv1.NewHealthClient(conn).Watch(t.Context(), new(healthv1.HealthCheckRequest))
		if err == nil {
			_, err = watch.Recv()
		}
		if err != nil {
			t.Fatalf("call %d: %v", i+1, err)
		}
	}
}

func dialSocket(t *testing.T, policy *Policy) *grpc.ClientConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "b.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, policy, nil, listener)
	return connect(t, "unix:"+path, insecure.NewCredentials())
}

func certificatesIn(dir string) Certificates {
	return Certificates{
		CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"),
		ClientCAFile: filepath.Join(dir, "ca.crt"),
	}
}

func write(t *testing.T, files Certificates, server tls.Certificate, clients *accesstest.Authority) {
	t.Helper()
	clients.Write(t, server, files.CertFile, files.KeyFile, files.ClientCAFile)
}

// dialTLS serves on a loopback address, and returns how to connect with a certificate.
func dialTLS(t *testing.T, policy *Policy, server *accesstest.Authority, clients *accesstest.Authority,
) func(certificates ...tls.Certificate) *grpc.ClientConn {
	t.Helper()
	files := certificatesIn(t.TempDir())
	write(t, files, server.Issue(t, "", "backend.example.com", ""), clients)
	creds, err := files.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, policy, creds, listener)
	return func(certificates ...tls.Certificate) *grpc.ClientConn {
		return connect(t, listener.Addr().String(), credentials.NewTLS(&tls.Config{
			RootCAs: server.Pool(), ServerName: "backend.example.com", Certificates: certificates,
			MinVersion: tls.VersionTLS12,
		}))
	}
}

func TestACertificateGivesTheRightsOfItsNames(t *testing.T) {
	own := accesstest.NewAuthority(t)
	clients, err := ParseClients([]string{
		"spiffe://example.com/edge=scope:mine", "reader.example.com=read", "plain=all", "uid:0=all",
	})
	if err != nil {
		t.Fatal(err)
	}
	dial := dialTLS(t, &Policy{UID: uint32(os.Geteuid()), Clients: clients}, own, own)
	for _, tt := range []struct {
		name        string
		certificate tls.Certificate
		allowed     []string
	}{
		{"a URI", own.Issue(t, "", "", "spiffe://example.com/edge"), []string{"read", "scope:mine"}},
		{"a DNS name", own.Issue(t, "", "reader.example.com", ""), []string{"read"}},
		{"a common name", own.Issue(t, "plain", "", ""),
			[]string{"read", "addresses", "scope:mine", "scope:other", "all"}},
		{"a common name beside others", own.Issue(t, "plain", "stranger.example.com", ""), nil},
		{"a name that looks like a user", own.Issue(t, "uid:0", "", ""), nil},
		{"a name of nobody", own.Issue(t, "nobody", "", ""), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := dial(tt.certificate)
			for _, call := range calls {
				want := strings.Contains(","+strings.Join(tt.allowed, ",")+",", ","+call.right+",")
				if got := isAllowed(t, call.call(t.Context(), conn)); got != want {
					t.Errorf("%s: allowed is %t, want %t", call.name, got, want)
				}
			}
		})
	}
}

func TestWithoutACertificateOfTheAuthorityThereIsNoConnection(t *testing.T) {
	own, foreign := accesstest.NewAuthority(t), accesstest.NewAuthority(t)
	clients, err := ParseClients([]string{"ops=all"})
	if err != nil {
		t.Fatal(err)
	}
	dial := dialTLS(t, &Policy{Clients: clients}, own, own)
	for name, certificates := range map[string][]tls.Certificate{
		"none": nil, "one of another authority": {foreign.Issue(t, "ops", "", "")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := healthv1.NewHealthClient(dial(certificates...)).
				Check(t.Context(), new(healthv1.HealthCheckRequest))
			if status.Code(err) != codes.Unavailable {
				t.Errorf("got %v, want no connection", err)
			}
		})
	}
}

func TestReplacedCertificatesServeTheNextConnections(t *testing.T) {
	files := certificatesIn(t.TempDir())
	first, second := accesstest.NewAuthority(t), accesstest.NewAuthority(t)
	write(t, files, first.Issue(t, "first", "", ""), first)
	synctest.Test(t, func(t *testing.T) {
		loaded := &loadedCertificates{files: files}
		if err := loaded.load(time.Now()); err != nil {
			t.Fatal(err)
		}
		served := func() string {
			config := loaded.current(time.Now())
			return config.Certificates[0].Leaf.Subject.CommonName
		}
		write(t, files, second.Issue(t, "second", "", ""), second)
		if got := served(); got != "first" {
			t.Errorf("within a minute %s is served, want first", got)
		}
		time.Sleep(refreshInterval)
		if got := served(); got != "second" {
			t.Errorf("after a minute %s is served, want second", got)
		}
		if !loaded.current(time.Now()).ClientCAs.Equal(second.Pool()) {
			t.Error("the authority of the clients was not replaced")
		}
		if err := os.WriteFile(files.KeyFile, []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(refreshInterval)
		if got := served(); got != "second" {
			t.Errorf("with a key that cannot be used %s is served, want second", got)
		}
	})
}

func TestFaultyFilesAreNamedByTheirFlags(t *testing.T) {
	own := accesstest.NewAuthority(t)
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, files *Certificates)
		want   []string
	}{
		{"none given", func(_ *testing.T, files *Certificates) { *files = Certificates{} },
			[]string{"--tls-cert-file", "--tls-private-key-file", "--client-ca-file"}},
		{"no such file", func(_ *testing.T, files *Certificates) { files.ClientCAFile += "x" },
			[]string{"--client-ca-file", "no such file"}},
		{"no PEM", func(t *testing.T, files *Certificates) {
			if err := os.WriteFile(files.ClientCAFile, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"--client-ca-file", "no certificate in PEM form"}},
		{"the key of another", func(t *testing.T, files *Certificates) {
			other := certificatesIn(t.TempDir())
			write(t, other, own.Issue(t, "other", "", ""), own)
			files.KeyFile = other.KeyFile
		}, []string{"--tls-private-key-file", "does not match"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := certificatesIn(t.TempDir())
			write(t, files, own.Issue(t, "server", "", ""), own)
			tt.change(t, &files)
			_, err := files.Credentials()
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}
