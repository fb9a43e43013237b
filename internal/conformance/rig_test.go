// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/sanity"
)

// The test binary plays the real backend when it is told to.
func TestMain(m *testing.M) {
	if os.Getenv("PLAY_OXIDE_BACKEND") != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		os.Exit(backend.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)) //nolint:gocritic // as main does
	}
	// The runs mostly wait, so there are more at a time than there are processors.
	parallel := "16"
	if raceEnabled {
		parallel = "8"
	}
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// rig is a simulated rack with a real backend.
type rig struct {
	t      *testing.T
	rack   *oxidesim.Server
	dir    string
	socket string
	args   []string

	// reader makes a connection as a client that may only read; nil: there is none.
	reader func(context.Context) (net.Conn, error)

	mu      sync.Mutex
	process *exec.Cmd
	log     *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start starts a rack and a backend, which end with the test.
func start(t *testing.T, args ...string) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "sanity")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, socket: filepath.Join(dir, "s", "b.sock"), args: args, log: &lockedBuffer{}}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r.rack = oxidesim.Start(t, oxidesim.Config{})
	t.Cleanup(r.kill)
	r.run()
	return r
}

func (r *rig) run() {
	r.mu.Lock()
	defer r.mu.Unlock()
	args := append([]string{
		"--listen", "unix://" + r.socket, "--health-listen=", "--load-balancer-time-scale", "0.01",
	}, r.args...)
	r.process = exec.Command(os.Args[0], args...)
	r.process.Env = append(os.Environ(), "PLAY_OXIDE_BACKEND=1", "OXIDE_HOST="+r.rack.URL,
		"OXIDE_TOKEN="+oxidesim.DefaultToken, "OXIDE_PROJECT=demo")
	r.process.Stderr = r.log
	r.must(r.process.Start())
}

func (r *rig) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.process.Process.Kill()
	_ = r.process.Wait()
}

// restart ends the backend in order and starts it again.
func (r *rig) restart(context.Context) error {
	r.mu.Lock()
	err := r.process.Process.Signal(syscall.SIGTERM)
	if err == nil {
		err = r.process.Wait()
	}
	r.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%w; its log: %s", err, r.log)
	}
	r.run()
	return nil
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%v; the backend's log:\n%s", err, r.log)
	}
}

// isClean fails the test if a run has left something on the rack.
func (r *rig) isClean() {
	r.t.Helper()
	state := r.rack.State()
	if len(state.FloatingIPs) != 0 || len(state.ExternalSubnets) != 0 || len(state.Instances) != 0 {
		r.t.Errorf("left on the rack: %+v, %+v, %+v", state.FloatingIPs, state.ExternalSubnets, state.Instances)
	}
	for _, rule := range r.rack.FirewallRules("default") {
		if strings.Contains(string(rule), sanity.DefaultScope) {
			r.t.Errorf("left in the firewall: %s", rule)
		}
	}
}

// options are those of a run on the simulated rack.
func (r *rig) options(socket string) sanity.Options {
	return sanity.Options{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		FaultURL: r.rack.URL, Timeout: 3 * time.Minute, Settle: time.Minute,
	}
}

// selecting matches exactly the cases with these names.
func selecting(names ...string) *regexp.Regexp {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = regexp.QuoteMeta(name)
	}
	return regexp.MustCompile("^(" + strings.Join(quoted, "|") + ")$")
}

// failuresOf is what failed, for people.
func failuresOf(report *sanity.Report) string {
	var text bytes.Buffer
	for i := range report.Results {
		if report.Results[i].Outcome == sanity.Failed {
			_ = report.Results[i].WriteText(&text)
		}
	}
	return text.String()
}

func toAny(m proto.Message) *anypb.Any {
	packed, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return packed
}
