// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// logUnary writes one line per call: at level debug if it succeeded, else with what went wrong.
func logUnary(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	start := time.Now()
	resp, err := handler(ctx, req)
	logCall(ctx, info.FullMethod, start, err, about(req)...)
	return resp, err
}

func logStream(
	srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	start := time.Now()
	err := handler(srv, stream)
	logCall(stream.Context(), info.FullMethod, start, err)
	return err
}

func logCall(
	ctx context.Context, method string, start time.Time, err error, subject ...slog.Attr,
) {
	st := status.Convert(err)
	attrs := append([]slog.Attr{
		slog.String("method", short(strings.TrimPrefix(method, "/"))),
		slog.String("code", st.Code().String()),
		slog.Duration("duration", time.Since(start)),
	}, subject...)
	level := slog.LevelDebug
	if err != nil {
		level = levelOf(st.Code())
		attrs = append(attrs, slog.String("error", st.Message()))
	}
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			attrs = append(attrs, slog.String("reason", info.GetReason()))
			if id := info.GetMetadata()["request_id"]; id != "" {
				attrs = append(attrs, slog.String("request_id", id))
			}
		}
	}
	if id := tracing.ID(ctx); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	slog.LogAttrs(ctx, level, "call", attrs...)
}

// levelOf keeps answers that are no trouble out of the way of those that are.
func levelOf(code codes.Code) slog.Level {
	switch code {
	case codes.OK:
		return slog.LevelDebug
	case codes.NotFound, codes.Canceled, codes.Unimplemented, codes.InvalidArgument:
		return slog.LevelInfo
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return slog.LevelError
	default:
		return slog.LevelWarn
	}
}

// about says what a call is about.
func about(req any) []slog.Attr {
	switch r := req.(type) {
	case *backendv1.GetInstanceRequest:
		return []slog.Attr{slog.String("instance", short(r.GetId()+r.GetName()+r.GetHostname()))}
	case *backendv1.GetLoadBalancerRequest:
		return aboutKey(r.GetKey())
	}
	return nil
}

func aboutKey(key *backendv1.LoadBalancerKey) []slog.Attr {
	return []slog.Attr{
		slog.String("scope", short(key.GetScope())),
		slog.String("load_balancer", short(key.GetName())),
	}
}

// maxLogged bounds what a caller sends in a line of the log, in bytes.
const maxLogged = 253

func short(text string) string {
	if len(text) > maxLogged {
		return strings.ToValidUTF8(text[:maxLogged], "") + "…"
	}
	return text
}
