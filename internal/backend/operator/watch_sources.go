// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// fact is one of the things that a line says of an object.
type fact struct{ name, value string }

// differences says what differs between two lists of facts.
func differences(before, after []fact) string {
	old := make(map[string]string)
	for _, f := range before {
		old[f.name] = f.value
	}
	var parts []string
	for _, f := range after {
		if was := old[f.name]; was != f.value {
			parts = append(parts, fmt.Sprintf("%s: %s -> %s", f.name, cmp.Or(was, "none"),
				cmp.Or(f.value, "none")))
		}
		delete(old, f.name)
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if old[name] != "" {
			parts = append(parts, fmt.Sprintf("%s: %s -> none", name, old[name]))
		}
	}
	return strings.Join(parts, "; ")
}

// statement says all that there is to say.
func statement(facts []fact) string {
	var parts []string
	for _, f := range facts {
		if f.value != "" {
			parts = append(parts, f.name+": "+f.value)
		}
	}
	return strings.Join(parts, "; ")
}

func instanceFacts(i *backendv1.Instance) []fact {
	return []fact{
		{"state", runState(i)},
		{"private", strings.Join(privateAddresses(i), ", ")},
		{"external", strings.Join(externalAddresses(i), ", ")},
		{"groups", strings.Join(i.GetAntiAffinityGroups(), ", ")},
		{"CPUs", strconv.Itoa(int(i.GetCpuCount()))},
		{"memory", fmt.Sprintf("%d GiB", i.GetMemoryBytes()>>30)},
	}
}

func (n *names) loadBalancerFacts(lb *backendv1.LoadBalancer) []fact {
	facts := []fact{{"state", word(lb.GetPhase(), "PHASE_")}}
	for _, address := range lb.GetAddresses() {
		facts = append(facts, fact{addressText(address), n.place(address)})
	}
	return append(facts, fact{"note", note(lb)})
}

// outage reports that something cannot be read, once, and that it can be again.
type outage struct {
	send func(event)
	kind string
	last string
}

func (o *outage) report(err error) {
	if text := callError(err).Error(); text != o.last {
		o.last = text
		o.send(event{kind: o.kind, what: failing, text: text})
	}
}

func (o *outage) end() {
	if o.last != "" {
		o.last = ""
		o.send(event{kind: o.kind, what: working, text: "they can be read again"})
	}
}

// instanceChanges reports changes of instances.
type instanceChanges struct {
	send   func(event)
	names  *names
	watch  *client.InstanceWatch
	outage outage

	// known are as they were reported. The goroutine of run has them.
	known map[string]*backendv1.Instance
	// synced is closed when all are known; failed has why they cannot be.
	synced chan struct{}
	began  bool
	failed chan error
}

func newInstanceChanges(c *connection, n *names, send func(event)) *instanceChanges {
	i := &instanceChanges{
		send: send, names: n, outage: outage{send: send, kind: allInstances},
		known: make(map[string]*backendv1.Instance), synced: make(chan struct{}), failed: make(chan error, 1),
	}
	i.watch = client.NewInstanceWatch(client.InstanceWatchConfig{
		Service: backendv1.NewInstanceServiceClient(c), Changed: i.take, Synced: i.takeSynced,
		Disconnected: i.takeEnd,
	})
	return i
}

// run watches until the context ends, or it turns out that there is nothing to watch.
func (i *instanceChanges) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		i.watch.Run(ctx)
	}()
	var err error
	select {
	case err = <-i.failed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	cancel()
	<-ended
	return err
}

// name returns the name of an instance, or its id.
func (i *instanceChanges) name(id string) string {
	return cmp.Or(i.names.instances[id], i.watch.Instance(id).GetName(), id)
}

func (i *instanceChanges) take(id string) {
	before, now := i.known[id], i.watch.Instance(id)
	if now == nil {
		delete(i.known, id)
	} else {
		i.known[id] = now
	}
	name := cmp.Or(i.names.instances[id], now.GetName(), before.GetName(), id)
	e := event{kind: ofInstance, name: name, what: changed}
	switch {
	case !i.began:
		return
	case now == nil:
		e.what = removed
	case before == nil:
		e.what, e.text, e.object = added, statement(instanceFacts(now)), now
	default:
		e.text, e.object = differences(instanceFacts(before), instanceFacts(now)), now
		if e.text == "" {
			return
		}
	}
	i.send(e)
}

