// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func attachCases() []Case {
	one := needs{changes: true, instances: 1, features: reserved}
	two := needs{changes: true, instances: 2, features: reserved}
	return []Case{
		{Name: "addresses/attach-ten-times", run: attachTenTimes, needs: one, Contract: []string{
			"If it is attached there already, that is confirmed by Oxide once more.",
		}},
		{Name: "addresses/attached-is-external", run: attachedIsExternal, needs: one, Contract: []string{
			"A floating IP then is one of Instance.external_addresses.",
			"interfaces and floating IPs about a minute",
		}},
		{Name: "addresses/attach-moves", run: attachMoves, needs: two, Contract: []string{
			"An address that is attached to another instance moves only if the request allows that.",
			"The instance that this very call detached it from; empty: none.",
		}},
		{Name: "addresses/attach-concurrently", run: attachConcurrently, needs: two, Contract: []string{
			"In one backend, one change of an address is made at a time, and the others wait for it within " +
				"their deadlines.",
		}},
		{Name: "addresses/attach-nothing", run: attachNothing, needs: one, Contract: []string{
			"INSTANCE_NOT_FOUND if there is no instance with this id",
			"RESOURCE_NOT_FOUND if there is no address with this id, or the instance is in another project",
		}},
		{Name: "addresses/detach-ten-times", run: detachTenTimes, needs: two, Contract: []string{
			"DetachAddress detaches an address from an instance. It succeeds if the address is attached nowhere.",
			"ADDRESS_IN_USE if it is attached to another instance",
		}},
		{Name: "addresses/delete-attached", run: deleteAttached, needs: one, Contract: []string{
			"ADDRESS_IN_USE while it is attached",
			"or the address is attached, or attached to another instance than the caller says. Nothing was " +
				"changed.",
		}},
	}
}

// networkFactsTimeout is "about a minute".
const networkFactsTimeout = 90 * time.Second

func attachRequest(
	address *backendv1.Address, node *backendv1.Instance,
) *backendv1.AttachAddressRequest {
	return &backendv1.AttachAddressRequest{
		Source: address.GetSource(), ResourceId: address.GetResourceId(), InstanceId: node.GetId(),
	}
}

// attach attaches an address that may move from anywhere.
func (c *checker) attach(ctx context.Context, address *backendv1.Address, node *backendv1.Instance,
) *backendv1.AttachAddressResponse {
	request := attachRequest(address, node)
	request.Move = &backendv1.AttachAddressRequest_FromAnywhere{FromAnywhere: true}
	answer, err := c.addresses.AttachAddress(ctx, request)
	c.must("AttachAddress", err)
	equal(c, "the instance of an attached address", answer.GetAddress().GetInstanceId(), node.GetId())
	return answer
}

func (c *checker) detach(ctx context.Context, address *backendv1.Address, node *backendv1.Instance) {
	answer, err := c.addresses.DetachAddress(ctx, &backendv1.DetachAddressRequest{
		Source: address.GetSource(), ResourceId: address.GetResourceId(), InstanceId: node.GetId(),
	})
	if c.ok("DetachAddress", err) {
		equal(c, "the instance of a detached address", answer.GetAddress().GetInstanceId(), "")
	}
}

// attachedTo expects that an address is attached to an instance in what Oxide has now; empty: nowhere.
func (c *checker) attachedTo(ctx context.Context, address *backendv1.Address, want string) {
	found, err := c.listAddresses(ctx, &backendv1.ListAddressesRequest{
		Names: []string{address.GetName()}, MaxAge: durationpb.New(0),
	})
	c.must("ListAddresses", err)
	if equal(c, "the number of addresses "+address.GetName(), len(found), 1) {
		equal(c, "the instance of "+address.GetName(), found[0].GetInstanceId(), want)
	}
}

func attachTenTimes(ctx context.Context, c *checker) {
	address := c.reserve(ctx, c.reservation("attached"))
	node := c.nodes[0]
	for range repetitions {
		answer := c.attach(ctx, address, node)
		equal(c, "previous_instance_id", answer.GetPreviousInstanceId(), "")
	}
	c.attachedTo(ctx, address, node.GetId())
	c.detach(ctx, address, node)
}

func attachedIsExternal(ctx context.Context, c *checker) {
	address := c.reserve(ctx, c.reservation("external"))
	node := c.nodes[0]
	c.attach(ctx, address, node)
	c.await(ctx, "external_addresses of the instance", address.GetAddress(), networkFactsTimeout,
		func() (string, bool) {
			got, err := c.instances.GetInstance(ctx, byID(node.GetId()))
			external := got.GetInstance().GetExternalAddresses()
			listed := slices.ContainsFunc(external, func(a *backendv1.ExternalAddress) bool {
				return a.GetAddress() == address.GetAddress() &&
					a.GetKind() == backendv1.ExternalAddressKind_EXTERNAL_ADDRESS_KIND_FLOATING
			})
			return fmt.Sprint(external, err), listed
		})
	c.detach(ctx, address, node)
}

