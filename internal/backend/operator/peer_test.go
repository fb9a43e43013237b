// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// peer is a backend with firewall rules of several scopes, as the API describes it.
type peer struct {
	backendv1.UnimplementedBackendServiceServer
	backendv1.UnimplementedFirewallServiceServer

	socket string
	acting []string
	// fails is what every call ends with; nil: nothing.
	fails error
	// shown is called after rules were shown, and before they are removed; removing while they are.
	shown, removing func()

	mu    sync.Mutex
	rules []*backendv1.FirewallRule
	// pages counts the pages that were asked for, and writes the requests to remove rules.
	pages, writes int
}

func newPeer(t *testing.T, rules ...*backendv1.FirewallRule) *peer {
	t.Helper()
	dir, err := os.MkdirTemp("", "backend")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &peer{socket: filepath.Join(dir, "b.sock"), acting: []string{"c1"}, rules: rules}
	listener, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	backendv1.RegisterBackendServiceServer(server, p)
	backendv1.RegisterFirewallServiceServer(server, p)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return p
}

// rule is one of the scope c1, changed by the given functions.
func rule(name string, change ...func(*backendv1.FirewallRule)) *backendv1.FirewallRule {
	r := &backendv1.FirewallRule{
		VpcId: "vpc-1", VpcName: "default", Name: name,
		Key: &backendv1.LoadBalancerKey{Scope: "c1", Name: "shop/" + name}, OwnerUid: "uid-" + name,
		Family: backendv1.IpFamily_IP_FAMILY_IPV4, Protocols: []backendv1.Protocol{backendv1.Protocol_PROTOCOL_TCP},
		Ports: []*backendv1.PortRange{{FirstPort: 80, LastPort: 80}}, InstanceNames: []string{"node-1", "node-2"},
		Priority: 1000,
	}
	for _, c := range change {
		c(r)
	}
	return r
}

func orphan(r *backendv1.FirewallRule) { r.Orphaned = true }

func fail(code codes.Code, reason, message string) error {
	s, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{
		Domain: "oxide.computer", Reason: reason, Metadata: map[string]string{"request_id": "req-1"},
	})
	if err != nil {
		panic(err)
	}
	return s.Err()
}

func (p *peer) GetInfo(context.Context, *backendv1.GetInfoRequest) (*backendv1.GetInfoResponse, error) {
	if p.fails != nil {
		return nil, p.fails
	}
	return &backendv1.GetInfoResponse{ActingScopes: p.acting}, nil
}

// check fails as every call does that needs a session.
func (p *peer) check(scope string) error {
	switch {
	case p.fails != nil:
		return p.fails
	case !slices.Contains(p.acting, scope):
		return fail(codes.FailedPrecondition, "SESSION_REQUIRED", "the session of "+scope+" is not here")
	}
	return nil
}

// of returns the rules of a scope that a condition holds for, in order. The caller holds the lock.
func (p *peer) of(scope string, is func(*backendv1.FirewallRule) bool) []*backendv1.FirewallRule {
	found := slices.DeleteFunc(slices.Clone(p.rules), func(r *backendv1.FirewallRule) bool {
		return r.GetKey().GetScope() != scope || !is(r)
	})
	slices.SortFunc(found, func(a, b *backendv1.FirewallRule) int {
		return cmp.Or(cmp.Compare(a.GetVpcName(), b.GetVpcName()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return found
}

func (p *peer) ListFirewallRules(
	_ context.Context, request *backendv1.ListFirewallRulesRequest,
) (*backendv1.ListFirewallRulesResponse, error) {
	if err := p.check(request.GetScope()); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pages++
	found := p.of(request.GetScope(), func(r *backendv1.FirewallRule) bool {
		return r.GetOrphaned() || !request.GetOrphanedOnly()
	})
	begin, _ := strconv.Atoi(request.GetPageToken())
	end := min(begin+int(request.GetPageSize()), len(found))
	response := &backendv1.ListFirewallRulesResponse{
		Rules: found[begin:end],
		Firewalls: []*backendv1.VpcFirewall{{
			VpcId: "vpc-1", VpcName: "default", RuleCount: int32(len(p.rules)),
		}, {
			VpcId: "vpc-2", VpcName: "edge", RuleCount: 1, Problem: "the role is too small",
		}},
	}
	if end < len(found) {
		response.NextPageToken = strconv.Itoa(end)
	}
	return response, nil
}

func (p *peer) RemoveFirewallRules(
	_ context.Context, request *backendv1.RemoveFirewallRulesRequest,
) (*backendv1.RemoveFirewallRulesResponse, error) {
	if err := p.check(request.GetScope()); err != nil {
		return nil, err
	}
	if request.GetDryRun() && p.shown != nil {
		defer p.shown()
	}
	if !request.GetDryRun() && p.removing != nil {
		defer p.removing()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	found := p.of(request.GetScope(), func(r *backendv1.FirewallRule) bool {
		return request.GetAll() != nil || request.GetOrphaned() != nil && r.GetOrphaned() ||
			slices.Contains(request.GetNamed().GetNames(), r.GetName())
	})
	if !request.GetDryRun() {
		p.writes++
		p.rules = slices.DeleteFunc(p.rules, func(r *backendv1.FirewallRule) bool {
			return slices.Contains(found, r)
		})
	}
	return &backendv1.RemoveFirewallRulesResponse{Rules: found}, nil
}

// left returns the names of the rules that are there.
func (p *peer) left() (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rules {
		names = append(names, r.GetName())
	}
	return names
}

// ended is how a command ended.
type ended struct {
	stdout, stderr string
	err            error
}

// run runs a subcommand of firewall, which asks the peer.
func (p *peer) run(t *testing.T, stdin io.Reader, args ...string) ended {
	t.Helper()
	return runAt(t, "unix://"+p.socket, stdin, args...)
}

func runAt(t *testing.T, address string, stdin io.Reader, args ...string) ended {
	t.Helper()
	return runIn(t.Context(), address, stdin, args...)
}

// runIn is runAt for a context, which ends when somebody presses Ctrl-C.
func runIn(ctx context.Context, address string, stdin io.Reader, args ...string) ended {
	var stdout, stderr bytes.Buffer
	cmd := newFirewallCommand(address)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	err := cmd.ExecuteContext(ctx)
	return ended{stdout.String(), stderr.String(), err}
}

// failed checks that a command failed with an exit code, and one line that has some parts.
func (e ended) failed(t *testing.T, code int, parts ...string) {
	t.Helper()
	if e.err == nil {
		t.Fatalf("it succeeded:\n%s", e.stdout)
	}
	got := 1
	var usage *process.UsageError
	var coded interface{ ExitCode() int }
	switch {
	case errors.As(e.err, &usage):
		got = 2
	case errors.As(e.err, &coded):
		got = coded.ExitCode()
	}
	if got != code {
		t.Errorf("exit code %d, want %d: %v", got, code, e.err)
	}
	if strings.Contains(e.err.Error(), "\n") {
		t.Errorf("it is more than one line: %q", e.err)
	}
	for _, part := range parts {
		if !strings.Contains(e.err.Error(), part) {
			t.Errorf("the error has no %q: %v", part, e.err)
		}
	}
}
