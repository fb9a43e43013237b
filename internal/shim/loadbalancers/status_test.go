// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// vip returns the status that publishes these addresses.
func vip(addresses ...string) *v1.LoadBalancerStatus {
	mode := v1.LoadBalancerIPModeVIP
	status := &v1.LoadBalancerStatus{}
	for _, address := range addresses {
		status.Ingress = append(status.Ingress, v1.LoadBalancerIngress{IP: address, IPMode: &mode})
	}
	return status
}

// onNode returns a floating IP on the instance with this private address; empty: on none.
func onNode(address, private string) *backendv1.LoadBalancerAddress {
	a := &backendv1.LoadBalancerAddress{
		Family: backendv1.IpFamily_IP_FAMILY_IPV4, Address: address, ResourceName: "lb-shop-web",
		Source: backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP, Managed: true,
	}
	if private != "" {
		a.Attachment = &backendv1.Attachment{InstanceId: id1, PrivateAddress: private}
	}
	return a
}

func condition(t backendv1.ConditionType, message string) *backendv1.Condition {
	return &backendv1.Condition{Type: t, Message: message}
}

const (
	noCandidate       = backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE
	portConflict      = backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT
	portRefused       = backendv1.ConditionType_CONDITION_TYPE_PORT_REFUSED
	firewallClosed    = backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED
	pending           = backendv1.ConditionType_CONDITION_TYPE_PENDING
	degraded          = backendv1.ConditionType_CONDITION_TYPE_DEGRADED
	notOwned          = backendv1.ConditionType_CONDITION_TYPE_NOT_OWNED
	foreignAttachment = backendv1.ConditionType_CONDITION_TYPE_FOREIGN_ATTACHMENT
)

