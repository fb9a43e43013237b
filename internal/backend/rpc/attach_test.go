// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// instance adds an instance to the rack, and returns its id.
func (r *rig) instance(seed oxidesim.InstanceSeed) string {
	r.Helper()
	added, err := r.rack.AddInstance(oxidesim.DefaultProject, seed)
	r.must(err)
	return added.ID
}

// attach attaches an address; edit says more, if it is not nil.
func (r *rig) attach(
	ctx context.Context, ip *backendv1.Address, instance string, edit func(*backendv1.AttachAddressRequest),
) (*backendv1.AttachAddressResponse, error) {
	req := &backendv1.AttachAddressRequest{
		Source: ip.GetSource(), ResourceId: ip.GetResourceId(), InstanceId: instance,
	}
	if edit != nil {
		edit(req)
	}
	return r.addresses.AttachAddress(ctx, req)
}

func (r *rig) detach(ip *backendv1.Address, instance string) (*backendv1.DetachAddressResponse, error) {
	return r.addresses.DetachAddress(r.Context(), &backendv1.DetachAddressRequest{
		Source: ip.GetSource(), ResourceId: ip.GetResourceId(), InstanceId: instance,
	})
}

func (r *rig) delete(ip *backendv1.Address) error {
	_, err := r.addresses.DeleteAddress(r.Context(), &backendv1.DeleteAddressRequest{
		Source: ip.GetSource(), ResourceId: ip.GetResourceId(),
	})
	return err
}

func moveFrom(instance string) func(*backendv1.AttachAddressRequest) {
	return func(q *backendv1.AttachAddressRequest) {
		q.Move = &backendv1.AttachAddressRequest_FromInstanceId{FromInstanceId: instance}
	}
}

func moveAnywhere(q *backendv1.AttachAddressRequest) {
	q.Move = &backendv1.AttachAddressRequest_FromAnywhere{FromAnywhere: true}
}

// placeOf returns where the rack has an address of either kind; empty: nowhere.
func (r *rig) placeOf(ip *backendv1.Address) string {
	for _, f := range r.rack.FloatingIPs() {
		if f.ID == ip.GetResourceId() {
			return f.InstanceID
		}
	}
	for _, s := range r.rack.ExternalSubnets() {
		if s.ID == ip.GetResourceId() {
			return s.InstanceID
		}
	}
	return "deleted"
}

// Each change ten times in a row, with the backend restarted in between, ends as the first one did.
func TestInvariant6ChangesOfAnAddressCanBeRepeated(t *testing.T) {
	for _, source := range []backendv1.AddressSource{floatingIP, externalSubnet} {
		t.Run(source.String(), func(t *testing.T) {
			r := newRig(t)
			second := r.instance(oxidesim.InstanceSeed{Name: "node-2"})
			ip := r.reserve(func(q *backendv1.ReserveAddressRequest) { q.Source = source })
			restarted := newRigOn(t, r.rack, rigOptions{})
			ten := func(what, place string, call func(r *rig, i int) error) {
				t.Helper()
				for i := range 10 {
					on := []*rig{r, restarted}[i/5]
					if err := call(on, i); err != nil {
						t.Fatalf("%s, time %d: %v", what, i, err)
					}
					if at := r.placeOf(ip); at != place {
						t.Fatalf("%s, time %d: it is at %q, want %q", what, i, at, place)
					}
				}
			}
			ten("attach", r.node, func(r *rig, _ int) error {
				resp, err := r.attach(t.Context(), ip, r.nodeOf(), nil)
				if resp.GetPreviousInstanceId() != "" || err == nil && resp.GetAddress().GetInstanceId() == "" {
					t.Errorf("got %v", resp)
				}
				return err
			})
			ten("move", second, func(on *rig, i int) error {
				resp, err := on.attach(t.Context(), ip, second, moveFrom(r.node))
				if moved := resp.GetPreviousInstanceId() == r.node; moved != (i == 0) {
					t.Errorf("time %d: %v", i, resp)
				}
				return err
			})
			if err := r.delete(ip); err == nil {
				t.Error("an address that is attached was deleted")
			}
			ten("detach", "", func(on *rig, _ int) error {
				resp, err := on.detach(ip, second)
				if resp.GetAddress().GetInstanceId() != "" {
					t.Errorf("got %v", resp)
				}
				return err
			})
			ten("delete", "deleted", func(on *rig, _ int) error { return on.delete(ip) })
		})
	}
}

