// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// benchScope is the scope of the sessions that this program holds itself.
const benchScope = "bench"

// owner holds a session and is the owner of all its load balancers: what it is to publish it publishes
// at once.
type owner struct {
	conn    *grpc.ClientConn
	session *client.Session
	inSync  chan struct{}
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	desired map[string]*backendv1.DesiredLoadBalancer
}

// newOwner returns an owner whose session has yet to be opened.
func newOwner(socket string) (*owner, error) {
	conn, err := client.Dial(socketPath(socket))
	if err != nil {
		return nil, err
	}
	o := &owner{
		conn: conn, inSync: make(chan struct{}), stop: func() {},
		desired: make(map[string]*backendv1.DesiredLoadBalancer),
	}
	o.session = client.NewSession(client.SessionConfig{
		Conn: conn, Open: &backendv1.OpenSession{Scope: benchScope},
		Handler: client.Handler{
			State: func(state *backendv1.LoadBalancerState) {
				o.change(state.GetKey().GetName(), func(item *backendv1.DesiredLoadBalancer) {
					item.PublishedAddresses = state.GetPublish()
				})
			},
			InSync: sync.OnceFunc(func() { close(o.inSync) }),
			Disconnected: func(err error) {
				fmt.Fprintln(os.Stderr, "bench: the session ended:", err)
			},
		},
	})
	return o, nil
}

// open opens the session with everything that was set, and waits until it is in sync.
func (o *owner) open(ctx context.Context) error {
	runCtx, stop := context.WithCancel(ctx)
	o.stop = stop
	o.session.MarkSynced()
	o.running.Go(func() {
		if err := o.session.Run(runCtx); err != nil {
			fmt.Fprintln(os.Stderr, "bench: the session cannot go on:", err)
		}
	})
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-o.inSync:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the session does not come into sync: %w", ctx.Err())
	}
}

// close ends the session and the connection.
func (o *owner) close() {
	o.stop()
	o.running.Wait()
	_ = o.conn.Close()
}

// set sets a load balancer.
func (o *owner) set(item *backendv1.DesiredLoadBalancer) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.desired[item.GetKey().GetName()] = item
	return o.session.SetLoadBalancer(item)
}

// change changes a load balancer and returns its generation.
func (o *owner) change(name string, change func(*backendv1.DesiredLoadBalancer)) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	item := o.desired[name]
	change(item)
	return o.session.SetLoadBalancer(item)
}

// ready waits until a load balancer is as desired in a generation, attached, and anywhere but on the
// instance `not`, and returns where it is.
func (o *owner) ready(
	ctx context.Context, key *backendv1.LoadBalancerKey, generation int64, not string,
) (instance string, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	state, err := o.session.AwaitState(ctx, key, func(s *backendv1.LoadBalancerState) bool {
		return s.GetGeneration() >= generation && s.GetPhase() == backendv1.Phase_PHASE_READY &&
			attachedTo(s) != "" && attachedTo(s) != not
	})
	if err != nil {
		last, _ := o.session.State(key)
		return "", fmt.Errorf("%s: %w; its last state is %v", key.GetName(), err, last)
	}
	return attachedTo(state), nil
}

// attachedTo returns the id of the instance that has the address of a load balancer; empty: none has.
func attachedTo(state *backendv1.LoadBalancerState) string {
	if len(state.GetAddresses()) == 0 {
		return ""
	}
	return state.GetAddresses()[0].GetAttachment().GetInstanceId()
}

// candidate returns an instance that is ready.
func candidate(instance string) *backendv1.Candidate {
	return &backendv1.Candidate{
		InstanceId: instance, Readiness: backendv1.Readiness_READINESS_READY,
	}
}

// desiredFloatingIP returns a load balancer with a floating IP, or with one of each of some IP families.
func desiredFloatingIP(
	name string, port int32, families ...backendv1.IpFamily,
) *backendv1.DesiredLoadBalancer {
	if len(families) == 0 {
		families = []backendv1.IpFamily{backendv1.IpFamily_IP_FAMILY_IPV4}
	}
	item := desired(name, port)
	for _, family := range families {
		item.Addresses = append(item.Addresses, &backendv1.DesiredAddress{
			Family: family,
			Source: &backendv1.DesiredAddress_FloatingIp{FloatingIp: &backendv1.FloatingIpSource{}},
		})
	}
	return item
}

// desiredSubnet returns a load balancer with an external subnet.
func desiredSubnet(name string, port int32) *backendv1.DesiredLoadBalancer {
	item := desired(name, port)
	item.Addresses = []*backendv1.DesiredAddress{{
		Family: backendv1.IpFamily_IP_FAMILY_IPV4,
		Source: &backendv1.DesiredAddress_ExternalSubnet{
			ExternalSubnet: &backendv1.ExternalSubnetSource{},
		},
	}}
	return item
}

func desired(name string, port int32) *backendv1.DesiredLoadBalancer {
	return &backendv1.DesiredLoadBalancer{
		Key:      &backendv1.LoadBalancerKey{Scope: benchScope, Name: name},
		OwnerUid: benchScope, CreateTime: timestamppb.New(time.Unix(0, 0)),
		Ports: []*backendv1.Port{{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: port}},
	}
}

// socketPath returns the path of a socket, whose address is a URL.
func socketPath(address string) string { return strings.TrimPrefix(address, "unix://") }
