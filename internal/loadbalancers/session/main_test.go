// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"context"

	"fmt"

	"net"
	"net/http"
	"net/netip"
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
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const scope = "cluster-1"

// pipes is a listener whose connections never leave the process, so that a bubble of synctest knows
// when all wait.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
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

// world is a simulated rack with nodes, and a Manager that works on it, in a bubble with a clock of
// its own.
type world struct {
	*testing.T
	sim      *oxidesim.Simulator
	api      *oxide.Client
	registry *ownership.Registry
	manager  *session.Manager
	nodes    []string
	listener *pipes
	// keepsRules: the Manager keeps firewall rules.
	keepsRules bool
	// metrics are those of the Manager.
	metrics *prometheus.Registry
	// firewallReads and firewallWrites are the requests of the Manager about firewalls.
	firewallReads, firewallWrites atomic.Int64
	// around, if it is set, handles every request in place of the rack.
	around atomic.Pointer[func(http.ResponseWriter, *http.Request)]
}

// handle has every request handled by a function that may pass it on to the rack.
func (w *world) handle(around func(next http.Handler, rw http.ResponseWriter, r *http.Request)) {
	next := w.sim.Handler()
	handle := func(rw http.ResponseWriter, r *http.Request) { around(next, rw, r) }
	w.around.Store(&handle)
}

// ServeHTTP implements http.Handler.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == firewallRulesPath {
		w.firewall(r.Method).Add(1)
	}
	if around := w.around.Load(); around != nil {
		(*around)(rw, r)
		return
	}
	w.sim.Handler().ServeHTTP(rw, r)
}

// inWorld runs a test in a world with some nodes. Attaching and detaching take a second there, and
// requests 50 ms, as on a rack.
func inWorld(t *testing.T, nodes int, test func(w *world)) {
	t.Helper()
	inWorldOf(t, oxidesim.Config{}, nodes, test)
}

func inWorldOf(t *testing.T, config oxidesim.Config, nodes int, test func(w *world)) {
	t.Helper()
	config.TimeScale, config.Latency = 1, 50*time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, listener: newPipes()}
		sim, err := oxidesim.New(config)
		w.must(err)
		w.sim = sim
		for i := range nodes {
			node, err := sim.AddInstance("demo", oxidesim.InstanceSeed{Name: nodeName(i)})
			w.must(err)
			w.nodes = append(w.nodes, node.ID)
		}
		server := &http.Server{Handler: w, ReadHeaderTimeout: time.Minute}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(w.listener)
		}()
		w.connect()
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			w.manager.Stop(ctx)
			w.api.Close()
			_ = server.Close()
			<-served
			sim.Close()
			time.Sleep(5 * time.Minute) // readings outlive those who waited for them
		}()
		test(w)
	})
}

