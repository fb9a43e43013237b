// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func machineCases() []Case {
	return []Case{
		{Name: "machines/identified", run: identified, needs: needs{instances: 1}, Contract: []string{
			"Case does not matter, and the form with the bytes of the first three fields reversed is accepted.",
			"short or with a domain, compared without regard to case.",
		}},
		{Name: "machines/not-identified", run: notIdentified, Contract: []string{
			"FAILED_PRECONDITION: no instance of the project is the machine that was described",
		}},
		{Name: "machines/conflict", run: identityConflict, needs: needs{instances: 1}, Contract: []string{
			"One that is no instance of the project is INSTANCE_IDENTITY_CONFLICT where `name` finds one: the " +
				"machine would be taken for another.",
			"Each must be a private or an external address of the instance; otherwise the answer is " +
				"INSTANCE_IDENTITY_CONFLICT.",
			"An instance that one of them is, or whose system UUID one of them reports, is " +
				"INSTANCE_IDENTITY_CONFLICT, unless it was found by `id`.",
		}},
		{Name: "machines/replaced", run: replaced, needs: needs{instances: 1}, Contract: []string{
			"an instance that does not exist is answered INSTANCE_NOT_FOUND, or INSTANCE_REPLACED if " +
				"`system_uuid` is that of another instance.",
		}},
	}
}

func (c *checker) identify(
	ctx context.Context, machine *backendv1.Machine,
) (*backendv1.GetInstanceResponse, error) {
	return c.instances.GetInstance(ctx, &backendv1.GetInstanceRequest{
		Instance: &backendv1.GetInstanceRequest_Machine{Machine: machine},
	})
}

// reversed is a UUID with the bytes of its first three fields reversed.
func reversed(id string) string {
	fields := strings.Split(id, "-")
	for i := range fields[:3] {
		var out strings.Builder
		for j := len(fields[i]); j > 0; j -= 2 {
			out.WriteString(fields[i][j-2 : j])
		}
		fields[i] = out.String()
	}
	return strings.Join(fields, "-")
}

func identified(ctx context.Context, c *checker) {
	node := c.nodes[0]
	for what, tc := range map[string]struct {
		machine *backendv1.Machine
		by      backendv1.IdentifiedBy
	}{
		"id": {&backendv1.Machine{Id: node.GetId()}, backendv1.IdentifiedBy_IDENTIFIED_BY_ID},
		"system UUID": {
			&backendv1.Machine{SystemUuid: node.GetId()}, backendv1.IdentifiedBy_IDENTIFIED_BY_SYSTEM_UUID,
		},
		"system UUID in capitals": {
			&backendv1.Machine{SystemUuid: strings.ToUpper(node.GetId())},
			backendv1.IdentifiedBy_IDENTIFIED_BY_SYSTEM_UUID,
		},
		"system UUID, reversed": {
			&backendv1.Machine{SystemUuid: reversed(node.GetId())},
			backendv1.IdentifiedBy_IDENTIFIED_BY_SYSTEM_UUID,
		},
		"name": {
			&backendv1.Machine{Name: strings.ToUpper(node.GetName())},
			backendv1.IdentifiedBy_IDENTIFIED_BY_NAME,
		},
		"name, with a zero system UUID": {
			&backendv1.Machine{
				Name: node.GetName(), SystemUuid: "00000000-0000-0000-0000-000000000000",
			}, backendv1.IdentifiedBy_IDENTIFIED_BY_NAME,
		},
	} {
		got, err := c.identify(ctx, tc.machine)
		if c.ok("a machine by its "+what, err) {
			equal(c, "a machine by its "+what, got.GetInstance().GetId(), node.GetId())
			equal(c, "identified_by of a machine by its "+what, got.GetIdentifiedBy(), tc.by)
		}
	}
}

func notIdentified(ctx context.Context, c *checker) {
	for what, machine := range map[string]*backendv1.Machine{
		"a name of nothing":        {Name: c.name("absent")},
		"a system UUID of nothing": {SystemUuid: absentID},
	} {
		_, err := c.identify(ctx, machine)
		c.refused("a machine with "+what, err, codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_IDENTIFIED)
	}
	_, err := c.identify(ctx, &backendv1.Machine{Id: absentID})
	c.refused("a machine with the id of nothing", err, codes.NotFound,
		backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND)
}

func identityConflict(ctx context.Context, c *checker) {
	node := c.nodes[0]
	for what, machine := range map[string]*backendv1.Machine{
		"the name of an instance and another system UUID": {Name: node.GetName(), SystemUuid: absentID},
		"an address that the instance does not have": {
			Name: node.GetName(), Addresses: []string{"192.0.2.254"},
		},
		"a name that another machine claims": {
			Name: node.GetName(),
			Claims: []*backendv1.MachineClaim{
				{Id: node.GetId(), Claimant: "another machine"},
			},
		},
	} {
		_, err := c.identify(ctx, machine)
		c.refused("a machine with "+what, err, codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_INSTANCE_IDENTITY_CONFLICT)
	}
}

func replaced(ctx context.Context, c *checker) {
	_, err := c.identify(ctx, &backendv1.Machine{Id: absentID, SystemUuid: c.nodes[0].GetId()})
	c.refused("a machine whose id is gone and whose system UUID is that of another instance", err,
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_INSTANCE_REPLACED)
}