func (i *instanceChanges) takeSynced() {
	if !i.began {
		i.began = true
		close(i.synced)
	}
	i.outage.end()
}

func (i *instanceChanges) takeEnd(err error) {
	known, _ := client.FromError(err)
	if i.began && (known == nil || known.Code != codes.Unimplemented) {
		i.outage.report(err)
		return
	}
	select {
	case i.failed <- callError(err):
	default:
	}
}

// readInterval is how often load balancers are read: each time costs two lists of Oxide.
const readInterval = 5 * time.Second

// loadBalancerChanges reports changes of load balancers.
type loadBalancerChanges struct {
	c        *connection
	send     func(event)
	outage   outage
	instance func(id string) string

	// scope is the one that is read; empty: all. acting are the scopes that have a session; none: nobody's
	// are known to be.
	scope  string
	acting []string
	known  map[string]*backendv1.LoadBalancer
	facts  map[string][]fact
}

func newLoadBalancerChanges(
	c *connection, info *backendv1.GetInfoResponse, instance func(id string) string, send func(event),
) *loadBalancerChanges {
	return &loadBalancerChanges{
		c: c, send: send, instance: instance, outage: outage{send: send, kind: allLoadBalancers},
		scope: onlyScope(c.scope, info), acting: info.GetActingScopes(),
	}
}

// read returns the load balancers, with those that have no address yet.
func (l *loadBalancerChanges) read(ctx context.Context) ([]*backendv1.LoadBalancer, error) {
	found, err := listLoadBalancers(ctx, l.c, l.scope)
	if err != nil {
		return nil, err
	}
	for _, scope := range l.acting {
		if l.scope != "" && l.scope != scope {
			continue
		}
		plan, err := planOf(ctx, l.c, scope)
		if err != nil {
			return nil, err
		}
		found = append(found, withoutAddress(plan, found)...)
	}
	return found, nil
}

// start reads what there is.
func (l *loadBalancerChanges) start(ctx context.Context) error {
	found, err := l.read(ctx)
	if err == nil {
		l.take(found)
	}
	return err
}

// what says what is watched.
func (l *loadBalancerChanges) what() string {
	text := counted(len(l.known), "load balancer", "load balancers")
	switch {
	case l.scope != "" && slices.Contains(l.acting, l.scope):
		return text + " of " + l.scope
	case l.scope != "":
		return text + " of " + l.scope + ", as Oxide shows them: its session is not here"
	case len(l.acting) == 0:
		return text + " of the project, as Oxide shows them: no session is here"
	}
	return text + " of the project"
}

func (l *loadBalancerChanges) run(ctx context.Context) error {
	ticker := time.NewTicker(readInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		found, err := l.read(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			l.outage.report(err)
		default:
			l.outage.end()
			l.take(found)
		}
	}
}

// take reports what differs from what was read before.
func (l *loadBalancerChanges) take(found []*backendv1.LoadBalancer) {
	n := &names{scope: l.scope, instances: make(map[string]string)}
	now := make(map[string]*backendv1.LoadBalancer, len(found))
	facts := make(map[string][]fact, len(found))
	for _, lb := range found {
		for _, address := range lb.GetAddresses() {
			for _, at := range []*backendv1.Attachment{address.GetAttachment(), address.GetPlannedAttachment()} {
				if id := at.GetInstanceId(); id != "" {
					n.instances[id] = l.instance(id)
				}
			}
		}
		name := n.loadBalancer(lb.GetKey())
		now[name], facts[name] = lb, n.loadBalancerFacts(lb)
	}
	before, old := l.known, l.facts
	l.known, l.facts = now, facts
	if before == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		e := event{kind: ofLoadBalancer, name: name, what: changed, object: now[name]}
		if _, is := before[name]; !is {
			e.what, e.text = added, statement(facts[name])
		} else if e.text = differences(old[name], facts[name]); e.text == "" {
			continue
		}
		l.send(e)
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, is := now[name]; !is {
			l.send(event{kind: ofLoadBalancer, name: name, what: removed})
		}
	}
}
