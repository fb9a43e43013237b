// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func watchCases() []Case {
	watch := []feature{backendv1.Feature_FEATURE_WATCH_INSTANCES}
	return []Case{
		{Name: "watch/snapshot", run: watchSnapshot, needs: needs{instances: 1, features: watch},
			Contract: []string{
				"It sends one `instance` event for each instance, one `snapshot_complete`, and from then on an " +
					"event for each change.",
				"The stream has no resume token: a caller that reconnects gets a new snapshot",
			}},
		{Name: "watch/changes", run: watchChanges, needs: needs{faults: true, features: watch},
			Contract: []string{
				"A reader that is slow misses intermediate states, never the last one.",
				"The id of an instance that is no longer listed.",
			}},
	}
}

// watchTimeout bounds all changes of a case.
const watchTimeout = time.Minute

type watchStream = grpc.ServerStreamingClient[backendv1.WatchInstancesResponse]

// snapshot opens a stream, and reads to the end of its snapshot. Events that it does not know are
// skipped.
func (c *checker) snapshot(ctx context.Context, on *conn) (watchStream, []string) {
	stream, err := on.instances.WatchInstances(ctx, &backendv1.WatchInstancesRequest{})
	c.must("WatchInstances", err)
	var got []string
	for {
		event, err := stream.Recv()
		c.must("the snapshot", err)
		switch e := event.GetEvent().(type) {
		case *backendv1.WatchInstancesResponse_Instance:
			got = append(got, e.Instance.GetId())
		case *backendv1.WatchInstancesResponse_SnapshotComplete:
			age := time.Since(e.SnapshotComplete.GetReadTime().AsTime())
			c.holds(age > -time.Minute && age < time.Hour, "snapshot_complete.read_time",
				"when it was read from Oxide", age)
			return stream, got
		case *backendv1.WatchInstancesResponse_NoLongerListedId:
			c.fail("the snapshot", "instances, and its end", "no_longer_listed_id")
		}
	}
}

func watchSnapshot(ctx context.Context, c *checker) {
	for i := range repetitions {
		limited, cancel := context.WithTimeout(ctx, c.options.Settle)
		on := c.conn
		if i%2 == 1 {
			on = c.another()
		}
		_, got := c.snapshot(limited, on)
		slices.Sort(got)
		c.holds(len(slices.Compact(slices.Clone(got))) == len(got), "the snapshot", "each instance once", got)
		for _, node := range c.nodes {
			c.holds(slices.Contains(got, node.GetId()), "the snapshot", "the instance "+node.GetName(), got)
		}
		cancel()
	}
}

func watchChanges(ctx context.Context, c *checker) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	stream, _ := c.snapshot(ctx, c.conn)
	name := c.name("watched")
	node := c.addInstance(ctx, seedInstance{Name: name})
	awaitEvent := func(what string, is func(*backendv1.WatchInstancesResponse) bool) {
		for {
			event, err := stream.Recv()
			if err != nil {
				c.fatal("a change of the watch", what+" within "+watchTimeout.String(), describe(err))
			}
			if event.GetSnapshotComplete() != nil {
				c.fail("the watch", "one snapshot_complete", "a second one")
			}
			if is(event) {
				return
			}
		}
	}
	inState := func(state backendv1.RunState) func(*backendv1.WatchInstancesResponse) bool {
		return func(event *backendv1.WatchInstancesResponse) bool {
			return event.GetInstance().GetId() == node.GetId() && event.GetInstance().GetRunState() == state
		}
	}
	awaitEvent("the new instance", inState(backendv1.RunState_RUN_STATE_RUNNING))
	c.play(ctx, "set-run-state", story{Instance: name, State: "migrating"})
	awaitEvent("its run state", inState(backendv1.RunState_RUN_STATE_MIGRATING))
	c.play(ctx, "set-run-state", story{Instance: name, State: "running"})
	awaitEvent("its run state", inState(backendv1.RunState_RUN_STATE_RUNNING))
	c.play(ctx, "remove-instance", story{Instance: name})
	awaitEvent(fmt.Sprintf("no_longer_listed_id %s", node.GetId()),
		func(event *backendv1.WatchInstancesResponse) bool {
			return event.GetNoLongerListedId() == node.GetId()
		})
}
