// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const callEndedContract = "CANCELLED or DEADLINE_EXCEEDED: the caller went away or its time was up."

func transportCases() []Case {
	watch := []feature{backendv1.Feature_FEATURE_WATCH_INSTANCES}
	reserved := []feature{backendv1.Feature_FEATURE_RESERVED_ADDRESSES}
	return []Case{
		{Name: "transport/deadline-of-a-stream", run: streamDeadline, needs: needs{features: watch},
			Contract: []string{callEndedContract}},
		{Name: "transport/deadline-of-a-call", run: callDeadline, needs: needs{faults: true},
			Contract: []string{callEndedContract}},
		{Name: "transport/cancelled-streams", run: cancelledStreams, needs: needs{features: watch},
			Contract: []string{callEndedContract}},
		{Name: "transport/cancelled-change", run: cancelledChange,
			needs: needs{changes: true, features: reserved},
			Contract: []string{
				"A mutation that had been sent may still take effect; none was started afterwards.",
				"Asked again for the same, also after the backend was restarted or by another backend, it " +
					"returns the same address, wherever that is attached",
			}},
		{Name: "transport/many-calls", run: manyCalls, Contract: []string{
			"a deadline that passes while the call waits for one of the 1,000 streams that a connection may have",
		}},
		{Name: "transport/reconnects", run: reconnects, Contract: []string{"GetInfo describes the backend."}},
	}
}

func streamDeadline(ctx context.Context, c *checker) {
	c.endsAtDeadline(ctx, backendv1.InstanceService_WatchInstances_FullMethodName,
		&backendv1.WatchInstancesRequest{}, 300*time.Millisecond, 5*time.Second)
}

func callDeadline(ctx context.Context, c *checker) {
	restore := c.spoil(ctx, fault{Operation: "instance_*", LatencyMS: 2000})
	c.endsAtDeadline(ctx, backendv1.InstanceService_GetInstance_FullMethodName, byID(absentID),
		200*time.Millisecond, time.Second)
	restore(ctx)
}

// endsAtDeadline expects that the server ends a call soon after its deadline. The transport of the
// server may reset the stream before the status is sent, so the status is only asked for until it
// was seen once.
func (c *checker) endsAtDeadline(ctx context.Context, method string, request proto.Message,
	deadline, within time.Duration,
) {
	for range repetitions {
		start := time.Now()
		st, err := c.endedByServer(ctx, method, deadline, request)
		c.holds(time.Since(start) < deadline+within, "the end of a call with a deadline of "+deadline.String(),
			"within "+within.String()+" of it", time.Since(start))
		switch {
		case err == nil:
			c.refused("a call whose deadline has passed", st.Err(), codes.DeadlineExceeded,
				backendv1.ErrorReason_ERROR_REASON_CALL_ENDED)
			return
		case !strings.Contains(err.Error(), "CANCEL"): // of HTTP/2, for what it calls a stream error
			c.fatal("a call whose deadline has passed", "a status", err.Error())
		}
	}
}

func cancelledStreams(ctx context.Context, c *checker) {
	for range 5 * repetitions {
		limited, cancel := context.WithCancel(ctx)
		stream, err := c.instances.WatchInstances(limited, &backendv1.WatchInstancesRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if !c.ok("a stream that is cancelled soon", err) {
			cancel()
			return
		}
		cancel()
		for err == nil {
			_, err = stream.Recv()
		}
		equal(c, "a cancelled stream", status.Code(err), codes.Canceled)
	}
	_, err := c.backend.GetInfo(ctx, &backendv1.GetInfoRequest{})
	c.ok("a call after fifty cancelled streams", err)
}

func cancelledChange(ctx context.Context, c *checker) {
	request := c.reservation("cancelled")
	for i := range repetitions {
		limited, cancel := context.WithTimeout(ctx, time.Duration(i)*3*time.Millisecond)
		_, err := c.addresses.ReserveAddress(limited, request)
		cancel()
		code := status.Code(err)
		c.holds(code == codes.OK || code == codes.DeadlineExceeded || code == codes.ResourceExhausted ||
			errors.Is(err, context.DeadlineExceeded), "a change whose deadline is short",
			"OK or DEADLINE_EXCEEDED", describe(err))
	}
	first := c.reserve(ctx, request)
	second := c.reserve(ctx, request)
	equal(c, "the id after cancelled calls", second.GetResourceId(), first.GetResourceId())
	found, err := c.listAddresses(ctx, &backendv1.ListAddressesRequest{Names: []string{request.GetName()}})
	c.must("ListAddresses", err)
	equal(c, "how many addresses there are after cancelled calls", len(found), 1)
}

// manyCalls makes fewer calls at a time than the 100 of a client that is not the backend's own user.
func manyCalls(ctx context.Context, c *checker) {
	const calls = 90
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			got, err := c.backend.GetInfo(ctx, &backendv1.GetInfoRequest{})
			if c.ok("one of 90 calls at the same time", err) {
				equal(c, "project.id", got.GetProject().GetId(), c.info.GetProject().GetId())
			}
		})
	}
	wg.Wait()
}

func reconnects(ctx context.Context, c *checker) {
	for i := range repetitions {
		further := c.another()
		got, err := further.backend.GetInfo(ctx, &backendv1.GetInfoRequest{})
		if c.ok(fmt.Sprintf("connection %d", i+1), err) {
			equal(c, "project.id", got.GetProject().GetId(), c.info.GetProject().GetId())
		}
		_ = further.grpc.Close()
	}
}
