// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance_test

import (
	"sync"

	"google.golang.org/protobuf/proto"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// duplicates makes a further address whenever one is reserved again.
func duplicates() wrong {
	var mu sync.Mutex
	asked := make(map[string]int)
	return requests(func(_ *call, m *backendv1.ReserveAddressRequest) {
		mu.Lock()
		defer mu.Unlock()
		asked[m.GetName()]++
		if n := asked[m.GetName()]; n > 1 {
			m.Name += "-" + string(rune('a'+n%26))
		}
	})
}

func wrongChanges() []wrongBackend {
	return []wrongBackend{
		{name: "answers a second reservation with a duplicate", wrong: duplicates(),
			cases: []string{"addresses/reserve-ten-times", "addresses/reserve-concurrently"}},
		{name: "says of each reservation that it was made now",
			wrong: responses(func(_ *call, m *backendv1.ReserveAddressResponse) { m.Created = true }),
			cases: []string{"addresses/reserve-ten-times", "addresses/reserve-concurrently"}},
		{name: "does not compare reservations",
			wrong: answering("RESERVATION_DIFFERS", nil), cases: []string{"addresses/reserve-differs"}},
		{name: "reserves from any pool",
			wrong: requests(func(_ *call, m *backendv1.ReserveAddressRequest) { m.Selector = nil }),
			cases: []string{"addresses/reserve-from-no-pool"}},
		{name: "forgets descriptions",
			wrong: responses(func(_ *call, m *backendv1.ReserveAddressResponse) { m.Address.Description = "" }),
			cases: []string{"addresses/reserve-ten-times"}},
		{name: "takes the name of others", wrong: answering("ADDRESS_NOT_OWNED", nil),
			cases: []string{
				"addresses/reserve-the-name-of-others", "addresses/of-a-load-balancer", "addresses/adopt-refused",
				"orphans/delete-ten-times",
			}},
		{name: "leaks addresses", cases: []string{"addresses/delete-ten-times", "addresses/external-subnet"},
			wrong: requests(func(_ *call, m *backendv1.DeleteAddressRequest) {
				m.ResourceId = "5a9174de-0000-4000-8000-000000000000"
			})},
		{name: "says that it deleted what is in use", wrong: answering("ADDRESS_IN_USE", nil),
			cases: []string{
				"addresses/delete-attached", "addresses/attach-moves", "addresses/detach-ten-times",
				"addresses/named-by-a-load-balancer",
			}},
		{name: "moves without permission", cases: []string{"addresses/attach-moves"},
			wrong: requests(func(_ *call, m *backendv1.AttachAddressRequest) {
				m.Move = &backendv1.AttachAddressRequest_FromAnywhere{FromAnywhere: true}
			})},
		{name: "says nothing of where an address was", cases: []string{"addresses/attach-moves"},
			wrong: responses(func(_ *call, m *backendv1.AttachAddressResponse) { m.PreviousInstanceId = "" })},
		{name: "attaches later", cases: []string{"addresses/attach-ten-times", "addresses/attach-concurrently"},
			wrong: responses(func(_ *call, m *backendv1.AttachAddressResponse) { m.Address.InstanceId = "" })},
		{name: "does not detach", cases: []string{"addresses/detach-ten-times"},
			wrong: wrong{end: func(c *call, err error) error {
				return err
			}, response: func(_ *call, m proto.Message) []proto.Message {
				if detached, is := m.(*backendv1.DetachAddressResponse); is {
					detached.Address.InstanceId = "5a9174de-0000-4000-8000-000000000000"
				}
				return []proto.Message{m}
			}}},
		{name: "lists what it was yesterday", cases: []string{"addresses/list"},
			wrong: responses(func(_ *call, m *backendv1.ListAddressesResponse) { m.Addresses = nil })},
		{name: "attaches to instances that are not", wrong: answering("INSTANCE_NOT_FOUND", nil),
			cases: []string{"addresses/attach-nothing", "instances/not-found"}},
		{name: "loses subnets",
			wrong: responses(func(_ *call, m *backendv1.ReserveAddressResponse) {
				m.Address.Source = backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP
			}), cases: []string{"addresses/external-subnet"}},
	}
}

func wrongOwners() []wrongBackend {
	return []wrongBackend{
		{name: "makes dry runs of adoptions come true", cases: []string{"addresses/adopt-and-release"},
			wrong: requests(func(_ *call, m *backendv1.AdoptAddressRequest) { m.DryRun = false })},
		{name: "adopts as a dry run", cases: []string{"addresses/adopt-and-release"},
			wrong: requests(func(_ *call, m *backendv1.AdoptAddressRequest) { m.DryRun = true })},
		{name: "releases as a dry run", cases: []string{"addresses/adopt-and-release"},
			wrong: requests(func(_ *call, m *backendv1.ReleaseAddressRequest) { m.DryRun = true })},
		{name: "makes dry runs of deletions come true", cases: []string{"orphans/delete-ten-times"},
			wrong: requests(func(_ *call, m *backendv1.DeleteOrphanedAddressRequest) { m.DryRun = false })},
		{name: "deletes orphans as a dry run", cases: []string{"orphans/delete-ten-times"},
			wrong: requests(func(_ *call, m *backendv1.DeleteOrphanedAddressRequest) { m.DryRun = true })},
		{name: "lists no orphans", cases: []string{"orphans/delete-ten-times"},
			wrong: responses(func(_ *call, m *backendv1.ListOrphanedAddressesResponse) { m.Orphans = nil })},
		{name: "lists no rules", cases: []string{"firewall/rules"},
			wrong: responses(func(_ *call, m *backendv1.ListFirewallRulesResponse) { m.Rules = nil })},
		{name: "lists no firewalls", cases: []string{"firewall/no-rules"},
			wrong: responses(func(_ *call, m *backendv1.ListFirewallRulesResponse) { m.Firewalls = nil })},
	}
}
