// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// The test binary plays the program when it is told to, so that the tests work with a real process.
func TestMain(m *testing.M) {
	if os.Getenv("PLAY_OXIDE_BACKEND") != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(backend.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)) //nolint:gocritic // as main does
	}
	os.Exit(m.Run())
}

// process is a running oxide-backend.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *logBuffer
	socket string
	health string
	conn   *grpc.ClientConn
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func command(log io.Writer, env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), append([]string{"PLAY_OXIDE_BACKEND=1"}, env...)...)
	cmd.Stderr = log
	return cmd
}

func start(t *testing.T, host string, args ...string) *process {
	t.Helper()
	dir, err := os.MkdirTemp("", "ob")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &process{
		t: t, log: &logBuffer{}, socket: filepath.Join(dir, "s", "b.sock"), health: freeAddress(t),
	}
	p.cmd = command(p.log,
		[]string{
			"OXIDE_HOST=" + host, "OXIDE_TOKEN=" + oxidesim.DefaultToken, "OXIDE_PROJECT=demo",
		},
		append([]string{
			"--listen", "unix://" + p.socket, "--health-listen", p.health, "--log-level", "debug",
		}, args...)...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	p.conn, err = grpc.NewClient("unix://"+p.socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.conn.Close() })
	p.await("live", func() bool { return p.get("/livez") == http.StatusOK })
	return p
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// get returns the status of a GET on the health address, 0 if there is no answer.
func (p *process) get(path string) int {
	resp, err := http.Get("http://" + p.health + path)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func (p *process) await(what string, holds func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			p.t.Fatalf("waited in vain until it is %s; its log:\n%s", what, p.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (p *process) awaitReady() {
	p.t.Helper()
	p.await("ready", func() bool { return p.get("/readyz") == http.StatusOK })
}

// stop sends SIGTERM and returns the exit code.
func (p *process) stop() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

func TestServesItsAPIOnAPrivateSocket(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	p := start(t, rack.URL)
	p.awaitReady()
	ctx := t.Context()

	info, err := backendv1.NewBackendServiceClient(p.conn).GetInfo(ctx, &backendv1.GetInfoRequest{})
	if err != nil || info.GetProject().GetName() != "demo" || info.GetSilo().GetId() == "" {
		t.Errorf("GetInfo: %v, %v", info, err)
	}
	for _, service := range []string{"", "oxide.backend.v1.BackendService"} {
		health, err := healthv1.NewHealthClient(p.conn).Check(ctx,
			&healthv1.HealthCheckRequest{Service: service})
		if err != nil || health.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v", service, health, err)
		}
	}
	stream, err := reflectionv1.NewServerReflectionClient(p.conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	}); err != nil {
		t.Fatal(err)
	}
	listed, err := stream.Recv()
	if err != nil || !strings.Contains(listed.String(), "oxide.backend.v1.LoadBalancerService") {
		t.Errorf("reflection: %v, %v", listed, err)
	}
	for file, want := range map[string]os.FileMode{p.socket: 0o600, filepath.Dir(p.socket): 0o700} {
		if stat, err := os.Stat(file); err != nil || stat.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", file, stat.Mode(), err)
		}
	}
}

// An external subnet is sought among those, and not among the floating IPs.
func TestAnExternalSubnetIsNoFloatingIP(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	p := start(t, rack.URL)
	ctx := t.Context()
	addresses := backendv1.NewAddressServiceClient(p.conn)
	for source, says := range map[backendv1.AddressSource]string{
		backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP:     "there is no floating IP public",
		backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET: "there is no external subnet public",
	} {
		_, err := addresses.ReleaseAddress(ctx, &backendv1.ReleaseAddressRequest{
			Source: source, Resource: "public",
		})
		if st := status.Convert(err); st.Code() != codes.FailedPrecondition || !strings.Contains(st.Message(), says) {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// What may heal leaves the program running and not ready, and is told in one line.
func TestNotReadyUntilItHeals(t *testing.T) {
	for _, tc := range []struct {
		name    string
		config  oxidesim.Config
		breakIt func(r *oxidesim.Server) error
		heal    func(r *oxidesim.Server) error
		says    string
	}{
		{
			name:    "role revoked",
			breakIt: func(r *oxidesim.Server) error { return r.SetSiloRole("demo", "none") },
			heal:    func(r *oxidesim.Server) error { return r.SetSiloRole("demo", "collaborator") },
			says:    "--oxide-project or OXIDE_PROJECT does not exist, or the token has no role",
		},
		{
			name: "token unknown",
			breakIt: func(r *oxidesim.Server) error {
				r.RevokeToken(oxidesim.DefaultToken)
				return nil
			},
			heal: func(r *oxidesim.Server) error {
				_, err := r.AddToken("demo", oxidesim.DefaultToken)
				return err
			},
			says: "Oxide rejects the token",
		},
		{
			name:   "a rack older than the client",
			config: oxidesim.Config{APIVersion: "2026032500.0.0"},
			says:   "the rack at --oxide-host or OXIDE_HOST is older than the Oxide API version",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			rack := oxidesim.Start(t, tc.config)
			if tc.breakIt != nil {
				if err := tc.breakIt(rack); err != nil {
					t.Fatal(err)
				}
			}
			p := start(t, rack.URL)
			p.await("told why it is not ready", func() bool {
				return strings.Contains(p.log.String(), tc.says)
			})
			if got := p.get("/readyz"); got != http.StatusServiceUnavailable {
				t.Errorf("/readyz answers %d", got)
			}
			if got := p.get("/livez"); got != http.StatusOK {
				t.Errorf("/livez answers %d", got)
			}
			if tc.heal == nil {
				return
			}
			if err := tc.heal(rack); err != nil {
				t.Fatal(err)
			}
			p.awaitReady()
		})
	}
}

// A working connection is proven every half minute only, but a call that finds it broken is
// believed.
func TestAFailedCallMakesItNotReady(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	p := start(t, rack.URL)
	p.awaitReady()
	if err := rack.SetSiloRole("demo", "none"); err != nil {
		t.Fatal(err)
	}
	instances := backendv1.NewInstanceServiceClient(p.conn)
	if _, err := instances.ListInstances(t.Context(), &backendv1.ListInstancesRequest{}); err == nil {
		t.Error("a list without a role succeeds")
	}
	p.await("not ready any more", func() bool {
		return p.get("/readyz") == http.StatusServiceUnavailable
	})
}

func TestTheTokenIsInNoLogLine(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	p := start(t, rack.URL)
	p.awaitReady()
	rack.RevokeToken(oxidesim.DefaultToken)
	instances := backendv1.NewInstanceServiceClient(p.conn)
	if _, err := instances.ListInstances(t.Context(), &backendv1.ListInstancesRequest{}); err == nil ||
		strings.Contains(err.Error(), oxidesim.DefaultToken) {
		t.Errorf("got %v", err)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if log := p.log.String(); strings.Contains(log, oxidesim.DefaultToken) {
		t.Errorf("the log holds the token:\n%s", log)
	} else if !strings.Contains(log, "OXIDE_CREDENTIALS_REJECTED") {
		t.Errorf("the log does not tell of the failed call:\n%s", log)
	}
}

func TestSIGTERMEndsInOrder(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	metrics := freeAddress(t)
	p := start(t, rack.URL, "--metrics-listen", metrics)
	p.awaitReady()
	if _, err := rack.AddFault(oxidesim.Fault{
		Operation: "floating_ip_list", LatencyMS: 500,
	}); err != nil {
		t.Fatal(err)
	}
	inFlight := make(chan error, 1)
	go func() {
		_, err := backendv1.NewLoadBalancerServiceClient(p.conn).
			ListLoadBalancers(context.Background(), &backendv1.ListLoadBalancersRequest{})
		inFlight <- err
	}()
	p.await("working on a call", func() bool {
		const started = `oxide_backend_grpc_server_started_total{` +
			`grpc_method="ListLoadBalancers",` +
			`grpc_service="oxide.backend.v1.LoadBalancerService",grpc_type="unary"} 1`
		return strings.Contains(read(t, "http://"+metrics+"/metrics"), started)
	})
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d; log:\n%s", code, p.log)
	}
	if err := <-inFlight; err != nil {
		t.Errorf("the call in flight was cut off: %v", err)
	}
	if _, err := os.Stat(p.socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func read(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestASocketLeftBehindIsRecovered(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	p := start(t, rack.URL)
	p.awaitReady()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	if _, err := os.Stat(p.socket); err != nil {
		t.Fatalf("the test needs a socket left behind: %v", err)
	}
	again := command(p.log, p.cmd.Env, p.cmd.Args[1:]...)
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = again.Process.Kill()
		_ = again.Wait()
	}()
	p.awaitReady()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := backendv1.NewBackendServiceClient(p.conn).GetInfo(ctx, &backendv1.GetInfoRequest{})
	if err != nil {
		t.Error(err)
	}
	var stderr bytes.Buffer
	second := command(&stderr, p.cmd.Env, append(p.cmd.Args[1:], "--health-listen=")...)
	if err := second.Run(); err == nil || second.ProcessState.ExitCode() != 1 ||
		!strings.Contains(stderr.String(), "another process listens") {
		t.Errorf("a second backend on the socket: %v\n%s", err, stderr.String())
	}
}

func TestEndsWhenTheParentsPipeDoes(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Close() }()
	dir := t.TempDir()
	stderr, child, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(child, []string{
		"OXIDE_HOST=" + rack.URL, "OXIDE_TOKEN=" + oxidesim.DefaultToken, "OXIDE_PROJECT=demo",
	}, "--listen", "unix://"+filepath.Join(dir, "s", "b"), "--health-listen=", "--exit-on-eof-fd=3")
	cmd.ExtraFiles = []*os.File{reader}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = reader.Close(), child.Close()
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), "msg=ready") {
	}
	_ = writer.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestAPortInUseEndsTheStart(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	var stderr bytes.Buffer
	cmd := command(&stderr, []string{
		"OXIDE_HOST=https://silo.example.com", "OXIDE_TOKEN=x", "OXIDE_PROJECT=demo",
	}, "--listen", "unix://"+filepath.Join(t.TempDir(), "s", "b"), "--health-listen=",
		"--metrics-listen", fmt.Sprint(listener.Addr()))
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 1 ||
		!strings.Contains(stderr.String(), "oxide-backend: --metrics-listen: cannot serve") {
		t.Errorf("got %v\n%s", err, stderr.String())
	}
}