// nodeOf returns the id of the node of the first backend on the rack.
func (r *rig) nodeOf() string {
	for _, instance := range r.rack.Instances() {
		if instance.Name == "node-1" {
			return instance.ID
		}
	}
	return ""
}

// Oxide refuses an attachment to a full instance in words alone.
func TestAFullInstanceIsNamedAsOneAlsoWhereNothingMoves(t *testing.T) {
	r := newRig(t)
	full := r.instance(oxidesim.InstanceSeed{Name: "full"})
	for i := range 32 {
		_, err := r.rack.AddFloatingIP(oxidesim.DefaultProject, oxidesim.FloatingIPSeed{
			Name: fmt.Sprintf("other-%d", i), Instance: "full",
		})
		r.must(err)
	}
	ip := r.reserve(nil)
	_, err := r.addresses.ListAddresses(t.Context(), &backendv1.ListAddressesRequest{}) // so that "full" is known
	r.must(err)
	_, err = r.attach(t.Context(), ip, full, nil)
	wantEnd(t, err, codes.ResourceExhausted, "INSTANCE_LIMIT_REACHED", "as many as it can")
	six := r.instance(oxidesim.InstanceSeed{Name: "six", NIC: "v6"})
	_, err = r.attach(t.Context(), ip, six, nil)
	wantEnd(t, err, codes.FailedPrecondition, "OXIDE_REFUSED", "")
}

