// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// A program without Kubernetes keeps an address on one of two instances, while its backend is killed again
// and again: the same calls, made again, end with one address that is attached once.
func TestInvariant6AnAddressOutlivesEveryBackend(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	nodes := make([]string, 2)
	for i, name := range []string{"vm-1", "vm-2"} {
		node, err := rack.AddInstance("demo", oxidesim.InstanceSeed{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = node.ID
	}
	const source = backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP
	follow := func(ctx context.Context, p *process, target string) error {
		addresses := backendv1.NewAddressServiceClient(p.conn)
		reserved, err := addresses.ReserveAddress(ctx, &backendv1.ReserveAddressRequest{
			Name: "vip", Source: source, Family: backendv1.IpFamily_IP_FAMILY_IPV4, Description: "of the test",
		})
		if err != nil {
			return err
		}
		_, err = addresses.AttachAddress(ctx, &backendv1.AttachAddressRequest{
			Source: source, ResourceId: reserved.GetAddress().GetResourceId(), InstanceId: target,
			Move: &backendv1.AttachAddressRequest_FromAnywhere{FromAnywhere: true},
		})
		return err
	}
	for round := range 10 {
		target := nodes[round%2]
		killed := start(t, rack.URL)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		ended := make(chan error, 1)
		go func() { ended <- follow(ctx, killed, target) }()
		// Somewhere within the calls: Oxide takes about 50 ms for each attachment and detachment here.
		time.Sleep(time.Duration(round) * 15 * time.Millisecond)
		_ = killed.cmd.Process.Kill()
		_ = killed.cmd.Wait()
		cancel()
		<-ended

		p := start(t, rack.URL)
		p.await("done", func() bool { return follow(t.Context(), p, target) == nil })
		ips := rack.FloatingIPs()
		if len(ips) != 1 || ips[0].InstanceID != target || ips[0].AttachState != "attached" {
			t.Fatalf("round %d: %+v", round, ips)
		}
		if code := p.stop(); code != 0 {
			t.Errorf("round %d: exit code %d", round, code)
		}
	}
}

// The same program gives its address up, and its backend is killed meanwhile: made again, the calls end with
// no address, and touch no other one.
func TestInvariant6AnAddressIsGivenUpWhateverIsKilled(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	node, err := rack.AddInstance("demo", oxidesim.InstanceSeed{Name: "vm-1"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := rack.AddFloatingIP("demo", oxidesim.FloatingIPSeed{Name: "other", Instance: "vm-1"})
	if err != nil {
		t.Fatal(err)
	}
	const source = backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP
	giveUp := func(ctx context.Context, p *process, id string) error {
		addresses := backendv1.NewAddressServiceClient(p.conn)
		_, err := addresses.DetachAddress(ctx, &backendv1.DetachAddressRequest{
			Source: source, ResourceId: id, InstanceId: node.ID,
		})
		if err != nil && reasonOf(err) != "RESOURCE_NOT_FOUND" { // it is deleted already
			return err
		}
		_, err = addresses.DeleteAddress(ctx, &backendv1.DeleteAddressRequest{Source: source, ResourceId: id})
		return err
	}
	for round := range 8 {
		killed := start(t, rack.URL)
		addresses := backendv1.NewAddressServiceClient(killed.conn)
		reserved, err := addresses.ReserveAddress(t.Context(), &backendv1.ReserveAddressRequest{
			Name: "vip", Source: source, Family: backendv1.IpFamily_IP_FAMILY_IPV4,
		})
		if err != nil {
			t.Fatal(err)
		}
		id := reserved.GetAddress().GetResourceId()
		if _, err := addresses.AttachAddress(t.Context(), &backendv1.AttachAddressRequest{
			Source: source, ResourceId: id, InstanceId: node.ID,
		}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		ended := make(chan error, 1)
		go func() { ended <- giveUp(ctx, killed, id) }()
		// Somewhere within the calls.
		time.Sleep(time.Duration(round) * 12 * time.Millisecond)
		_ = killed.cmd.Process.Kill()
		_ = killed.cmd.Wait()
		cancel()
		<-ended

		p := start(t, rack.URL)
		p.await("given up", func() bool {
			err := giveUp(t.Context(), p, id)
			if code := status.Code(err); err != nil && code != codes.Unavailable && code != codes.FailedPrecondition {
				t.Errorf("round %d: %v", round, err)
			}
			return err == nil
		})
		ips := rack.FloatingIPs()
		if len(ips) != 1 || ips[0].ID != other.ID || ips[0].InstanceID != node.ID {
			t.Fatalf("round %d: %+v", round, ips)
		}
		if code := p.stop(); code != 0 {
			t.Errorf("round %d: exit code %d", round, code)
		}
	}
}
