// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"log/slog"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

const (
	// maxMessage bounds a request, and each item of a session, in bytes.
	maxMessage = 16 << 20
	// maxReceived is what gRPC itself refuses, by a status to which nothing can be added.
	maxReceived = 2 * maxMessage
)

// A request that is too large or cannot be decoded is answered by gRPC before any code of this
// package runs, with a status that has no details. So requests are received in an envelope:
// decoding one never fails for gRPC, and what is wrong with the request is found in the envelope.
type envelope struct {
	message any
	err     error
}

// codec is gRPC's own, for envelopes as well.
type codec struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	e, ok := v.(*envelope)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	switch {
	case data.Len() > maxMessage:
		e.err = invalidf("request", "is larger than the %d MiB that this backend accepts",
			maxMessage>>20)
	case c.CodecV2.Unmarshal(data, e.message) != nil:
		e.err = invalidf("request", "cannot be decoded")
	}
	return nil
}

// ReceiveOptions are the options of a server whose services are registered by a Registrar, and
// whose streams are handled within StreamErrors.
func ReceiveOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(encodingproto.Name)}),
		grpc.MaxRecvMsgSize(maxReceived),
	}
}

// Registrar registers services whose unary calls are received in envelopes.
type Registrar struct{ grpc.ServiceRegistrar }

// RegisterService implements grpc.ServiceRegistrar.
func (r Registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	wrapped := *desc
	wrapped.Methods = slices.Clone(desc.Methods)
	for i, method := range wrapped.Methods {
		name := desc.ServiceName + "/" + method.MethodName
		wrapped.Methods[i].Handler = func(
			srv any, ctx context.Context, decode func(any) error,
			interceptor grpc.UnaryServerInterceptor,
		) (any, error) {
			return method.Handler(srv, ctx, func(req any) error {
				return decodeUnary(ctx, name, decode, req)
			}, interceptor)
		}
	}
	r.ServiceRegistrar.RegisterService(&wrapped, impl)
}

// decodeUnary decodes the request of a unary call, which happens before any interceptor runs.
func decodeUnary(ctx context.Context, method string, decode func(any) error, req any) error {
	e := envelope{message: req}
	if err := decode(&e); err != nil {
		return err
	}
	if e.err == nil {
		return nil
	}
	slog.InfoContext(ctx, "a request was not understood", "method", method, "error", e.err)
	forbidRetry(ctx, e.err)
	return toStatus(e.err).Err()
}

// decodingStream is a stream whose messages are received in envelopes.
type decodingStream struct{ grpc.ServerStream }

// RecvMsg implements grpc.ServerStream.
func (s *decodingStream) RecvMsg(m any) error {
	e := envelope{message: m}
	if err := s.ServerStream.RecvMsg(&e); err != nil {
		return err
	}
	return e.err
}
