// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// outages are ways in which a whole rack fails.
var outages = []struct {
	name   string
	what   fault
	code   codes.Code
	reason backendv1.ErrorReason
}{
	{"faults/503", fault{Status: 503, ErrorCode: "ServiceNotAvailable"}, codes.Unavailable,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE},
	{"faults/502", fault{Status: 502}, codes.Unavailable,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE},
	{"faults/429", fault{Status: 429}, codes.Unavailable,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE},
	{"faults/connections-dropped", fault{Reset: true}, codes.Unavailable,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE},
	{"faults/401", fault{Status: 401, ErrorCode: "Unauthorized"}, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_CREDENTIALS_REJECTED},
	{"faults/403", fault{Status: 403, ErrorCode: "Forbidden"}, codes.PermissionDenied,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_FORBIDDEN},
	{"faults/404", fault{Status: 404, ErrorCode: "ObjectNotFound"}, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_PROJECT_NOT_FOUND},
	{"faults/500", fault{Status: 500, ErrorCode: "Internal"}, codes.Internal,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_BAD_RESPONSE},
	{"faults/not-json", fault{Body: "<html>a proxy</html>"}, codes.Internal,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_BAD_RESPONSE},
}

func faultCases() []Case {
	faults := needs{faults: true, changes: true, features: reserved}
	var cases []Case
	for _, outage := range outages {
		cases = append(cases, Case{
			Name: outage.name, needs: faults,
			Contract: []string{
				"None of them says anything about whether an instance exists.",
				outageContracts[outage.reason],
			},
			run: func(ctx context.Context, c *checker) {
				duringOutage(ctx, c, outage.what, outage.code, outage.reason)
			},
		})
	}
	attached := faults
	attached.instances = 2
	return append(cases,
		Case{Name: "faults/older-rack", run: olderRack, needs: faults, Contract: []string{
			"FAILED_PRECONDITION: this rack does not speak the API version of this backend: it is older.",
		}},
		Case{Name: "faults/lost-answers", run: lostAnswers, needs: attached, Contract: []string{
			"where the outcome is not known (OXIDE_UNAVAILABLE) the caller repeats the call, which is " +
				"idempotent.",
		}},
		Case{Name: "faults/lost-answers-in-a-session", run: lostInSession, needs: attached,
			Contract: []string{
				"the client sends the desired state of all load balancers of one scope and what it observes " +
					"of the " +
					"candidates, and the backend makes it so for as long as the session lasts.",
			}},
		Case{Name: "faults/outage-in-a-session", run: outageInSession, needs: attached, Contract: []string{
			"Nothing is changed for now: the session is not in sync, Oxide cannot be read, what is desired is " +
				"not known, or the rest waits for Oxide or a person.",
		}},
	)
}

var outageContracts = map[backendv1.ErrorReason]string{
	backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE: "UNAVAILABLE with RetryInfo: Oxide did not " +
		"answer in time, could not be reached, or said that it cannot do this now (HTTP 502, 503, 504).",
	backendv1.ErrorReason_ERROR_REASON_OXIDE_CREDENTIALS_REJECTED: "FAILED_PRECONDITION: Oxide " +
		"rejected the token (HTTP 401): it is missing, unknown or expired.",
	backendv1.ErrorReason_ERROR_REASON_OXIDE_FORBIDDEN: forbiddenContract,
	backendv1.ErrorReason_ERROR_REASON_PROJECT_NOT_FOUND: "FAILED_PRECONDITION: the configured project " +
		"does not exist, or the credentials have no role on it (Oxide answers 404 for both).",
	backendv1.ErrorReason_ERROR_REASON_OXIDE_BAD_RESPONSE: "INTERNAL: Oxide answered with status 500, " +
		"or with something that cannot be understood.",
}

const forbiddenContract = "PERMISSION_DENIED: the token's user may read the object but not do " +
	"this (HTTP " +
	"403)."

// duringOutage makes calls while all requests of Oxide fail in one way.
func duringOutage(ctx context.Context, c *checker, what fault, code codes.Code,
	reason backendv1.ErrorReason,
) {
	existing := c.reservation("before")
	address := c.reserve(ctx, existing)
	fresh := c.reservation("during")
	restore := c.spoil(ctx, what)
	for name, call := range map[string]func() error{
		"GetInstance": func() error {
			_, err := c.instances.GetInstance(ctx, byID(absentID))
			return err
		},
		"ListInstances": func() error {
			_, err := c.instances.ListInstances(ctx, &backendv1.ListInstancesRequest{
				MaxAge: durationpb.New(0), View: backendv1.InstanceView_INSTANCE_VIEW_BASIC,
			})
			return err
		},
		"ListAddresses": func() error {
			_, err := c.addresses.ListAddresses(ctx, &backendv1.ListAddressesRequest{MaxAge: durationpb.New(0)})
			return err
		},
		"ReserveAddress": func() error {
			_, err := c.addresses.ReserveAddress(ctx, fresh)
			return err
		},
		"DeleteAddress": func() error {
			_, err := c.addresses.DeleteAddress(ctx, &backendv1.DeleteAddressRequest{
				Source: address.GetSource(), ResourceId: address.GetResourceId(),
			})
			return err
		},
	} {
		c.refused(name+" during it", call(), code, reason)
	}
	restore(ctx)
	again := c.reserve(ctx, existing)
	equal(c, "an address that was there before", again.GetResourceId(), address.GetResourceId())
	c.reserve(ctx, fresh)
	c.countNamed(ctx, fresh.GetName(), 1)
}

