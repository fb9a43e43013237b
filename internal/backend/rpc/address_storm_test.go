// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Callers of two backends do everything to one address at once, many with deadlines within which nothing can
// be done: there is never a second address, every answer has its reason, and the next caller has its way.
func TestInvariant6CallersThatAllWantOneAddressAndHaveNoTime(t *testing.T) {
	r := newRig(t)
	other := newRigOn(t, r.rack, rigOptions{})
	second := r.instance(oxidesim.InstanceSeed{Name: "node-2"})
	const callers, calls = 16, 25
	var all sync.WaitGroup
	for i := range callers {
		on := []*rig{r, other}[i%2]
		random := rand.New(rand.NewPCG(uint64(i), 1))
		all.Go(func() {
			for range calls {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+random.IntN(40))*time.Millisecond)
				checkAnswer(t, on.anything(ctx, random, r.node, second))
				cancel()
				if n := len(r.rack.FloatingIPs()); n > 1 {
					t.Errorf("there are %d addresses", n)
				}
			}
		})
	}
	all.Wait()
	// What the storm has begun may go on for as long as one change takes; the same calls wait for it.
	for _, on := range []*rig{r, other} {
		for deadline := time.Now().Add(20 * time.Second); ; {
			ip := on.reserve(nil)
			attached, err := on.attach(t.Context(), ip, second, moveAnywhere)
			if err == nil && attached.GetAddress().GetInstanceId() == second && on.placeOf(ip) == second &&
				len(r.rack.FloatingIPs()) == 1 {
				break
			}
			if checkAnswer(t, err); time.Now().After(deadline) {
				t.Fatalf("the address is not to be had: %v, %v; the rack has %+v", attached, err, r.rack.FloatingIPs())
			}
		}
	}
}

// anything makes some call about the address.
func (r *rig) anything(ctx context.Context, random *rand.Rand, places ...string) error {
	resp, err := r.addresses.ReserveAddress(ctx, aReservation(nil))
	if err != nil {
		return err
	}
	ip, place := resp.GetAddress(), places[random.IntN(len(places))]
	switch random.IntN(5) {
	case 0:
		_, err = r.attach(ctx, ip, place, moveAnywhere)
	case 1:
		_, err = r.attach(ctx, ip, place, nil)
	case 2:
		_, err = r.addresses.DetachAddress(ctx, &backendv1.DetachAddressRequest{
			Source: ip.GetSource(), ResourceId: ip.GetResourceId(), InstanceId: place,
		})
	case 3:
		_, err = r.addresses.DeleteAddress(ctx, &backendv1.DeleteAddressRequest{
			Source: ip.GetSource(), ResourceId: ip.GetResourceId(),
		})
	case 4:
		_, err = r.addresses.ListAddresses(ctx, &backendv1.ListAddressesRequest{Names: []string{ip.GetName()}})
	}
	return err
}

// checkAnswer fails for an error that says nothing of use. One whose deadline passes at the client has no more
// than its code.
func checkAnswer(t *testing.T, err error) {
	t.Helper()
	if err == nil || status.Code(err) == codes.DeadlineExceeded {
		return
	}
	st, reasons := status.Convert(err), []string{}
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			reasons = append(reasons, info.GetReason())
		}
	}
	if len(reasons) != 1 || st.Code() == codes.Internal || st.Code() == codes.Unknown ||
		len(st.Message()) > maxText || strings.ContainsAny(st.Message(), "\r\n") {
		t.Errorf("a call is answered %v %v", err, reasons)
	}
}