func attachMoves(ctx context.Context, c *checker) {
	address := c.reserve(ctx, c.reservation("moves"))
	first, second := c.nodes[0], c.nodes[1]
	c.attach(ctx, address, first)
	request := attachRequest(address, second)
	for what, from := range map[string]string{"without permission": "", "off another instance": absentID} {
		if from != "" {
			request.Move = &backendv1.AttachAddressRequest_FromInstanceId{FromInstanceId: from}
		}
		_, err := c.addresses.AttachAddress(ctx, request)
		c.refused("a move "+what, err, codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_ADDRESS_IN_USE)
		request.Move = nil
	}
	c.attachedTo(ctx, address, first.GetId())
	request.Move = &backendv1.AttachAddressRequest_FromInstanceId{FromInstanceId: first.GetId()}
	for i := range repetitions {
		answer, err := c.addresses.AttachAddress(ctx, request)
		if !c.ok("a move that is permitted", err) {
			break
		}
		previous := ""
		if i == 0 {
			previous = first.GetId()
		}
		equal(c, "previous_instance_id", answer.GetPreviousInstanceId(), previous)
	}
	c.attachedTo(ctx, address, second.GetId())
	c.detach(ctx, address, second)
}

func attachConcurrently(ctx context.Context, c *checker) {
	address := c.reserve(ctx, c.reservation("contended"))
	var wg sync.WaitGroup
	for i := range repetitions {
		wg.Go(func() {
			request := attachRequest(address, c.nodes[i%2])
			request.Move = &backendv1.AttachAddressRequest_FromAnywhere{FromAnywhere: true}
			answer, err := c.addresses.AttachAddress(ctx, request)
			if c.ok("one of ten attachments at the same time", err) {
				equal(c, "the instance of one of them", answer.GetAddress().GetInstanceId(),
					request.GetInstanceId())
			}
		})
	}
	wg.Wait()
	found, err := c.listAddresses(ctx, &backendv1.ListAddressesRequest{
		Names: []string{address.GetName()}, MaxAge: durationpb.New(0),
	})
	c.must("ListAddresses", err)
	if equal(c, "the number of addresses afterwards", len(found), 1) {
		at := found[0].GetInstanceId()
		c.holds(at == c.nodes[0].GetId() || at == c.nodes[1].GetId(), "its instance afterwards",
			"one of the two", at)
	}
	c.attach(ctx, address, c.nodes[0])
	c.detach(ctx, address, c.nodes[0])
}

func attachNothing(ctx context.Context, c *checker) {
	address := c.reserve(ctx, c.reservation("nowhere"))
	request := attachRequest(address, c.nodes[0])
	request.InstanceId = absentID
	_, err := c.addresses.AttachAddress(ctx, request)
	c.refused("an instance that there is not", err, codes.NotFound,
		backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND)
	request = attachRequest(address, c.nodes[0])
	request.ResourceId = absentID
	_, err = c.addresses.AttachAddress(ctx, request)
	c.refused("an address that there is not", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND)
	for what, change := range map[string]func(*backendv1.AttachAddressRequest){
		"no source":              func(r *backendv1.AttachAddressRequest) { r.Source = 0 },
		"a resource of no UUID":  func(r *backendv1.AttachAddressRequest) { r.ResourceId = address.GetName() },
		"an instance of no UUID": func(r *backendv1.AttachAddressRequest) { r.InstanceId = "nonsense" },
	} {
		request = attachRequest(address, c.nodes[0])
		change(request)
		_, err := c.addresses.AttachAddress(ctx, request)
		c.invalid("AttachAddress with "+what, err)
	}
	c.attachedTo(ctx, address, "")
}

func detachTenTimes(ctx context.Context, c *checker) {
	address := c.reserve(ctx, c.reservation("detached"))
	c.attach(ctx, address, c.nodes[0])
	other := &backendv1.DetachAddressRequest{
		Source: address.GetSource(), ResourceId: address.GetResourceId(), InstanceId: c.nodes[1].GetId(),
	}
	_, err := c.addresses.DetachAddress(ctx, other)
	c.refused("a detachment from another instance", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_ADDRESS_IN_USE)
	c.attachedTo(ctx, address, c.nodes[0].GetId())
	for range repetitions {
		c.detach(ctx, address, c.nodes[0])
	}
	c.attachedTo(ctx, address, "")
	other.ResourceId = absentID
	_, err = c.addresses.DetachAddress(ctx, other)
	c.refused("an address that there is not", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND)
}

func deleteAttached(ctx context.Context, c *checker) {
	address := c.reserve(ctx, c.reservation("in-use"))
	c.attach(ctx, address, c.nodes[0])
	for range repetitions {
		_, err := c.addresses.DeleteAddress(ctx, &backendv1.DeleteAddressRequest{
			Source: address.GetSource(), ResourceId: address.GetResourceId(),
		})
		if !c.refused("DeleteAddress while it is attached", err, codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_ADDRESS_IN_USE) {
			break
		}
	}
	c.attachedTo(ctx, address, c.nodes[0].GetId())
	c.detach(ctx, address, c.nodes[0])
}