// What cannot be done changes nothing: above all it takes no address off an instance.
func TestInvariant2WhatIsRefusedTakesNoAddressAway(t *testing.T) {
	r := newRig(t)
	second := r.instance(oxidesim.InstanceSeed{Name: "node-2"})
	failed := r.instance(oxidesim.InstanceSeed{
		Name: "failed", State: "failed", AutoRestartPolicy: "never",
	})
	starting := r.instance(oxidesim.InstanceSeed{Name: "starting"})
	r.must(r.rack.SetRunState(starting, "starting"))
	six := r.instance(oxidesim.InstanceSeed{Name: "six", NIC: "v6"})
	full := r.instance(oxidesim.InstanceSeed{Name: "full"})
	for i := range 32 {
		_, err := r.rack.AddFloatingIP(oxidesim.DefaultProject, oxidesim.FloatingIPSeed{
			Name: fmt.Sprintf("other-%d", i), Instance: "full",
		})
		r.must(err)
	}
	r.must(r.rack.Apply(oxidesim.Seed{Silos: []oxidesim.SiloSeed{{
		Name: oxidesim.DefaultSilo, Projects: []oxidesim.ProjectSeed{{
			Name: "elsewhere", Instances: []oxidesim.InstanceSeed{{Name: "foreign"}},
			FloatingIPs: []oxidesim.FloatingIPSeed{{Name: "foreign"}},
		}},
	}}}))
	foreignInstance, foreign := "", &backendv1.Address{Source: floatingIP}
	for _, instance := range r.rack.Instances() {
		if instance.Project == "elsewhere" {
			foreignInstance = instance.ID
		}
	}
	for _, ip := range r.rack.FloatingIPs() {
		if ip.Project == "elsewhere" {
			foreign.ResourceId = ip.ID
		}
	}
	ip := r.reserve(nil)
	_, err := r.attach(t.Context(), ip, r.node, nil)
	r.must(err)
	_, err = r.addresses.ListAddresses(t.Context(), &backendv1.ListAddressesRequest{}) // so that "full" is known
	r.must(err)
	absent := &backendv1.Address{Source: floatingIP, ResourceId: uuid.NewString()}
	wrongKind := &backendv1.Address{Source: externalSubnet, ResourceId: ip.GetResourceId()}
	attach := func(ip *backendv1.Address, to string, edit func(*backendv1.AttachAddressRequest)) func() error {
		return func() error {
			_, err := r.attach(t.Context(), ip, to, edit)
			return err
		}
	}
	const inUse, noResource = "ADDRESS_IN_USE", "RESOURCE_NOT_FOUND"
	precondition := codes.FailedPrecondition
	for _, tc := range []struct {
		name   string
		call   func() error
		code   codes.Code
		reason string
		says   string
	}{
		{"attached elsewhere", attach(ip, second, nil), precondition, inUse,
			"attached to instance " + r.node + ": give from_instance_id or from_anywhere"},
		{"expected at another place", attach(ip, second, moveFrom(six)), precondition, inUse, r.node},
		{"allowed to move from nowhere", attach(ip, second, func(q *backendv1.AttachAddressRequest) {
			q.Move = &backendv1.AttachAddressRequest_FromAnywhere{}
		}), precondition, inUse, r.node},
		{"no such instance", attach(ip, uuid.NewString(), moveAnywhere), codes.NotFound,
			"INSTANCE_NOT_FOUND", "does not exist"},
		{"an instance of another project", attach(ip, foreignInstance, moveAnywhere), precondition,
			noResource, "another project"},
		{"a failed instance", attach(ip, failed, moveAnywhere), precondition, "INSTANCE_NOT_OPERABLE",
			"failed is failed"},
		{"an instance that starts", attach(ip, starting, moveAnywhere), precondition,
			"INSTANCE_NOT_OPERABLE", "starting is starting"},
		{"an instance without the family", attach(ip, six, moveAnywhere), precondition, "OXIDE_REFUSED",
			"no private address of IPv4"},
		{"a full instance", attach(ip, full, moveAnywhere), codes.ResourceExhausted,
			"INSTANCE_LIMIT_REACHED", "as many as it can"},
		{"no such address", attach(absent, second, moveAnywhere), precondition, noResource, "there is no"},
		{"an address of the other kind", attach(wrongKind, second, moveAnywhere), precondition, noResource,
			"there is no external subnet"},
		{"an address of another project", attach(foreign, second, moveAnywhere), precondition, noResource,
			"another project"},
		{"detach from another instance", func() error {
			_, err := r.detach(ip, second)
			return err
		}, precondition, inUse, "attached to instance " + r.node},
		{"detach what is not there", func() error {
			_, err := r.detach(absent, second)
			return err
		}, precondition, noResource, "there is no"},
		{"delete what is attached", func() error { return r.delete(ip) }, precondition, inUse,
			"detach it first"},
		{"delete in another project", func() error { return r.delete(foreign) }, precondition, noResource,
			"another project"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			changes := r.changes()
			err := tc.call()
			wantEnd(t, err, tc.code, tc.reason, tc.says)
			if text := status.Convert(err).Message(); strings.ContainsAny(text, "\n") || len(text) > maxText {
				t.Errorf("text %q", text)
			}
			if n := r.changes(); n != changes || r.placeOf(ip) != r.node {
				t.Errorf("%d requests that change something; the address is at %q", n-changes, r.placeOf(ip))
			}
		})
	}
}

// changes counts the requests that change an address.
func (r *rig) changes() int {
	n := 0
	for _, kind := range []string{"floating_ip_", "external_subnet_"} {
		for _, operation := range []string{"create", "update", "delete", "attach", "detach"} {
			n += r.rack.Count(kind + operation)
		}
	}
	return n
}