func TestWhatEnsureAnswers(t *testing.T) {
	attached, reserved := onNode("198.51.100.9", "172.30.0.11"), onNode("198.51.100.9", "")
	subnet := &backendv1.LoadBalancerAddress{
		Source:  backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET,
		Address: "203.0.113.4", Attachment: &backendv1.Attachment{InstanceId: id1},
	}
	for _, tt := range []struct {
		name       string
		published  *v1.LoadBalancerStatus
		addresses  []*backendv1.LoadBalancerAddress
		conditions []*backendv1.Condition
		failure    error
		want       *v1.LoadBalancerStatus
		wantErr    string
	}{
		{name: "a floating IP is published with its node's private address",
			addresses: []*backendv1.LoadBalancerAddress{attached},
			want:      vip("198.51.100.9", "172.30.0.11")},
		{name: "one address of each family",
			addresses: []*backendv1.LoadBalancerAddress{attached, onNode("2001:db8::9", "fd00::11")},
			want:      vip("198.51.100.9", "172.30.0.11", "2001:db8::9", "fd00::11")},
		{name: "the address of an external subnet is published alone",
			addresses: []*backendv1.LoadBalancerAddress{subnet}, want: vip("203.0.113.4")},
		{name: "what is published stays: the address may be about to move there",
			published: vip("198.51.100.9", "172.30.0.12"),
			addresses: []*backendv1.LoadBalancerAddress{attached},
			want:      vip("198.51.100.9", "172.30.0.11", "172.30.0.12")},
		{name: "what is published already is not published twice",
			published: vip("198.51.100.9", "172.30.0.11"),
			addresses: []*backendv1.LoadBalancerAddress{attached},
			want:      vip("198.51.100.9", "172.30.0.11")},
		{name: "no candidate: no error, a look will find one",
			addresses:  []*backendv1.LoadBalancerAddress{reserved},
			conditions: []*backendv1.Condition{condition(noCandidate, "none")}, want: vip()},
		{name: "no candidate: what is published stays",
			published:  vip("198.51.100.9", "172.30.0.11"),
			addresses:  []*backendv1.LoadBalancerAddress{reserved},
			conditions: []*backendv1.Condition{condition(noCandidate, "none")},
			want:       vip("198.51.100.9", "172.30.0.11")},
		{name: "a port conflict: no error either", published: vip("198.51.100.9", "172.30.0.11"),
			failure: backendtest.Fail(codes.FailedPrecondition,
				backendv1.ErrorReason_ERROR_REASON_PORT_CONFLICT, "TCP 80 is held by shop/older"),
			want: vip("198.51.100.9", "172.30.0.11")},
		{name: "an address on another cluster's instance is not published as ours",
			addresses:  []*backendv1.LoadBalancerAddress{attached},
			conditions: []*backendv1.Condition{condition(foreignAttachment, "on instance x")},
			want:       vip()},
		{name: "an address on another cluster's instance takes nothing away",
			published:  vip("198.51.100.9", "172.30.0.12"),
			addresses:  []*backendv1.LoadBalancerAddress{attached},
			conditions: []*backendv1.Condition{condition(foreignAttachment, "on instance x")},
			want:       vip("198.51.100.9", "172.30.0.12")},
		{name: "what is only worth knowing hinders nothing",
			addresses: []*backendv1.LoadBalancerAddress{attached},
			conditions: []*backendv1.Condition{
				condition(firewallClosed, "open TCP 80"), condition(degraded, "not healthy"),
				condition(portRefused, "TCP 80 is used"), condition(notOwned, "was edited"),
				condition(pending, "waits"), condition(99, "a type that is newer than this program"),
			},
			want: vip("198.51.100.9", "172.30.0.11")},
		{name: "a node without a private address of the family",
			addresses: []*backendv1.LoadBalancerAddress{{
				Source:  backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
				Address: "198.51.100.9", Attachment: &backendv1.Attachment{InstanceId: id1},
			}},
			wantErr: "has no private address"},
		{name: "an address that is not named",
			addresses: []*backendv1.LoadBalancerAddress{onNode("", "172.30.0.11")},
			wantErr:   "named no address for lb-shop-web"},
		{name: "a kind of address that is newer than this program",
			addresses: []*backendv1.LoadBalancerAddress{{
				Source: 99, Address: "198.51.100.9",
				Attachment: &backendv1.Attachment{InstanceId: id1},
			}},
			wantErr: "too old"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := service()
			if tt.published != nil {
				s.Status.LoadBalancer = *tt.published
			}
			before := s.DeepCopy()
			b, c := newPeer(t, s)
			b.answer(tt.addresses, tt.conditions...)
			b.failure = tt.failure
			got, err := c.Ensure(t.Context(), s)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) || got != nil {
					t.Errorf("Ensure() = %v, %v, want %q in the error", got, err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// The framework takes a nil status for an error.
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, s); diff != "" {
				t.Errorf("the Service itself was changed:\n%s", diff)
			}
			if len(c.woken) != 1 {
				t.Error("no look is asked for")
			}
		})
	}
}

