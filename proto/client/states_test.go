// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"errors"
	"fmt"
	"testing"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func isGeneration(generation int64) func(*backendv1.LoadBalancerState) bool {
	return func(state *backendv1.LoadBalancerState) bool { return state.GetGeneration() >= generation }
}

func TestAStateIsAwaitedAcrossReconnects(t *testing.T) {
	p := newPeer(t)
	s := p.session(t, Handler{})
	generation := s.SetLoadBalancer(desired("a"))
	s.MarkSynced()
	run(t, s)
	result := make(chan string, 1)
	go func() {
		state, err := s.AwaitState(within(t, patience), key("a"),
			func(state *backendv1.LoadBalancerState) bool { return len(state.GetPublish()) > 0 })
		result <- fmt.Sprint(state.GetPublish(), err)
	}()
	stream := p.next(t)
	stream.snapshot(t)
	stream.state(t, "a", generation)
	stream.end <- unavailable()
	stream = p.next(t)
	stream.snapshot(t)
	if _, ok := s.State(key("a")); ok {
		t.Error("a state outlives its stream")
	}
	stream.state(t, "a", generation, "198.51.100.7")
	if got := <-result; got != "[198.51.100.7] <nil>" {
		t.Errorf("awaited %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.AwaitState(ctx, key("b"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("the end of the context gave %v", err)
	}
}

func TestAReleaseIsAwaited(t *testing.T) {
	p := newPeer(t)
	var s *Session
	s = p.session(t, Handler{Released: func(key *backendv1.LoadBalancerKey, uid string) {
		if key.GetName() == "gone" {
			s.RemoveLoadBalancer(key, uid)
		}
	}})
	s.SetLoadBalancer(ending("gone"))
	s.SetLoadBalancer(ending("kept"))
	s.SetLoadBalancer(desired("stays"))
	s.MarkSynced()
	run(t, s)
	stream := p.next(t)
	stream.snapshot(t)
	stream.end <- unavailable()
	stream = p.next(t)
	result := make(chan error, 1)
	go func() { result <- s.AwaitReleased(within(t, patience), key("gone"), "uid-gone") }()
	stream.snapshot(t)
	// Nobody waits yet, perhaps: it is remembered for as long as it is set.
	for _, name := range []string{"kept", "stays", "unknown"} {
		stream.released(t, name)
	}
	if err := s.AwaitReleased(within(t, patience), key("kept"), "uid-kept"); err != nil {
		t.Errorf("a release was not reported: %v", err)
	}
	// One that is removed when it was released is reported to those that wait already.
	for waiting := 0; waiting == 0; {
		s.mu.Lock()
		waiting = len(s.releases)
		s.mu.Unlock()
	}
	stream.released(t, "gone")
	if err := <-result; err != nil {
		t.Errorf("a release was not reported: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{"stays", "unknown"} {
		if err := s.AwaitReleased(ctx, key(name), "uid-"+name); err == nil {
			t.Errorf("the release of %s is remembered", name)
		}
	}
	s.SetLoadBalancer(desired("kept"))
	s.SetLoadBalancer(ending("kept"))
	if err := s.AwaitReleased(ctx, key("kept"), "uid-kept"); err == nil {
		t.Error("a release outlives the end that it was about")
	}
}

func TestAReleaseIsAwaitedUntilAStateIsAccepted(t *testing.T) {
	p := newPeer(t)
	s := p.session(t, Handler{})
	generation := s.SetLoadBalancer(ending("a"))
	s.MarkSynced()
	run(t, s)
	stream := p.next(t)
	stream.snapshot(t)
	publishes := func(state *backendv1.LoadBalancerState) bool { return len(state.GetPublish()) > 0 }
	result := make(chan string, 1)
	await := func() {
		state, err := s.AwaitReleasedOr(within(t, patience), key("a"), "uid-a", publishes)
		result <- fmt.Sprint(state.GetPublish(), err)
	}
	go await()
	stream.state(t, "a", generation)
	stream.state(t, "a", generation, "198.51.100.7")
	if got := <-result; got != "[198.51.100.7] <nil>" {
		t.Errorf("awaited %s", got)
	}
	// A release counts over a state that is there, too.
	stream.released(t, "a")
	if err := s.AwaitReleased(within(t, patience), key("a"), "uid-a"); err != nil {
		t.Fatal(err)
	}
	await()
	if got := <-result; got != "[] <nil>" {
		t.Errorf("awaited %s although there is nothing any more", got)
	}
}
