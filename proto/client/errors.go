// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"errors"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	// errorDomain is the domain of the backend's own errors, as its API documents.
	errorDomain = "oxide.computer"

	// maxMessage is about what a Kubernetes event has room for, in characters.
	maxMessage = 800
)

// Error is an error of a call of the backend, rebuilt from its gRPC status. All calls on a connection
// that Dial has made fail with one, and errors.Is finds its Reason.
type Error struct {
	// Code is the gRPC status code.
	Code codes.Code

	// Reason is why the call failed, as the API documents; UNSPECIFIED if the status was not made
	// by the backend, or if this package is too old to know the reason. CLIENT_DENIED also where this
	// process may not open the backend's socket.
	Reason backendv1.ErrorReason

	// Message is one line for people.
	Message string

	// RetryDelay is the shortest useful delay, as the backend recommends it; 0 if it says nothing.
	RetryDelay time.Duration

	// RequestID is the id under which Oxide logged the request that failed; empty if there was
	// none. It is no part of the text: events that differ in it alone could not be counted as one.
	RequestID string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Is reports whether a target is the error's Reason.
func (e *Error) Is(target error) bool {
	reason, ok := target.(Reason)
	return ok && backendv1.ErrorReason(reason) == e.Reason && e.Reason != 0
}

// GRPCStatus returns the gRPC status, for functions of gRPC such as status.Code, and for servers that
// pass it on.
func (e *Error) GRPCStatus() *status.Status {
	out := status.New(e.Code, e.Message) //nolint:forbidigo // it was made by the backend
	var details []protoadapt.MessageV1
	if e.Reason != 0 {
		info := &errdetails.ErrorInfo{Domain: errorDomain, Reason: Reason(e.Reason).Error()}
		if e.RequestID != "" {
			info.Metadata = map[string]string{"request_id": e.RequestID}
		}
		details = append(details, info)
	}
	if e.RetryDelay > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryDelay)})
	}
	if with, err := out.WithDetails(details...); err == nil {
		out = with
	}
	return out
}

// FromError rebuilds the error of a call. It reports false for nil, and for an error that is
// neither an *Error nor a gRPC status, nor wraps one.
func FromError(err error) (*Error, bool) {
	if err == nil {
		return nil, false
	}
	var known *Error
	if errors.As(err, &known) {
		return known, true
	}
	s, ok := status.FromError(err)
	if !ok {
		return nil, false
	}
	out := &Error{Code: s.Code(), Message: OneLine(s.Message())}
	fromBackend := false
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() != errorDomain {
				continue
			}
			fromBackend = true
			out.Reason = backendv1.ErrorReason(
				backendv1.ErrorReason_value["ERROR_REASON_"+d.GetReason()])
			out.RequestID = d.GetMetadata()["request_id"]
		case *errdetails.RetryInfo:
			out.RetryDelay = d.GetRetryDelay().AsDuration()
		}
	}
	if message := transportMessages[out.Code]; message != "" && !fromBackend {
		out.Message = message
	}
	if out.Message == "" {
		out.Message = "oxide-backend answered " + out.Code.String() + " without saying why"
	}
	return out, true
}

// AsError returns the *Error of a call where FromError finds one, and any other error as it is; nil
// stays nil.
func AsError(err error) error {
	if known, ok := FromError(err); ok {
		return known
	}
	return err
}

// transportMessages are the texts for statuses that were not made by the backend.
var transportMessages = map[codes.Code]string{
	codes.Unavailable:      "oxide-backend is not there: see whether it runs, and its log",
	codes.DeadlineExceeded: "oxide-backend did not answer in time: see whether it runs, and its log",
	codes.Canceled:         "the call of oxide-backend was cancelled",
	codes.Unimplemented:    "oxide-backend does not know this call: it is older than its client",
}

// HasReason reports whether an error is one of the backend's with the given reason.
func HasReason(err error, reason backendv1.ErrorReason) bool {
	e, ok := FromError(err)
	return ok && e.Reason == reason
}

// Text makes a text fit for a field of the API: one line, at most so many bytes of whole characters.
func Text(s string, most int) string {
	const ellipsis = "…"
	if s = OneLine(s); len(s) > most {
		s = strings.ToValidUTF8(s[:max(0, most-len(ellipsis))], "") + ellipsis
	}
	return s
}

// OneLine makes a text fit for an event: UTF-8, no control characters, no more than a few sentences.
func OneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if runes := []rune(s); len(runes) > maxMessage {
		s = string(runes[:maxMessage-1]) + "…"
	}
	return s
}