// A role that was taken away looks like an address that is gone, and is not.
func TestInvariant1NothingCountsAsDeletedWhileTheProjectCannotBeRead(t *testing.T) {
	r := newRig(t)
	ip := r.reserve(nil)
	r.must(r.rack.SetSiloRole("demo", "none"))
	err := r.delete(ip)
	wantEnd(t, err, codes.FailedPrecondition, "PROJECT_NOT_FOUND", "")
	_, err = r.addresses.ReserveAddress(t.Context(), aReservation(
		func(q *backendv1.ReserveAddressRequest) { q.Name = "second" }))
	wantEnd(t, err, codes.FailedPrecondition, "PROJECT_NOT_FOUND", "")
	r.must(r.rack.SetSiloRole("demo", "viewer"))
	err = r.delete(ip)
	wantEnd(t, err, codes.PermissionDenied, "OXIDE_FORBIDDEN", "limited_collaborator")
}

// An instance that has failed keeps its addresses, and one whose attachment fails after all is said to
// have none.
func TestAMoveThatBreaksOffIsFinishedByTheSameCall(t *testing.T) {
	r := newRig(t)
	second := r.instance(oxidesim.InstanceSeed{Name: "node-2"})
	ip := r.reserve(nil)
	_, err := r.attach(t.Context(), ip, r.node, nil)
	r.must(err)
	_, err = r.rack.AddFault(oxidesim.Fault{
		Operation: "floating_ip_attach", Status: 503, ErrorCode: "ServiceNotAvailable", Times: 1,
	})
	r.must(err)
	_, err = r.attach(t.Context(), ip, second, moveFrom(r.node))
	wantEnd(t, err, codes.Unavailable, "OXIDE_UNAVAILABLE", "may be attached nowhere: repeat the call")
	if at := r.placeOf(ip); at != "" {
		t.Fatalf("it is at %q", at)
	}
	resp, err := r.attach(t.Context(), ip, second, moveFrom(r.node))
	if err != nil || resp.GetPreviousInstanceId() != "" || r.placeOf(ip) != second {
		t.Errorf("got %v, %v", resp, err)
	}
	r.must(r.rack.SetRunState(second, "failed"))
	_, err = r.attach(t.Context(), ip, r.node, moveFrom(second))
	wantEnd(t, err, codes.FailedPrecondition, "INSTANCE_NOT_OPERABLE", "node-2 is failed")
}

// A call that ends before anything was sent changes nothing; one that ends later is finished.
func TestInvariant2ACallThatEndsLeavesNoAddressNowhere(t *testing.T) {
	// A detachment takes a second, as on a rack: long enough to be seen on a busy machine.
	r := newRigOn(t, oxidesim.Start(t, oxidesim.Config{TimeScale: 1}), rigOptions{})
	r.node = r.instance(oxidesim.InstanceSeed{Name: "node-1"})
	second := r.instance(oxidesim.InstanceSeed{Name: "node-2"})
	ip := r.reserve(nil)
	_, err := r.attach(t.Context(), ip, r.node, nil)
	r.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for r.rack.FloatingIPs()[0].AttachState != "detaching" && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err = r.attach(ctx, ip, second, moveFrom(r.node))
	if status.Code(err) != codes.Canceled {
		t.Fatalf("got %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); r.placeOf(ip) != second; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the address did not arrive: it is at %q", r.placeOf(ip))
		}
	}
	// A second caller waits for the first one's change, and finds the address where it went.
	waited, err := r.attach(t.Context(), ip, second, nil)
	if err != nil || waited.GetAddress().GetInstanceId() != second || r.placeOf(ip) != second {
		t.Errorf("got %v, %v; it is at %q", waited, err, r.placeOf(ip))
	}

	ended, end := context.WithCancel(t.Context())
	end()
	changes := r.changes()
	for name, call := range map[string]func() error{
		"attach": func() error { _, err := r.attach(ended, ip, r.node, moveAnywhere); return err },
		"reserve": func() error {
			_, err := r.addresses.ReserveAddress(ended, aReservation(nil))
			return err
		},
	} {
		if err := call(); status.Code(err) != codes.Canceled || r.changes() != changes {
			t.Errorf("%s in a call that has ended: %v", name, err)
		}
	}
}

