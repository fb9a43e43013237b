// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Which instances are there, and what do they do?
func Example() {
	socket, stop := exampleBackend()
	defer stop()

	conn, err := client.Dial(socket) // for example /run/oxide/backend/backend.sock
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	instances := backendv1.NewInstanceServiceClient(conn)
	request := new(backendv1.ListInstancesRequest)
	for {
		page, err := instances.ListInstances(context.Background(), request)
		if err != nil {
			log.Fatal(err)
		}
		for _, instance := range page.GetInstances() {
			fmt.Println(instance.GetName(), instance.GetRunState())
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	// Output:
	// web-1 RUN_STATE_RUNNING
	// web-2 RUN_STATE_RUNNING
}

// A program decides by the reason, and shows the message to people.
func ExampleReason() {
	socket, stop := exampleBackend()
	defer stop()
	conn, err := client.Dial(socket)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	_, err = backendv1.NewInstanceServiceClient(conn).GetInstance(context.Background(),
		&backendv1.GetInstanceRequest{
			Instance: &backendv1.GetInstanceRequest_Name{Name: "web-3"},
		})
	switch {
	case errors.Is(err, client.ErrInstanceNotFound):
		fmt.Println("gone:", err)
	case err != nil:
		// The instance may well exist: nothing may be deleted because of this.
		fmt.Println("not known:", err)
	}
	// Output:
	// gone: there is no instance web-3 in the project demo
}

// How long to wait before trying again, and under which id Oxide has logged the request.
func ExampleError() {
	socket, stop := exampleBackend()
	defer stop()
	conn, err := client.Dial(socket)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	_, err = backendv1.NewPoolServiceClient(conn).ListPools(context.Background(),
		new(backendv1.ListPoolsRequest))
	var failed *client.Error
	if errors.As(err, &failed) {
		fmt.Println(failed.Code, client.Reason(failed.Reason), failed.RetryDelay)
	}
	// Output:
	// Unavailable OXIDE_UNAVAILABLE 5s
}

// An InstanceWatch keeps all instances, over as many streams as it takes.
func ExampleInstanceWatch() {
	socket, stop := exampleBackend()
	defer stop()
	conn, err := client.Dial(socket)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var watch *client.InstanceWatch
	watch = client.NewInstanceWatch(client.InstanceWatchConfig{
		Service: backendv1.NewInstanceServiceClient(conn),
		Synced: func() {
			for _, instance := range watch.Instances() {
				fmt.Println(instance.GetName())
			}
			cancel()
		},
	})
	watch.Run(ctx)
	// Output:
	// web-1
	// web-2
}

// A Session has a load balancer kept: an address that is attached to one of two instances.
func ExampleSession() {
	socket, stop := exampleBackend()
	defer stop()
	conn, err := client.Dial(socket)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	session := client.NewSession(client.SessionConfig{
		Conn: conn,
		// One acting session for each scope: a newer one ends this.
		Open: &backendv1.OpenSession{Scope: "web-frontend"},
	})
	for _, id := range []string{"instance-1", "instance-2"} {
		session.SetCandidate(&backendv1.Candidate{
			InstanceId: id, Readiness: backendv1.Readiness_READINESS_READY,
		}, time.Now(), time.Time{})
	}
	key := &backendv1.LoadBalancerKey{Scope: "web-frontend", Name: "web"}
	session.SetLoadBalancer(&backendv1.DesiredLoadBalancer{
		Key: key, OwnerUid: "web", NoPublication: true,
		Ports: []*backendv1.Port{{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: 443}},
		Addresses: []*backendv1.DesiredAddress{{
			Family: backendv1.IpFamily_IP_FAMILY_IPV4,
			Source: &backendv1.DesiredAddress_FloatingIp{FloatingIp: new(backendv1.FloatingIpSource)},
		}},
	})
	session.MarkSynced()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	var running sync.WaitGroup
	running.Go(func() {
		// SESSION_SUPERSEDED: another process has the scope now, and this one must not come back.
		if err := session.Run(ctx); err != nil {
			log.Print(err)
		}
	})
	state, err := session.AwaitState(ctx, key, func(state *backendv1.LoadBalancerState) bool {
		return state.GetPhase() == backendv1.Phase_PHASE_READY
	})
	if err != nil {
		log.Print(err)
	}
	fmt.Println(state.GetAddresses()[0].GetAddress(), state.GetExplanation())

	cancel()
	running.Wait()
	// Output:
	// 198.51.100.10 web-1 carries it
}
