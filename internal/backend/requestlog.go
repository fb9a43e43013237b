// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	// callLines is how many lines are written in callWindow about calls of one method that fail in the
	// same way: while Oxide is away all of them do, as many as there are nodes and clients that ask.
	callLines  = 5
	callWindow = time.Minute
)

// callLog writes the lines about calls. It may be used concurrently.
type callLog struct {
	mu sync.Mutex
	// failures are those of the last time, by what is alike in them: methods that there are, codes and
	// reasons are few.
	failures map[failure]*failureCount
}

// failure is what calls have in common that fail in the same way.
type failure struct{ method, code, reason string }

// failureCount counts such calls since a time.
type failureCount struct {
	since            time.Time
	written, omitted int
}

func newCallLog() *callLog { return &callLog{failures: make(map[failure]*failureCount)} }

// admit decides whether a line is written, and returns how many were not since the last one.
func (l *callLog) admit(f failure, now time.Time) (write bool, omitted int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := l.failures[f]
	if count == nil {
		count = &failureCount{since: now}
		l.failures[f] = count
	}
	if now.Sub(count.since) >= callWindow {
		count.since, count.written = now, 0
	}
	if count.written == callLines {
		count.omitted++
		return false, 0
	}
	count.written++
	omitted, count.omitted = count.omitted, 0
	return true, omitted
}

// unary writes one line per call: at level debug if it succeeded, else with what went wrong. Below level
// debug, of those that fail alike only the first in a minute are written, and then how many were not.
func (l *callLog) unary(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	start := time.Now()
	resp, err := handler(ctx, req)
	l.log(ctx, info.FullMethod, info.FullMethod, start, err, about(req)...)
	return resp, err
}

// stream is unary for streams, when they have ended.
func (l *callLog) stream(
	srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	start := time.Now()
	err := handler(srv, stream)
	alike := info.FullMethod
	if srv == nil { // only grpc.UnknownServiceHandler has no service, and its methods may be any text
		alike = ""
	}
	l.log(stream.Context(), info.FullMethod, alike, start, err)
	return err
}

// log writes a line about a call, unless enough are written about those that have `alike` in common with
// it, and how they fail.
func (l *callLog) log(
	ctx context.Context, method, alike string, start time.Time, err error, subject ...slog.Attr,
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
	fails := failure{method: alike, code: st.Code().String()}
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			fails.reason = info.GetReason()
			attrs = append(attrs, slog.String("reason", info.GetReason()))
			if id := info.GetMetadata()["request_id"]; id != "" {
				attrs = append(attrs, slog.String("request_id", id))
			}
		}
	}
	if id := tracing.ID(ctx); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	if err != nil && !slog.Default().Enabled(ctx, slog.LevelDebug) {
		write, omitted := l.admit(fails, start)
		if !write {
			return
		}
		if omitted > 0 {
			attrs = append(attrs, slog.Int("alike_omitted", omitted))
		}
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