// Every reason of the API is here: a new one is to be decided about.
func TestEveryReasonIsRetriedInItsWay(t *testing.T) {
	const grows = 0 // The framework's own delays, which grow.
	table := map[string]struct {
		code  codes.Code
		retry time.Duration
	}{
		"UNSPECIFIED":                   {codes.Unknown, grows},
		"INVALID_REQUEST":               {codes.InvalidArgument, grows},
		"INSTANCE_NOT_FOUND":            {codes.NotFound, grows},
		"ABSENCE_NOT_PROVEN":            {codes.FailedPrecondition, grows},
		"INSTANCE_AMBIGUOUS":            {codes.FailedPrecondition, grows},
		"PROJECT_NOT_FOUND":             {codes.FailedPrecondition, grows},
		"POOL_NOT_FOUND":                {codes.FailedPrecondition, grows},
		"RESOURCE_NOT_FOUND":            {codes.FailedPrecondition, grows},
		"LOAD_BALANCER_NOT_FOUND":       {codes.NotFound, grows},
		"OXIDE_CREDENTIALS_REJECTED":    {codes.FailedPrecondition, grows},
		"OXIDE_FORBIDDEN":               {codes.PermissionDenied, grows},
		"OXIDE_API_VERSION_UNSUPPORTED": {codes.FailedPrecondition, grows},
		"OXIDE_REFUSED":                 {codes.FailedPrecondition, grows},
		"INSTANCE_NOT_OPERABLE":         {codes.FailedPrecondition, 10 * time.Second},
		"ADDRESS_NOT_OWNED":             {codes.FailedPrecondition, grows},
		"ADDRESS_IN_USE":                {codes.FailedPrecondition, grows},
		"FULL_SET_REQUIRED":             {codes.FailedPrecondition, 10 * time.Second},
		"POOL_EXHAUSTED":                {codes.ResourceExhausted, 10 * time.Second},
		"OXIDE_UNAVAILABLE":             {codes.Unavailable, 10 * time.Second},
		"BUSY":                          {codes.Unavailable, 10 * time.Second},
		"OXIDE_BAD_RESPONSE":            {codes.Internal, grows},
		"UNIMPLEMENTED":                 {codes.Unimplemented, grows},
		"CALL_ENDED":                    {codes.DeadlineExceeded, 10 * time.Second},
		"READ_ONLY":                     {codes.FailedPrecondition, grows},
		"INTERNAL":                      {codes.Internal, grows},
	}
	b, c := newPeer(t, service())
	for number, name := range backendv1.ErrorReason_name {
		want, ok := table[strings.TrimPrefix(name, "ERROR_REASON_")]
		if name == "ERROR_REASON_PORT_CONFLICT" || name == "ERROR_REASON_INSTANCE_LIMIT_REACHED" {
			continue // no errors: the address is reserved, and a look will find a place for it
		}
		if !ok {
			t.Errorf("%s is not in the table", name)
			continue
		}
		reason := backendv1.ErrorReason(number)
		t.Run(name, func(t *testing.T) {
			b.failure = backendtest.Fail(want.code, reason, "why it failed")
			_, err := c.Ensure(t.Context(), service())
			// Of pools the backend cannot know by which annotation one is named.
			hint := strings.Contains(name, "_POOL_")
			if err == nil || !strings.HasPrefix(err.Error(), "why it failed") ||
				strings.Contains(err.Error(), annotations.FloatingIPPool) != hint {
				t.Errorf("the error is %v", err)
			}
			checkRetry(t, err, want.retry)
			checkRetry(t, retriable(fmt.Errorf("more: %w", provider.AsBackendError(b.failure))),
				want.retry)

			// Where the backend names a delay, that holds whatever the reason.
			b.failure = backendtest.Fail(want.code, reason, "why", retryInfo(3*time.Second))
			_, err = c.Ensure(t.Context(), service())
			checkRetry(t, err, 3*time.Second)
		})
	}
}

func TestRetryDelaysAreBounded(t *testing.T) {
	for _, tt := range []struct{ named, want time.Duration }{
		{time.Millisecond, time.Second},
		{7 * time.Second, 7 * time.Second},
		{24 * time.Hour, 5 * time.Minute},
		{-time.Second, 10 * time.Second},
		{0, 10 * time.Second},
	} {
		t.Run(tt.named.String(), func(t *testing.T) {
			checkRetry(t, retriable(provider.AsBackendError(backendtest.Fail(codes.Unavailable,
				backendv1.ErrorReason_ERROR_REASON_BUSY, "busy", retryInfo(tt.named)))), tt.want)
		})
	}
}

func TestErrorsThatTheBackendDidNotMakeAreRetried(t *testing.T) {
	checkRetry(t, retriable(provider.AsBackendError(status.Error(codes.Unavailable, "no connection"))),
		10*time.Second)
	checkRetry(t, retriable(errors.New("a mistake of the user")), 0)
	if retriable(nil) != nil {
		t.Error("no error became one")
	}
}
