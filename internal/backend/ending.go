// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"

	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/rpc"
)

// endCallsWith ends the context of each unary call with the given one. A call that fails then,
// while its caller still waits, was ended because the program stops, and its error says so.
func endCallsWith(calling context.Context) grpc.UnaryServerInterceptor {
	return func(
		ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		callCtx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(calling, cancel)()
		resp, err := handler(callCtx, req)
		return resp, endedBy(calling, ctx, err)
	}
}

// endStreamsWith does the same for streams: one would else hold up the end of the program for as
// long as its client likes.
func endStreamsWith(streaming context.Context) grpc.StreamServerInterceptor {
	return func(
		srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler,
	) error {
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(streaming, cancel)()
		err := handler(srv, &endingStream{ServerStream: stream, ctx: ctx})
		return endedBy(streaming, stream.Context(), err)
	}
}

func endedBy(serving, caller context.Context, err error) error {
	if err != nil && serving.Err() != nil && caller.Err() == nil {
		return rpc.EndedByStop(err)
	}
	return err
}

type endingStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream hands it out
}

// Context implements grpc.ServerStream.
func (s *endingStream) Context() context.Context { return s.ctx }

// ofKnownMethods keeps calls of unknown methods from an interceptor that remembers every name that
// it sees: callers could name ever more of them.
func ofKnownMethods(interceptor grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(
		srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
	) error {
		if srv == nil { // only grpc.UnknownServiceHandler has no service
			return handler(srv, stream)
		}
		return interceptor(srv, stream, info, handler)
	}
}