func nodeName(i int) string { return fmt.Sprintf("node-%d", i+1) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// connect makes a Manager, as a backend that has just started has one.
func (w *world) connect() {
	w.Helper()
	host, err := oxide.ParseHost("http://127.0.0.1:1")
	w.must(err)
	token, err := oxide.StaticToken(oxidesim.DefaultToken)
	w.must(err)
	w.api, err = oxide.New(oxide.Config{
		Host: host, Token: token, Project: oxidesim.DefaultProject, Dial: w.listener.dial,
	}, prometheus.NewRegistry())
	w.must(err)
	w.registry, w.metrics = &ownership.Registry{}, prometheus.NewRegistry()
	inventory := instances.NewInventory(w.api, nobody{})
	w.manager = session.NewManager(w.Context(), session.Config{
		API: w.api, Inventory: instances.NewFinder(w.api, inventory), Watcher: inventory,
		FloatingIPs: inventory.FloatingIPs(),
		Registry:    w.registry, Registerer: w.metrics,
		ManageFirewall: w.keepsRules, FirewallPriority: 1000,
	})
}

// nobody knows no load balancer's address: external addresses of nodes are not tested here.
type nobody struct{}

func (nobody) IsLoadBalancerAddress(_, _, _ string, _ netip.Addr) bool { return false }
func (nobody) Complete() bool                                          { return true }

// owner is a client of a session, and publishes what its states ask it to publish.
type owner struct {
	*world
	session *session.Session
	// delay is how long a publication takes; stubborn: it publishes nothing.
	delay    time.Duration
	stubborn bool
	done     chan struct{}
	// onState is called with each state; nil: it is not.
	onState func(*session.State)
	// publications are those that are on their way.
	publications sync.WaitGroup

	mu       sync.Mutex
	desired  map[ownership.Key]*session.Desired
	states   map[ownership.Key]*session.State
	released map[ownership.Key]bool
	actions  []session.Action
	// journal has what each load balancer published, and since when.
	journal map[ownership.Key][]publication
	orphans []session.LoadBalancer
	unused  []session.KeptRule
	inSync  bool
	err     error
}

type publication struct {
	at    time.Time
	addrs []netip.Addr
}

// open opens a session, sends all nodes as healthy candidates, and reads what comes.
func (w *world) open() *owner {
	w.Helper()
	return w.openWith(session.Opening{Scope: scope})
}

func (w *world) openWith(opening session.Opening) *owner {
	w.Helper()
	s, err := w.manager.Open(opening)
	w.must(err)
	o := &owner{
		world: w, session: s, delay: 20 * time.Millisecond, done: make(chan struct{}),
		desired: make(map[ownership.Key]*session.Desired),
		states:  make(map[ownership.Key]*session.State), released: make(map[ownership.Key]bool),
		journal: make(map[ownership.Key][]publication),
	}
	go o.read()
	for i, id := range w.nodes {
		o.send(session.Item{Candidate: &health.Observation{
			InstanceID: id, Name: nodeName(i), Readiness: health.Ready,
		}})
	}
	return o
}

func (o *owner) send(item session.Item) {
	o.Helper()
	if err := o.session.Send(context.Background(), item); err != nil {
		o.Errorf("send: %v", err)
	}
}

// sync ends the snapshot.
func (o *owner) sync() *owner {
	o.Helper()
	o.send(session.Item{InSync: true})
	return o
}

// read reads events, and publishes, until the session ends.
func (o *owner) read() {
	defer close(o.done)
	for {
		event, err := o.session.Next(context.Background())
		if err != nil {
			o.mu.Lock()
			o.err = err
			o.mu.Unlock()
			return
		}
		o.mu.Lock()
		switch {
		case event.State != nil:
			if o.onState != nil {
				o.onState(event.State)
			}
			o.states[event.State.Key] = event.State
			o.publications.Go(func() { o.publish(event.State) })
		case event.Action != nil:
			o.actions = append(o.actions, *event.Action)
		case event.Released != nil:
			o.released[event.Released.Key] = true
		case event.Orphans != nil:
			o.orphans = *event.Orphans
		case event.FirewallOrphans != nil:
			o.unused = *event.FirewallOrphans
		case event.InSync:
			o.inSync = true
		}
		o.mu.Unlock()
	}
}

// publish writes what a state asks for, after a while.
func (o *owner) publish(state *session.State) {
	time.Sleep(o.delay)
	o.mu.Lock()
	d := o.desired[state.Key]
	latest := o.states[state.Key]
	if o.stubborn || d == nil || latest != state || slices.Equal(d.Published, state.Publish) {
		o.mu.Unlock()
		return
	}
	next := *d
	next.Published, next.Generation = slices.Clone(state.Publish), d.Generation+1
	o.desired[state.Key] = &next
	o.journal[state.Key] = append(o.journal[state.Key], publication{time.Now(), next.Published})
	o.mu.Unlock()
	_ = o.session.Send(context.Background(), session.Item{LoadBalancer: &next})
}

// want desires a load balancer with TCP ports, after edit was applied to it.
func (o *owner) want(name string, edit func(*session.Desired), ports ...int) ownership.Key {
	o.Helper()
	key := ownership.Key{Scope: scope, Name: name}
	o.mu.Lock()
	d := session.Desired{
		Key: key, OwnerUID: "uid-of-" + strings.ReplaceAll(name, "/", "-"), Created: time.Now(),
		Addresses: []plan.Desired{{Family: ownership.IPv4}},
	}
	if known := o.desired[key]; known != nil {
		d = *known
		d.Addresses = slices.Clone(d.Addresses) // what was sent is the session's
	}
	d.Generation++
	if len(ports) > 0 {
		d.Ports = nil
	}
	for _, port := range ports {
		d.Ports = append(d.Ports, plan.Port{Protocol: firewall.TCP, Number: port})
	}
	if edit != nil {
		edit(&d)
	}
	o.desired[key] = &d
	o.mu.Unlock()
	o.send(session.Item{LoadBalancer: &d})
	return key
}

// observe says something else about a node.
func (o *owner) observe(node int, edit func(*health.Observation)) {
	o.Helper()
	c := &health.Observation{InstanceID: o.nodes[node], Name: nodeName(node), Readiness: health.Ready}
	edit(c)
	o.send(session.Item{Candidate: c})
}

func silent(c *health.Observation)   { c.Readiness = health.Unknown }
func excluded(c *health.Observation) { c.Exclusion = "has the label exclude" }

// state returns the latest state of a load balancer, once all wait.
func (o *owner) state(key ownership.Key) *session.State {
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.states[key]
}

// await waits until something holds, and returns how long that took.
func (w *world) await(limit time.Duration, what string, holds func() bool) time.Duration {
	w.Helper()
	began := time.Now()
	for {
		synctest.Wait()
		if holds() {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			w.Fatalf("%s: not within %s", what, limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// settled waits until a load balancer is as desired, on one address that is attached once, and
// returns that.
func (o *owner) settled(key ownership.Key) session.Address {
	o.Helper()
	var found session.Address
	o.await(2*time.Minute, "the end of changes of "+key.Name, func() bool {
		s := o.state(key)
		if s == nil || s.Phase != session.PhaseReady || len(s.Addresses) != 1 ||
			s.Addresses[0].Attached.InstanceID == "" {
			return false
		}
		found = s.Addresses[0]
		o.mu.Lock()
		defer o.mu.Unlock()
		return slices.Equal(o.desired[key].Published, s.Publish)
	})
	ip := o.ip(found.ID)
	if ip.InstanceID != found.Attached.InstanceID || ip.AttachState != "attached" {
		o.Fatalf("%s: the state says %+v, the rack has %+v", key.Name, found, ip)
	}
	return found
}

// ip returns a floating IP of the rack.
func (w *world) ip(id string) oxidesim.FloatingIP {
	for _, ip := range w.sim.FloatingIPs() {
		if ip.ID == id {
			return ip
		}
	}
	return oxidesim.FloatingIP{}
}

// sled returns the serial number of the sled that a node is on.
func (w *world) sled(node int) string {
	for _, instance := range w.sim.Instances() {
		if instance.ID == w.nodes[node] {
			return instance.Sled
		}
	}
	return ""
}

// node returns the number of the node with an instance id.
func (w *world) node(instance string) int { return slices.Index(w.nodes, instance) }

// close ends the session, and waits for its reader.
func (o *owner) close() {
	o.session.Close()
	<-o.done
	o.publications.Wait()
}

// changes counts the requests for changes on the rack.
func (w *world) changes() int {
	n := 0
	for _, operation := range []string{"create", "update", "delete", "attach", "detach"} {
		n += w.sim.Count("floating_ip_" + operation)
	}
	return n
}
