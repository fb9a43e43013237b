// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	// callers call at the same time, and each connects again after perConnection calls.
	callers, perConnection = 16, 50
	// rackLatency is that of the rack, and patience how long a caller waits that cancels its call.
	rackLatency, patience = 20 * time.Millisecond, 5 * time.Millisecond
)

// ends are how calls may end: answered, refused as they have to be, or cancelled by the caller.
type ends struct{ answered, refused, cancelled atomic.Int64 }

// Thousands of calls are made on the socket, by many connections, of which some fail and some are
// cancelled: nothing is left of them in either program.
func TestCallsLeaveNothing(t *testing.T) {
	const soak = "calls"
	w := newWorld(t, options{latency: rackLatency})
	state, err := w.rack.State(t.Context())
	w.must(err)
	var ids []string
	for _, instance := range state.Instances {
		ids = append(ids, instance.ID)
	}
	w.call(ids, chosen.calls/5)
	before := w.rested(firstRest)
	began := time.Now()
	e := w.call(ids, chosen.calls)
	took := time.Since(began)
	all := e.answered.Load() + e.refused.Load() + e.cancelled.Load()
	results.count(t, soak, "calls that ended as they may", int(all), chosen.calls)
	for _, of := range []struct {
		name string
		n    int64
	}{{"answered", e.answered.Load()}, {"refused", e.refused.Load()}, {"cancelled", e.cancelled.Load()}} {
		results.add(t, figure{soak, "of these " + of.name, "", strconv.FormatInt(of.n, 10), "> 0", of.n > 0})
	}
	results.add(t, figure{soak, "took", "", seconds(took), "", true})
	w.hold(soak, before)
}

// call makes so many calls, and fails the test if one ends as it may not.
func (w *world) call(ids []string, n int) *ends {
	w.Helper()
	e := new(ends)
	var next atomic.Int64
	var group sync.WaitGroup
	failed := make(chan error, callers)
	for range callers {
		group.Go(func() {
			for {
				first := int(next.Add(perConnection)) - perConnection
				if first >= n {
					return
				}
				if err := w.connection(e, ids, first, min(first+perConnection, n)); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(failed)
	for err := range failed {
		w.Error(err)
	}
	return e
}

// connection makes calls by a connection of their own.
func (w *world) connection(e *ends, ids []string, from, to int) error {
	conn, err := client.Dial(strings.TrimPrefix(w.ccm.Socket, "unix://"))
	if err != nil {
		return err
	}
	defer conn.Close()
	kinds := kindsOfCalls(conn, ids)
	for nth := from; nth < to; nth++ {
		kind := kinds[nth%len(kinds)]
		if err := kind.make(w.Context(), e, nth); err != nil {
			return fmt.Errorf("call %d, %s: %w", nth, kind.name, err)
		}
	}
	return nil
}

// kindOfCall is a call, and how it may end.
type kindOfCall struct {
	name string
	call func(ctx context.Context, nth int) error
	// reason is why it has to be refused; 0: it has to be answered.
	reason backendv1.ErrorReason
	// cancelled: the caller cancels it while the rack is asked, late: its deadline is then.
	cancelled, late bool
}

// make makes a call; an error if it ends as it may not.
func (k kindOfCall) make(ctx context.Context, e *ends, nth int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	switch {
	case k.cancelled:
		defer time.AfterFunc(patience, cancel).Stop()
	case k.late:
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	err := k.call(ctx, nth)
	known, _ := client.FromError(err)
	switch {
	case err == nil && k.reason == 0:
		e.answered.Add(1)
	case k.reason != 0 && client.HasReason(err, k.reason):
		e.refused.Add(1)
	case k.cancelled && known != nil && known.Code == codes.Canceled,
		k.late && known != nil && known.Code == codes.DeadlineExceeded:
		e.cancelled.Add(1)
	case err == nil:
		return fmt.Errorf("it was answered, and has to be refused: %v", k.reason)
	default:
		return err
	}
	return nil
}

func kindsOfCalls(conn grpc.ClientConnInterface, ids []string) []kindOfCall {
	info := backendv1.NewBackendServiceClient(conn)
	instances := backendv1.NewInstanceServiceClient(conn)
	get := func(ctx context.Context, id string, freshness backendv1.Freshness) error {
		_, err := instances.GetInstance(ctx, &backendv1.GetInstanceRequest{
			Instance: &backendv1.GetInstanceRequest_Id{Id: id}, Freshness: freshness,
		})
		return err
	}
	bounded := func(ctx context.Context, nth int) error {
		return get(ctx, ids[nth%len(ids)], backendv1.Freshness_FRESHNESS_BOUNDED)
	}
	direct := func(ctx context.Context, nth int) error {
		return get(ctx, ids[nth%len(ids)], backendv1.Freshness_FRESHNESS_DIRECT)
	}
	return []kindOfCall{
		{name: "GetInfo", call: func(ctx context.Context, _ int) error {
			_, err := info.GetInfo(ctx, new(backendv1.GetInfoRequest))
			return err
		}},
		{name: "GetInstance", call: bounded},
		{name: "GetInstance of the rack", call: direct},
		{name: "ListInstances", call: func(ctx context.Context, _ int) error {
			_, err := instances.ListInstances(ctx, &backendv1.ListInstancesRequest{PageSize: 5})
			return err
		}},
		{name: "WatchInstances", call: func(ctx context.Context, _ int) error {
			return watch(ctx, instances, true)
		}},
		{name: "WatchInstances, closed at once", call: func(ctx context.Context, _ int) error {
			return watch(ctx, instances, false)
		}},
		{
			name: "GetInstance of none", reason: backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND,
			call: func(ctx context.Context, nth int) error {
				return get(ctx, fmt.Sprintf("00000000-0000-4000-8000-%012d", nth), 0)
			},
		},
		{
			name: "GetInstance by no name", reason: backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
			call: func(ctx context.Context, _ int) error {
				_, err := instances.GetInstance(ctx, &backendv1.GetInstanceRequest{
					Instance: &backendv1.GetInstanceRequest_Name{Name: "No_Name"},
				})
				return err
			},
		},
		{
			name: "ListInstances by no token", reason: backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
			call: func(ctx context.Context, _ int) error {
				_, err := instances.ListInstances(ctx, &backendv1.ListInstancesRequest{PageToken: "none"})
				return err
			},
		},
		{name: "GetInstance, cancelled", cancelled: true, call: direct},
		{name: "GetInstance, too late", late: true, call: direct},
	}
}

// watch opens a watch, reads its snapshot or nothing, and closes it.
func watch(ctx context.Context, instances backendv1.InstanceServiceClient, read bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := instances.WatchInstances(ctx, new(backendv1.WatchInstancesRequest))
	for read && err == nil {
		var response *backendv1.WatchInstancesResponse
		if response, err = stream.Recv(); response.GetSnapshotComplete() != nil {
			break
		}
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the backend ended a watch")
	}
	return err
}
