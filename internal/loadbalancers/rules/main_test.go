// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rules_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/rules"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	scope        = "cluster-1"
	firewallPath = "/v1/vpc-firewall-rules"
	// latency is how long the rack takes for a request.
	latency = 50 * time.Millisecond
)

// world is a simulated rack, and a Keeper that works on the firewall of its VPC, in a bubble with a
// clock of its own.
type world struct {
	*testing.T
	sim     *oxidesim.Simulator
	keeper  *rules.Keeper
	vpc     string
	metrics *prometheus.Registry
	// around, if it is set, handles the Keeper's requests in place of the rack.
	around atomic.Pointer[handler]

	mu       sync.Mutex
	requests []request
	underWay int
}

type handler func(next http.Handler, rw http.ResponseWriter, r *http.Request)

// request is one about the firewall, and when the rack had it.
type request struct {
	method       string
	began, ended time.Time
}

// inWorld runs a test in a world in which a session acts.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, metrics: prometheus.NewRegistry()}
		var err error
		w.sim, err = oxidesim.New(oxidesim.Config{TimeScale: 1, Latency: latency})
		w.must(err)
		_, err = w.sim.AddInstance("demo", oxidesim.InstanceSeed{Name: "node-1"})
		w.must(err)
		w.vpc = w.rules()[0]["vpc_id"].(string)
		conns := make(chan net.Conn)
		server := &http.Server{Handler: w, ReadHeaderTimeout: time.Minute}
		served := make(chan struct{})
		listener := &pipes{conns: conns, closed: make(chan struct{})}
		go func() {
			defer close(served)
			_ = server.Serve(listener)
		}()
		host, err := oxide.ParseHost("http://127.0.0.1:1")
		w.must(err)
		token, err := oxide.StaticToken(oxidesim.DefaultToken)
		w.must(err)
		api, err := oxide.New(oxide.Config{
			Host: host, Token: token, Project: oxidesim.DefaultProject, Dial: listener.dial,
		}, prometheus.NewRegistry())
		w.must(err)
		w.keeper = rules.NewKeeper(context.Background(), rules.Config{API: api, Registerer: w.metrics})
		w.keeper.Begin(scope, time.Now())
		defer func() {
			w.keeper.Stop(context.Background())
			api.Close()
			_ = server.Close()
			<-served
			w.sim.Close()
		}()
		test(w)
	})
}

// pipes is a listener whose connections never leave the process.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.IPAddr{} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ServeHTTP implements http.Handler. It fails the test if two requests about the firewall are under way
// at once.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	began := time.Now()
	w.mu.Lock()
	w.underWay++
	if w.underWay > 1 {
		w.Errorf("%d requests about one firewall are under way", w.underWay)
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.underWay--
		w.requests = append(w.requests, request{r.Method, began, time.Now()})
	}()
	if around := w.around.Load(); around != nil {
		(*around)(w.sim.Handler(), rw, r)
		return
	}
	w.sim.Handler().ServeHTTP(rw, r)
}

// handle has the Keeper's requests handled by a function that may pass them on to the rack.
func (w *world) handle(around handler) { w.around.Store(&around) }

// heal ends that.
func (w *world) heal() { w.around.Store(nil) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// rules returns the rules that the VPC has.
func (w *world) rules() []map[string]any {
	w.Helper()
	var all []map[string]any
	for _, text := range w.sim.FirewallRules("default") {
		var rule map[string]any
		w.must(json.Unmarshal(text, &rule))
		all = append(all, rule)
	}
	return all
}

// kept returns the load balancers for which there are rules.
func (w *world) kept() []string {
	w.Helper()
	var names []string
	for _, rule := range w.rules() {
		if marker, ok := ownership.ParseMarker(rule["description"].(string)); ok {
			names = append(names, marker.Key.Name)
		}
	}
	slices.Sort(names)
	return names
}

// setRules replaces all rules as somebody else does.
func (w *world) setRules(all []map[string]any) {
	w.Helper()
	for _, rule := range all {
		for _, field := range []string{"id", "vpc_id", "time_created", "time_modified"} {
			delete(rule, field)
		}
	}
	body, err := json.Marshal(map[string]any{"rules": all})
	w.must(err)
	r := httptest.NewRequest(http.MethodPut, "http://rack"+firewallPath+"?vpc="+w.vpc,
		strings.NewReader(string(body)))
	r.Header.Set("Authorization", "Bearer "+oxidesim.DefaultToken)
	rw := httptest.NewRecorder()
	w.sim.Handler().ServeHTTP(rw, r)
	if rw.Code != http.StatusOK {
		w.Fatalf("write the rules: %d %s", rw.Code, rw.Body)
	}
}

// desired is what load balancers desire that each serve one port.
func desired(names ...string) ruleset.Desired { return desiredOf(scope, names...) }

func desiredOf(scope string, names ...string) ruleset.Desired {
	d := ruleset.Desired{Scopes: []string{scope}, Rules: make(map[string][]firewall.Rule)}
	for _, name := range names {
		need := ruleset.Need{
			Key: ownership.Key{Scope: scope, Name: name}, OwnerUID: "uid",
			Families: []ownership.Family{ownership.IPv4},
			Ports:    []firewall.Port{{Protocol: firewall.TCP, Number: 80}},
		}
		d.Rules[name] = need.Rules([]firewall.Match{{Type: "instance", Value: "node-1"}}, 1000)
	}
	return d
}

// desire has rules kept for load balancers, and for no others.
func (w *world) desire(names ...string) { w.desireAll(desired(names...)) }

func (w *world) desireAll(d ruleset.Desired) {
	w.keeper.Desire(scope, map[string]ruleset.Desired{w.vpc: d}, time.Now())
	w.keeper.Get(w.vpc, time.Now())
}

// state returns what the Keeper knows once nothing moves.
func (w *world) state() *rules.State {
	synctest.Wait()
	state := w.keeper.Get(w.vpc, time.Now())
	return &state
}

// isSettled fails if anything is not as desired.
func (w *world) isSettled() {
	w.Helper()
	state := w.state()
	if err := state.Problem(); err != nil || len(state.Differs)+len(state.Unsettled) > 0 {
		w.Errorf("differing: %v, unsettled: %v, %v", state.Differs, state.Unsettled, err)
	}
}

// log returns the requests so far, in their order.
func (w *world) log() []request {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.requests)
}

// writes returns those that write.
func (w *world) writes() []request {
	return slices.DeleteFunc(w.log(), func(r request) bool { return r.method != http.MethodPut })
}

// hasKept fails if there are other rules for load balancers.
func (w *world) hasKept(names ...string) {
	w.Helper()
	synctest.Wait()
	if kept := w.kept(); !slices.Equal(kept, names) {
		w.Errorf("rules are kept for %q, want %q", kept, names)
	}
}

// hasWritten fails if there were not so many writes.
func (w *world) hasWritten(n int) {
	w.Helper()
	if writes := w.writes(); len(writes) != n {
		w.Errorf("%d writes, want %d", len(writes), n)
	}
}

// everything selects all rules that are kept.
func everything(*ruleset.Stored) bool { return true }

func nameOf(i int) string { return fmt.Sprintf("default/web-%d", i) }

// metric returns the value of a metric.
func (w *world) metric(name string) float64 {
	w.Helper()
	families, err := w.metrics.Gather()
	w.must(err)
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetCounter().GetValue() + family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	w.Fatalf("there is no metric %s", name)
	return 0
}
