// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"context"
	"testing"
	"time"

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
