// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// errorDomain is the domain of each ErrorInfo.
const errorDomain = "oxide.computer"

// maxMessage is the longest status message, in bytes, that still is one line for people.
const maxMessage = 2048

// Failure is something that a case expected, and what came instead.
type Failure struct {
	What     string `json:"what"`
	Expected string `json:"expected"`
	Got      string `json:"got"`
}

// checker is what a case works with: the world of the run, and what it has found.
type checker struct {
	*world

	mu       sync.Mutex
	failures []Failure
	skipped  string
	cleanups []func(context.Context)
}

// abort ends a case that cannot go on; skip and fatal panic with it.
type abort struct{}

// fail records a failure.
func (c *checker) fail(what, expected, got string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	failure := Failure{What: what, Expected: expected, Got: bounded(got)}
	if !slices.Contains(c.failures, failure) {
		c.failures = append(c.failures, failure)
	}
}

// fatal records a failure and ends the case.
func (c *checker) fatal(what, expected, got string) {
	c.fail(what, expected, got)
	panic(abort{})
}

// skip ends the case as skipped.
func (c *checker) skip(why string) {
	c.skipped = why
	panic(abort{})
}

// cleanup has something done when the case has ended, the latest first, also if the run was
// interrupted.
func (c *checker) cleanup(undo func(context.Context)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cleanups = append(c.cleanups, undo)
}

// holds records a failure unless a condition is true.
func (c *checker) holds(condition bool, what, expected string, got any) bool {
	if !condition {
		c.fail(what, expected, fmt.Sprint(got))
	}
	return condition
}

// equal records a failure unless two values are the same.
func equal[V comparable](c *checker, what string, got, want V) bool {
	return c.holds(got == want, what, fmt.Sprint(want), got)
}

// ok records a failure for an error.
func (c *checker) ok(what string, err error) bool {
	if err == nil {
		return true
	}
	c.inspect(what, err)
	c.fail(what, "OK", describe(err))
	return false
}

// must ends the case for an error.
func (c *checker) must(what string, err error) {
	if !c.ok(what, err) {
		panic(abort{})
	}
}

// refused records a failure unless an error has this code and reason, and is as the contract has
// errors.
func (c *checker) refused(what string, err error, code codes.Code, reason backendv1.ErrorReason) bool {
	if err == nil {
		c.fail(what, code.String()+" "+nameOf(reason), "OK")
		return false
	}
	c.inspect(what, err)
	if status.Code(err) != code || reasonOf(err) != reason {
		c.fail(what, code.String()+" "+nameOf(reason), describe(err))
		return false
	}
	if slices.Contains(waiting, reason) && retryDelay(err) <= 0 {
		c.fail(what+": its delay", "a RetryInfo with a delay", describe(err)+" without one")
		return false
	}
	return true
}

// invalid expects INVALID_REQUEST.
func (c *checker) invalid(what string, err error) {
	c.refused(what, err, codes.InvalidArgument,
		backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
}

// waiting are the reasons that come with a RetryInfo.
var waiting = []backendv1.ErrorReason{
	backendv1.ErrorReason_ERROR_REASON_POOL_EXHAUSTED,
	backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE,
	backendv1.ErrorReason_ERROR_REASON_BACKEND_STOPPING,
	backendv1.ErrorReason_ERROR_REASON_TOO_MANY_SESSIONS,
}

// inspect records what is wrong with the form of an error, whatever it says.
func (c *checker) inspect(what string, err error) {
	st, isStatus := status.FromError(err)
	if errors.Is(err, io.EOF) || !isStatus || local(err) {
		return
	}
	var infos []*errdetails.ErrorInfo
	for _, detail := range st.Details() {
		if info, isInfo := detail.(*errdetails.ErrorInfo); isInfo {
			infos = append(infos, info)
		}
	}
	if len(infos) != 1 {
		c.fail(what+": its details", "exactly one google.rpc.ErrorInfo",
			fmt.Sprintf("%d in %s", len(infos), describe(err)))
		return
	}
	if infos[0].GetDomain() != errorDomain {
		c.fail(what+": its domain", errorDomain, infos[0].GetDomain())
	}
	message := st.Message()
	if message == "" || len(message) > maxMessage || strings.ContainsFunc(message, unicode.IsControl) {
		c.fail(what+": its message", "one line for people", fmt.Sprintf("%q", message))
	}
}

// local reports whether a status was made by the transport of this side.
func local(err error) bool {
	code := status.Code(err)
	return len(status.Convert(err).Details()) == 0 &&
		(code == codes.Canceled || code == codes.DeadlineExceeded || code == codes.Unavailable)
}

// reasonOf is the reason in an error; UNSPECIFIED if there is none.
func reasonOf(err error) backendv1.ErrorReason {
	for _, detail := range status.Convert(err).Details() {
		if info, isInfo := detail.(*errdetails.ErrorInfo); isInfo {
			return backendv1.ErrorReason(backendv1.ErrorReason_value["ERROR_REASON_"+info.GetReason()])
		}
	}
	return backendv1.ErrorReason_ERROR_REASON_UNSPECIFIED
}

// retryDelay is the delay in the RetryInfo of an error; 0 if there is none.
func retryDelay(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, isInfo := detail.(*errdetails.RetryInfo); isInfo {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// nameOf is a reason as it is on the wire.
func nameOf(reason backendv1.ErrorReason) string {
	return strings.TrimPrefix(reason.String(), "ERROR_REASON_")
}

// describe is an error in one line.
func describe(err error) string {
	switch {
	case err == nil:
		return "OK"
	case errors.Is(err, io.EOF):
		return "the end of the stream with OK"
	}
	st := status.Convert(err)
	reason := "no reason"
	for _, detail := range st.Details() {
		if info, isInfo := detail.(*errdetails.ErrorInfo); isInfo {
			reason = info.GetReason()
		}
	}
	return fmt.Sprintf("%s %s: %s", st.Code(), reason, bounded(st.Message()))
}

// bounded makes a text one line of some length.
func bounded(text string) string {
	const most = 400
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// pollInterval is the pause between two looks at what is awaited.
const pollInterval = 10 * time.Millisecond

// await ends the case unless a condition becomes true in time; the condition returns what there is
// instead.
func (c *checker) await(ctx context.Context, what, expected string, timeout time.Duration,
	condition func() (got string, met bool),
) {
	deadline := time.Now().Add(timeout)
	pause := pollInterval
	for {
		got, met := condition()
		if met {
			return
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			c.fatal(what, expected+" within "+timeout.String(), got)
		}
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
		wait.Stop()
		pause = min(2*pause, time.Second)
	}
}
