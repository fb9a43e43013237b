// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func restartCases() []Case {
	return []Case{
		{Name: "restart/streams-and-state", run: restarts,
			needs: needs{restart: true, changes: true, instances: 1, features: operations},
			Contract: []string{
				"UNAVAILABLE with RetryInfo: the backend is about to stop. Reconnect.",
				"It ends with BACKEND_STOPPING when the backend is stopped.",
				"Asked again for the same, also after the backend was restarted or by another backend, it " +
					"returns the same address, wherever that is attached",
				"The backend keeps nothing on disk: what must survive it is in Oxide, or comes with the next " +
					"session.",
			}},
	}
}

func restarts(ctx context.Context, c *checker) {
	request := c.reservation("outlives")
	address := c.reserve(ctx, request)
	lb := c.balancer("outlives")
	s := c.acting(ctx, c.nodes[:1], lb)
	state := s.ready(ctx, lb.GetKey().GetName())
	watch, _ := c.snapshot(ctx, c.conn)
	watched := make(chan error, 1)
	go func() {
		for {
			if _, err := watch.Recv(); err != nil {
				watched <- err
				return
			}
		}
	}()
	if err := c.options.Restart(ctx); err != nil {
		c.fatal("to restart the backend", "OK", err.Error())
	}
	stopping := func(what string, err error) {
		c.refused(what, err, codes.Unavailable, backendv1.ErrorReason_ERROR_REASON_BACKEND_STOPPING)
	}
	stopping("the end of a session", s.awaitEnd(ctx, "the session ends"))
	select {
	case err := <-watched:
		stopping("the end of a watch", err)
	case <-ctx.Done():
		c.fatal("the end of a watch", "Unavailable BACKEND_STOPPING", "it is open")
	}
	again := c.reserve(ctx, request)
	equal(c, "the address after the restart", again.GetResourceId(), address.GetResourceId())
	lb.PublishedAddresses = state.GetPublish()
	s = c.acting(ctx, c.nodes[:1], lb)
	after := s.ready(ctx, lb.GetKey().GetName())
	if equal(c, "the addresses of the load balancer", len(after.GetAddresses()), 1) {
		equal(c, "the address of the load balancer", after.GetAddresses()[0].GetResourceId(),
			state.GetAddresses()[0].GetResourceId())
	}
	equal(c, "how often one was created", s.made(backendv1.ActionType_ACTION_TYPE_CREATE), 0)
	equal(c, "how often one was attached", s.made(backendv1.ActionType_ACTION_TYPE_ATTACH), 0)
	s.release(ctx)
	found, err := c.listAddresses(ctx, &backendv1.ListAddressesRequest{
		Names: []string{request.GetName()}, MaxAge: durationpb.New(0),
	})
	if c.ok("ListAddresses", err) {
		equal(c, "the number of addresses after the restart", len(found), 1)
	}
}