func olderRack(ctx context.Context, c *checker) {
	var state struct {
		APIVersion string `json:"api_version"`
	}
	if err := c.rack.do(ctx, "GET", "state", nil, &state); err != nil {
		c.fatal("the simulated rack", "its state", err.Error())
	}
	c.cleanup(func(ctx context.Context) {
		c.play(ctx, "set-api-version", story{APIVersion: state.APIVersion})
		c.recovered(ctx)
	})
	c.play(ctx, "set-api-version", story{APIVersion: "2025010100.0.0"})
	_, err := c.instances.GetInstance(ctx, byID(absentID))
	c.refused("GetInstance of an older rack", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_API_VERSION_UNSUPPORTED)
	_, err = c.addresses.ReserveAddress(ctx, c.reservation("older"))
	c.refused("ReserveAddress of an older rack", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_API_VERSION_UNSUPPORTED)
}

// repeat makes a change until it succeeds; until then only an unknown outcome is accepted.
func (c *checker) repeat(ctx context.Context, what string, change func() error) {
	c.await(ctx, what, "OK", c.options.Settle, func() (string, bool) {
		err := change()
		if err != nil {
			c.inspect(what, err)
		}
		return describe(err), err == nil
	})
}

// lostAnswers has Oxide make each change, and its answer lost.
func lostAnswers(ctx context.Context, c *checker) {
	lose := func(operation string) {
		c.spoil(ctx, fault{Operation: operation, Times: 1, Execute: true, Reset: true})
	}
	request := c.reservation("lost")
	lose("floating_ip_create")
	c.repeat(ctx, "ReserveAddress whose answer is lost", func() error {
		_, err := c.addresses.ReserveAddress(ctx, request)
		return err
	})
	address := c.reserve(ctx, request)
	c.countNamed(ctx, request.GetName(), 1)
	lose("floating_ip_attach")
	c.repeat(ctx, "AttachAddress whose answer is lost", func() error {
		_, err := c.addresses.AttachAddress(ctx, attachRequest(address, c.nodes[0]))
		return err
	})
	c.attachedTo(ctx, address, c.nodes[0].GetId())
	lose("floating_ip_detach")
	move := attachRequest(address, c.nodes[1])
	move.Move = &backendv1.AttachAddressRequest_FromAnywhere{FromAnywhere: true}
	c.repeat(ctx, "a move whose first answer is lost", func() error {
		_, err := c.addresses.AttachAddress(ctx, move)
		return err
	})
	c.attachedTo(ctx, address, c.nodes[1].GetId())
	c.detach(ctx, address, c.nodes[1])
	lose("floating_ip_delete")
	c.repeat(ctx, "DeleteAddress whose answer is lost", func() error {
		_, err := c.addresses.DeleteAddress(ctx, &backendv1.DeleteAddressRequest{
			Source: address.GetSource(), ResourceId: address.GetResourceId(),
		})
		return err
	})
	c.countNamed(ctx, request.GetName(), 0)
}

func lostInSession(ctx context.Context, c *checker) {
	for _, operation := range []string{
		"floating_ip_create", "floating_ip_attach", "floating_ip_detach", "floating_ip_delete",
	} {
		lb := c.balancer("lost")
		c.spoil(ctx, fault{Operation: operation, Times: 1, Execute: true, Reset: true})
		s := c.acting(ctx, c.nodes[:1], lb)
		state := s.ready(ctx, lb.GetKey().GetName())
		equal(c, "the addresses when the answer to "+operation+" is lost", len(state.GetAddresses()), 1)
		c.markedFor(ctx, lb, state.GetAddresses()[0])
		s.release(ctx)
		c.gone(ctx, lb.GetKey())
		c.countNamed(ctx, state.GetAddresses()[0].GetResourceName(), 0)
	}
}

func outageInSession(ctx context.Context, c *checker) {
	first, second := c.balancer("first"), c.balancer("second")
	s := c.acting(ctx, c.nodes[:1], first)
	before := s.ready(ctx, first.GetKey().GetName()).GetAddresses()[0]
	restore := c.spoil(ctx, fault{Status: 503, ErrorCode: "ServiceNotAvailable"})
	s.want(second)
	name := second.GetKey().GetName()
	s.await(ctx, "a state of the second one during it", func(e *events) bool {
		state := e.states[name]
		return state != nil && (state.GetProblem() != nil || state.GetPhase() == backendv1.Phase_PHASE_PENDING)
	})
	s.mu.Lock()
	equal(c, "the addresses of the second one during it", attachments(s.states[name]), 0)
	s.mu.Unlock()
	restore(ctx)
	start := time.Now()
	s.ready(ctx, name)
	c.holds(time.Since(start) < recoveryTimeout, "the second one after it", "ready within 30 s",
		time.Since(start))
	equal(c, "the address of the first one after it", c.addressOf(ctx, first.GetKey()).GetResourceId(),
		before.GetResourceId())
	s.mu.Lock()
	detached := 0
	for _, action := range s.actions {
		if action.GetType() == backendv1.ActionType_ACTION_TYPE_DETACH {
			detached++
		}
	}
	ended, err := s.ended, s.err
	s.mu.Unlock()
	equal(c, "how often something was detached", detached, 0)
	if ended && !errors.Is(err, io.EOF) {
		c.fail("the session", "still open", fmt.Sprint(describe(err)))
	}
	s.release(ctx)
}
