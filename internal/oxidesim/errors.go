// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/google/uuid"
)

// apiError is an answer that is not a success. Handlers return it; only the pipeline writes
// it. An empty code means that the body carries no error_code, as with everything that the
// HTTP framework of the control plane refuses before any handler sees it.
type apiError struct {
	status  int
	code    string
	message string
}

func (e *apiError) Error() string {
	return strconv.Itoa(e.status) + " " + e.code + ": " + e.message
}

// errConnectionLost makes the pipeline drop the connection without an answer.
var errConnectionLost = errors.New("the control plane went away")

// errorBody is the JSON of every error answer.
type errorBody struct {
	RequestID string `json:"request_id"`
	ErrorCode string `json:"error_code,omitempty"`
	Message   string `json:"message"`
}

// badInput is the framework's refusal of a malformed body, query, path or header.
func badInput(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, "", fmt.Sprintf(format, args...)}
}

// invalidRequest is a refusal for the meaning of a request or for the state of an object.
func invalidRequest(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, "InvalidRequest", fmt.Sprintf(format, args...)}
}

// invalidValue is a refusal of one field's value.
func invalidValue(field, format string, args ...any) error {
	msg := fmt.Sprintf("unsupported value for %q: %s", field, fmt.Sprintf(format, args...))
	return &apiError{http.StatusBadRequest, "InvalidValue", msg}
}

// alreadyExists is the answer to a taken name: a 400, not a 409.
func alreadyExists(kind, name string) error {
	msg := fmt.Sprintf("already exists: %s %q", kind, name)
	return &apiError{http.StatusBadRequest, "ObjectAlreadyExists", msg}
}

func unauthorized() error {
	return &apiError{http.StatusUnauthorized, "Unauthorized", "credentials missing or invalid"}
}

func forbidden() error { return &apiError{http.StatusForbidden, "Forbidden", "Forbidden"} }

func notFoundByName(kind, name string) error {
	msg := fmt.Sprintf("not found: %s with name %q", kind, name)
	return &apiError{http.StatusNotFound, "ObjectNotFound", msg}
}

func notFoundByID(kind string, id uuid.UUID) error {
	msg := fmt.Sprintf("not found: %s with id %q", kind, id)
	return &apiError{http.StatusNotFound, "ObjectNotFound", msg}
}

func notFoundOther(kind, why string) error {
	return &apiError{
		http.StatusNotFound, "ObjectNotFound", fmt.Sprintf("not found: %s: %s", kind, why),
	}
}

// routeNotFound is the answer to a path that no endpoint has.
func routeNotFound() error { return &apiError{http.StatusNotFound, "", "Not Found"} }

// methodError is the answer to a path that has endpoints, but none of this method; those it
// has are told in the Allow header, as HTTP wants it (RFC 9110, 15.5.6).
type methodError struct{ allowed []string }

func (e *methodError) Error() string { return "method not allowed" }

func (e *methodError) Unwrap() error {
	return &apiError{http.StatusMethodNotAllowed, "", "Method Not Allowed"}
}

func conflict(format string, args ...any) error {
	return &apiError{http.StatusConflict, "Conflict", fmt.Sprintf(format, args...)}
}

// internal hides its cause, as the rack does.
func internal() error {
	return &apiError{http.StatusInternalServerError, "Internal", "Internal Server Error"}
}

// gateway is a sled agent that could not be reached (502) or did not answer in time (504).
func gateway(status int) error {
	return &apiError{status, "Internal", http.StatusText(status)}
}

// unavailable hides its cause, as the rack does: whatever is mid-transition or down.
func unavailable() error {
	return &apiError{
		http.StatusServiceUnavailable, "ServiceNotAvailable", "Service Unavailable",
	}
}

// vmmVanished is the 503 without error_code of a stop or reboot whose VMM just went away.
func vmmVanished() error {
	return &apiError{http.StatusServiceUnavailable, "", "Service Unavailable"}
}

func insufficientCapacity(format string, args ...any) error {
	msg := "Insufficient capacity: " + fmt.Sprintf(format, args...)
	return &apiError{http.StatusInsufficientStorage, "InsufficientCapacity", msg}
}
