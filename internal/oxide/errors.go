// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"unicode"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// Kind says what an error means, independent of its words.
type Kind int

// The kinds of error that a call of the Oxide API ends with.
const (
	// KindBadResponse: Oxide answered with something that cannot be understood.
	KindBadResponse Kind = iota
	// KindUnavailable: Oxide could not be reached, did not answer in time, or said that it cannot
	// do this now (502, 503, 504), or not as often (429). The outcome of a mutation is not known.
	KindUnavailable
	// KindNotFound: 404 ObjectNotFound. The object does not exist, or the token may not read it.
	KindNotFound
	// KindProjectNotFound: 404 ObjectNotFound for the project itself. It does not exist, or the token
	// has no role on it, and then nothing can be told of anything in it.
	KindProjectNotFound
	// KindNoSuchRoute: 404 without an error code. This API version has no such call.
	KindNoSuchRoute
	// KindAlreadyExists: 400 ObjectAlreadyExists. The name is taken.
	KindAlreadyExists
	// KindRefused: 400 InvalidRequest or InvalidValue, or 409. Oxide understood, and will not do
	// it in this state or with these values.
	KindRefused
	// KindMalformed: 400 without an error code. A bad parameter, or an API version that the rack
	// does not speak.
	KindMalformed
	// KindVersionUnsupported: the rack is older than this client's API version.
	KindVersionUnsupported
	// KindUnauthorized: 401. The token is missing, unknown or expired.
	KindUnauthorized
	// KindForbidden: 403. The token's user may read the object but not do this.
	KindForbidden
	// KindNoCapacity: 507. The pool is exhausted. An exhausted subnet pool is answered with 400.
	KindNoCapacity
	// KindInternal: 500. Oxide never says why.
	KindInternal
	// KindReadOnly: this client was told to change nothing.
	KindReadOnly
	// KindEnded: the caller's context ended first; the error wraps the context's.
	KindEnded
)

// Error is the error of every call in this package. Its text is one line without URL, header or
// secret. It is the same whenever the same goes wrong, so that repeated events can be told once: the
// request id is not in it.
type Error struct {
	// Operation is what was tried, for people, for example "attach the floating IP".
	Operation string
	// Kind is what the error means.
	Kind Kind
	// Status is the HTTP status, 0 if there was no answer.
	Status int
	// RequestID is the id under which Oxide logged the request; empty if it is not known.
	RequestID string
	// Detail is Oxide's own message, or the cause of a failed connection, as one short line.
	Detail string
	// Err is the context's error for KindEnded.
	Err error
	// OldRelease, of KindNoCapacity: it is the rack's release that is in the way, and not the pool. See
	// AllocatesAdjacent.
	OldRelease bool

	// remedy is what to do about a failed connection.
	remedy string
	// reading: what was tried changes nothing; inSilo: it takes a role on the silo.
	reading, inSilo bool
	// collaborator: it takes that role on the project.
	collaborator bool
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("could not %s: %s", e.Operation, e.meaning())
}

// LogValue implements slog.LogValuer: a log also has the request id.
func (e *Error) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("text", e.Error())}
	if e.RequestID != "" {
		attrs = append(attrs, slog.String("request_id", e.RequestID))
	}
	return slog.GroupValue(attrs...)
}

// Unwrap returns the context's error, if there is one.
func (e *Error) Unwrap() error { return e.Err }

// Remedy says what to do about it, in words that follow "; "; empty where nothing can be said.
func (e *Error) Remedy() string {
	switch e.Kind {
	case KindUnavailable, KindBadResponse, KindEnded:
		return e.remedy
	case KindVersionUnsupported:
		return "update the rack, or install an older release"
	case KindNoCapacity:
		if e.OldRelease {
			return "update the rack, or use another subnet pool"
		}
	case KindUnauthorized:
		return "put a valid one into the token file, or into OXIDE_TOKEN"
	case KindForbidden:
		switch {
		case e.inSilo:
			return "it needs the role viewer, or more, on the silo"
		case e.reading:
			return "it needs the role viewer, or more, on the project"
		case e.collaborator:
			return "it needs the role collaborator, or more, on the project"
		}
		return "it needs the role limited_collaborator, or more, on the project"
	}
	return ""
}

func (e *Error) meaning() string {
	if remedy := e.Remedy(); remedy != "" {
		return e.what() + "; " + remedy
	}
	return e.what()
}