// Of callers who each take an address from where they last saw it, one moves it, and the others learn
// that it is elsewhere.
func TestInvariant2OneOfManyCallersMovesAnAddress(t *testing.T) {
	r := newRig(t)
	ip := r.reserve(nil)
	_, err := r.attach(t.Context(), ip, r.node, nil)
	r.must(err)
	targets := make([]string, 8)
	for i := range targets {
		targets[i] = r.instance(oxidesim.InstanceSeed{Name: fmt.Sprintf("target-%d", i)})
	}
	var (
		mu      sync.Mutex
		callers sync.WaitGroup
		winner  []string
	)
	for _, target := range targets {
		callers.Go(func() {
			resp, err := r.attach(t.Context(), ip, target, moveFrom(r.node))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				wantEnd(t, err, codes.FailedPrecondition, "ADDRESS_IN_USE", "attached to instance")
				return
			}
			winner = append(winner, resp.GetAddress().GetInstanceId())
		})
	}
	callers.Wait()
	if len(winner) != 1 || r.placeOf(ip) != winner[0] {
		t.Errorf("moved to %v; it is at %q", winner, r.placeOf(ip))
	}
	if n := r.rack.Count("floating_ip_detach"); n != 1 {
		t.Errorf("%d detachments", n)
	}
}

// Many addresses are attached to one instance at a time, each once, and all callers are served.
func TestManyCallersAttachToOneInstance(t *testing.T) {
	r := newRig(t)
	var callers sync.WaitGroup
	errs := make([]error, 24)
	for i := range errs {
		callers.Go(func() {
			made, err := r.addresses.ReserveAddress(t.Context(), aReservation(
				func(q *backendv1.ReserveAddressRequest) { q.Name = fmt.Sprintf("vip-%d", i) }))
			if err == nil {
				_, err = r.attach(t.Context(), made.GetAddress(), r.node, nil)
			}
			errs[i] = err
		})
	}
	callers.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, ip := range r.rack.FloatingIPs() {
		if ip.InstanceID != r.node || ip.AttachState != "attached" {
			t.Errorf("%+v", ip)
		}
	}
}

func TestABackendThatIsReadOnlyChangesNoAddress(t *testing.T) {
	r := newRig(t)
	ip := r.reserve(nil)
	free := r.reserve(func(q *backendv1.ReserveAddressRequest) { q.Name = "free" })
	_, err := r.attach(t.Context(), ip, r.node, nil)
	r.must(err)
	changes := r.changes()
	readOnly := newRigOn(t, r.rack, rigOptions{readOnly: true})
	second := r.instance(oxidesim.InstanceSeed{Name: "node-2"})
	for name, call := range map[string]func() error{
		"reserve": func() error {
			_, err := readOnly.addresses.ReserveAddress(t.Context(), aReservation(
				func(q *backendv1.ReserveAddressRequest) { q.Name = "new" }))
			return err
		},
		"move":   func() error { _, err := readOnly.attach(t.Context(), ip, second, moveAnywhere); return err },
		"attach": func() error { _, err := readOnly.attach(t.Context(), free, second, nil); return err },
		"detach": func() error { _, err := readOnly.detach(ip, r.node); return err },
		"delete": func() error { return readOnly.delete(free) },
	} {
		wantEnd(t, call(), codes.FailedPrecondition, "READ_ONLY", "--read-only")
		if n := r.changes(); n != changes {
			t.Errorf("%s: something was changed", name)
		}
	}
	// What is there already needs no change.
	if again := readOnly.reserve(nil); again.GetResourceId() != ip.GetResourceId() {
		t.Errorf("got %v", again)
	}
	if _, err := readOnly.attach(t.Context(), ip, r.node, nil); err != nil {
		t.Error(err)
	}
	if _, err := readOnly.detach(free, r.node); err != nil {
		t.Error(err)
	}
	if err := readOnly.delete(&backendv1.Address{Source: floatingIP, ResourceId: uuid.NewString()}); err != nil {
		t.Error(err)
	}
	if n := r.changes(); n != changes {
		t.Error("something was changed")
	}
}
