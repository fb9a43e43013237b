// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"errors"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	// errorDomain is the domain of the backend's own errors, as its API documents.
	errorDomain = "oxide.computer"

	// maxMessage is about what an event has room for.
	maxMessage = 800
)

// BackendError is an error of a call of oxide-backend, rebuilt from its gRPC status.
type BackendError struct {
	// Code is the gRPC status code.
	Code codes.Code

	// Reason is why the call failed, as the API documents; UNSPECIFIED if the status was not made
	// by the backend, or if this program is too old to know the reason.
	Reason backendv1.ErrorReason

	// RequestID is the id under which Oxide logged the request that failed; empty if there was
	// none. It is no part of the text: events that differ in it alone could not be counted as one.
	RequestID string

	// RetryDelay is the shortest useful delay, as the backend recommends it; 0 if it says nothing.
	RetryDelay time.Duration

	// Message is one line for people.
	Message string
}

// Error returns the message.
func (e *BackendError) Error() string { return e.Message }

// AsBackendError rebuilds the error of a call; nil stays nil.
func AsBackendError(err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	out := &BackendError{Code: s.Code(), Message: OneLine(s.Message())}
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
	if !fromBackend {
		switch out.Code {
		case codes.Unavailable:
			out.Message = "oxide-backend is not there: see whether it runs, and its log"
		case codes.DeadlineExceeded:
			out.Message = "oxide-backend did not answer in time: see whether it runs, and its log"
		case codes.Canceled:
			out.Message = "the call of oxide-backend was cancelled"
		case codes.Unimplemented:
			out.Message = "oxide-backend does not know this call: it is older than ccm-shim"
		}
	}
	if out.Message == "" {
		out.Message = "oxide-backend answered " + out.Code.String() + " without saying why"
	}
	return out
}

// HasReason tells whether an error is one of the backend's with the given reason.
func HasReason(err error, reason backendv1.ErrorReason) bool {
	var be *BackendError
	return errors.As(err, &be) && be.Reason == reason
}

// OneLine makes a text fit for an event: no control characters, no more than a few sentences.
func OneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if runes := []rune(s); len(runes) > maxMessage {
		s = string(runes[:maxMessage-1]) + "…"
	}
	return s
}