// what says what the error means, without its remedy.
func (e *Error) what() string {
	switch e.Kind {
	case KindUnavailable:
		if e.Status == 0 {
			return "Oxide could not be reached: " + e.Detail
		}
		return fmt.Sprintf("Oxide cannot do it now (HTTP %d)", e.Status)
	case KindNotFound:
		if e.Status != http.StatusNotFound {
			return "Oxide says " + e.Detail
		}
		return "Oxide says " + e.Detail + " (or the token has no role on it)"
	case KindProjectNotFound:
		return "the project in --oxide-project or OXIDE_PROJECT does not exist, " +
			"or the token has no role on it"
	case KindNoSuchRoute:
		return "this Oxide API version has no such call (HTTP 404)"
	case KindMalformed:
		return fmt.Sprintf("Oxide finds the request malformed (HTTP 400): %s", e.Detail)
	case KindVersionUnsupported:
		return "the rack at --oxide-host or OXIDE_HOST is older than the Oxide API version " +
			APIVersion + " that is spoken here"
	case KindUnauthorized:
		return "Oxide rejects the token (HTTP 401): it is unknown or expired"
	case KindForbidden:
		return "the token's user may not do this (HTTP 403)"
	case KindNoCapacity:
		if e.OldRelease {
			return "racks before release 21, as this one is, allocate no external subnet of a single " +
				"address next to another"
		}
		return fmt.Sprintf("Oxide has no capacity left (HTTP %d): %s", e.Status, e.Detail)
	case KindInternal:
		return fmt.Sprintf("Oxide failed (HTTP %d) and does not say why", e.Status)
	case KindReadOnly:
		return "this backend was started with --read-only, and changes nothing"
	case KindEnded:
		if errors.Is(e.Err, context.DeadlineExceeded) {
			return "the time for it was up" + e.Detail
		}
		return "the call was cancelled"
	case KindAlreadyExists, KindRefused:
		return "Oxide refuses: " + e.Detail
	}
	return "Oxide's answer cannot be understood: " + e.Detail
}

// Passing reports whether Oxide itself said that it cannot do it now, or failed: then what was asked,
// and the settings, may well be right.
func (e *Error) Passing() bool {
	return e.Status >= http.StatusInternalServerError || e.Status == http.StatusTooManyRequests
}

// Cause says what went wrong, as Error does, without what to do about it.
func (e *Error) Cause() string { return fmt.Sprintf("could not %s: %s", e.Operation, e.what()) }

// IsKind reports whether err is an *Error of this kind.
func IsKind(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}

// newError makes the *Error for what a call of oxide.go returned. That library formats causes into
// text, so the cause is taken from the exchange that the transport recorded.
func newError(ctx context.Context, operation string, err error, x *exchange) *Error {
	e := &Error{Operation: operation, RequestID: x.requestID}
	var httpErr *api.HTTPError
	switch {
	case errors.As(err, &httpErr) && x.err == nil:
		e.Status = httpErr.HTTPResponse.StatusCode
		e.Detail = statusLine(e.Status)
		answer := httpErr.ErrorResponse
		switch {
		case answer == nil && (e.Status == http.StatusBadRequest || e.Status == http.StatusNotFound):
			// Oxide's errors are JSON, so this is not Oxide's word.
			e.Kind = KindBadResponse
		case answer == nil:
			e.Kind = kindOf(e.Status, "")
		default:
			e.Kind = kindOf(e.Status, answer.ErrorCode)
			if answer.Message != "" {
				e.Detail = x.clean(answer.Message)
			}
		}
	case ctx.Err() != nil:
		e.Kind, e.Err = KindEnded, ctx.Err()
		if x.err != nil {
			e.Detail, e.remedy = throughProxy("", "", x.proxy)
		}
	case x.err != nil:
		e.Kind = KindUnavailable
		var ok bool
		if e.Detail, e.remedy, ok = proxyDetail(x.err, x.proxy); !ok {
			e.Detail, e.remedy = connectionDetail(x.err, x.clean)
			e.Detail, e.remedy = throughProxy(e.Detail, e.remedy, x.proxy)
		}
	case x.status >= http.StatusMultipleChoices:
		// The HTTP client could not even read the header, and its complaint holds the URL.
		e.Kind, e.Status, e.Detail = KindBadResponse, x.status, statusLine(x.status)
	default:
		e.Kind, e.Status, e.Detail = KindBadResponse, x.status, x.clean(err.Error())
	}
	if x.plain && notOxide(x) {
		e.remedy = "if that port speaks TLS, use https in --oxide-host or OXIDE_HOST"
	}
	return e
}

// notOxide reports whether what answered cannot be Oxide's API.
func notOxide(x *exchange) bool {
	if x.err == nil {
		return x.status != 0 && x.foreign() != nil
	}
	var network net.Error
	return !errors.As(x.err, &network) && !errors.Is(x.err, context.Canceled) &&
		!errors.Is(x.err, io.EOF) && !errors.Is(x.err, io.ErrUnexpectedEOF)
}

func statusLine(status int) string {
	return fmt.Sprintf("HTTP %d %s", status, http.StatusText(status))
}

// kindOf maps status and error code, never the message: Oxide's words may change.
func kindOf(status int, code string) Kind {
	switch status {
	case http.StatusBadRequest:
		switch code {
		case "":
			return KindMalformed
		case "ObjectAlreadyExists":
			return KindAlreadyExists
		}
		return KindRefused
	case http.StatusConflict:
		return KindRefused
	case http.StatusUnauthorized:
		return KindUnauthorized
	case http.StatusForbidden:
		return KindForbidden
	case http.StatusNotFound:
		if code == "ObjectNotFound" {
			return KindNotFound
		}
		return KindNoSuchRoute
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		http.StatusTooManyRequests:
		return KindUnavailable
	case http.StatusInsufficientStorage:
		return KindNoCapacity
	case http.StatusInternalServerError:
		return KindInternal
	}
	return KindBadResponse
}

// maxDetail bounds foreign text in an error: an event shows at most 1024 bytes in all.
const maxDetail = 300

// oneLine makes foreign text fit for one line of an event, without control characters.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail], "") + "…"
	}
	return s
}
