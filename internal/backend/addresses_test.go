// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/status"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// What an operator names by mistake is answered in one line, with its reason, and touches nothing.
func TestRubbishAboutAddressesOverTheWire(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	node, err := rack.AddInstance("demo", oxidesim.InstanceSeed{Name: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []oxidesim.ExternalSubnetSeed{
		{Name: "mine", PrefixLength: 32}, {Name: "larger", PrefixLength: 30},
		{Name: "attached", PrefixLength: 32, Instance: "node-1"},
	} {
		if _, err := rack.AddExternalSubnet("demo", s); err != nil {
			t.Fatal(err)
		}
	}
	before := rack.State()
	p := start(t, rack.URL)
	p.awaitReady()
	client := backendv1.NewAddressServiceClient(p.conn)
	const subnet = backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET
	adopt := func(resource string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := client.AdoptAddress(ctx, &backendv1.AdoptAddressRequest{
				Source: subnet, Resource: resource, OwnerUid: "uid-1",
				Key: &backendv1.LoadBalancerKey{Scope: "c1", Name: "default/web"},
			})
			return err
		}
	}
	release := func(resource string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := client.ReleaseAddress(ctx,
				&backendv1.ReleaseAddressRequest{Source: subnet, Resource: resource})
			return err
		}
	}
	drop := func(id string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := client.DeleteOrphanedAddress(ctx,
				&backendv1.DeleteOrphanedAddressRequest{Scope: "c1", ResourceId: id})
			return err
		}
	}
	for name, tc := range map[string]struct {
		call   func(context.Context) error
		reason string
		says   string
	}{
		"adopt nothing":              {adopt(""), "INVALID_REQUEST", "resource"},
		"adopt a range":              {adopt("198.51.100.0/32"), "INVALID_REQUEST", "resource"},
		"adopt what is not there":    {adopt("nothing"), "RESOURCE_NOT_FOUND", "name one of the external subnets"},
		"adopt an instance":          {adopt(node.ID), "RESOURCE_NOT_FOUND", node.ID},
		"adopt a larger one":         {adopt("larger"), "INVALID_REQUEST", "/32"},
		"adopt one that is attached": {adopt("attached"), "ADDRESS_IN_USE", "detach it first"},
		"release what is not there":  {release("nothing"), "RESOURCE_NOT_FOUND", "there is no external subnet nothing"},
		"release an instance":        {release(node.ID), "RESOURCE_NOT_FOUND", node.ID},
		"delete a name":              {drop("mine"), "INVALID_REQUEST", "resource_id"},
		"delete without a session":   {drop(node.ID), "SESSION_REQUIRED", "c1"},
	} {
		err := tc.call(t.Context())
		text := status.Convert(err).Message()
		if reasonOf(err) != tc.reason || !strings.Contains(text, tc.says) ||
			strings.ContainsAny(text, "\r\n") || len(text) > 400 {
			t.Errorf("%s: %v, want %s: %s", name, err, tc.reason, tc.says)
		}
	}
	if diff := cmp.Diff(before, rack.State()); diff != "" {
		t.Errorf("the rack (-before +after):\n%s", diff)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
