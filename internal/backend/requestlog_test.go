// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// While Oxide is away what is logged of calls does not grow with the nodes and clients that ask, and how
// many lines were left out is said; calls that fail otherwise are logged beside them.
func TestLinesOfCallsThatFailAlikeAreBounded(t *testing.T) {
	log, now := newCallLog(), time.Unix(0, 0)
	away := failure{"GetInstance", "Unavailable", "OXIDE_UNAVAILABLE"}
	lines, left := 0, 0
	for range 3 * 60 { // three minutes, a hundred calls a second
		for range 100 {
			if write, omitted := log.admit(away, now); write {
				lines++
				left += omitted
			}
		}
		now = now.Add(time.Second)
	}
	if want := 3 * callLines; lines != want {
		t.Errorf("%d lines are written, want %d", lines, want)
	}
	if want := 2 * (6000 - callLines); left != want {
		t.Errorf("%d lines are said to be left out of the first two minutes, want %d", left, want)
	}
	other := away
	other.reason = "OXIDE_FORBIDDEN"
	if write, omitted := log.admit(other, now); !write || omitted != 0 {
		t.Errorf("a call that fails otherwise: written %v with %d left out, want true and none", write, omitted)
	}
}

// A client that is refused, too, may call methods that do not exist, under ever more names: none of them
// is remembered.
func TestNamesOfUnknownMethodsAreNotRemembered(t *testing.T) {
	log := newCallLog()
	for _, code := range []codes.Code{codes.PermissionDenied, codes.Unavailable, codes.Unimplemented} {
		for i := range 100 {
			info := &grpc.StreamServerInfo{FullMethod: fmt.Sprintf("/any/text-%d", i)}
			err := log.stream(nil, quietStream{ctx: t.Context()}, info, func(any, grpc.ServerStream) error {
				return status.Error(code, "no")
			})
			if status.Code(err) != code {
				t.Fatalf("the error becomes %v", err)
			}
		}
	}
	if n := len(log.failures); n != 3 {
		t.Errorf("%d kinds of failures are remembered, want one for each of three codes", n)
	}
}

// quietStream is a stream on which nothing comes.
type quietStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s quietStream) Context() context.Context { return s.ctx }
