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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
		nodes      []metav1.Object
		addresses  []*backendv1.LoadBalancerAddress
		conditions []*backendv1.Condition
		want       *v1.LoadBalancerStatus
		// wantErr is a part of the error, and retry when it is retried; 0: with growing delays.
		wantErr string
		retry   time.Duration
	}{
		{name: "a floating IP is published with its node's private address",
			addresses: []*backendv1.LoadBalancerAddress{attached},
			want:      vip("198.51.100.9", "172.30.0.11")},
		{name: "one address of each family",
			addresses: []*backendv1.LoadBalancerAddress{attached, onNode("2001:db8::9", "fd00::11")},
			want:      vip("198.51.100.9", "172.30.0.11", "2001:db8::9", "fd00::11")},
		{name: "one of two addresses is attached nowhere: half a status is none",
			addresses: []*backendv1.LoadBalancerAddress{attached, onNode("2001:db8::9", "")},
			wantErr:   "no address is attached yet (2001:db8::9 is reserved)", retry: 10 * time.Second},
		{name: "the address of an external subnet is published alone",
			addresses: []*backendv1.LoadBalancerAddress{subnet},
			want:      vip("203.0.113.4")},
		{name: "no candidate: every node is named with its reason",
			nodes:      []metav1.Object{node("worker-1", id1, notReady), node("worker-2", "", uninitialized)},
			addresses:  []*backendv1.LoadBalancerAddress{reserved},
			conditions: []*backendv1.Condition{condition(noCandidate, "none of 1 candidates")},
			wantErr: "worker-1 is not Ready, worker-2 is not initialized yet " +
				"(198.51.100.9 is reserved)",
			retry: 10 * time.Second},
		{name: "no candidate, because there is no node",
			addresses:  []*backendv1.LoadBalancerAddress{reserved},
			conditions: []*backendv1.Condition{condition(noCandidate, "none of 0 candidates")},
			wantErr:    "there is none", retry: 10 * time.Second},
		{name: "a port conflict that is told by its condition: waiting does not help",
			addresses:  []*backendv1.LoadBalancerAddress{reserved},
			conditions: []*backendv1.Condition{condition(portConflict, "TCP 80 is held by shop/older")},
			wantErr:    "TCP 80 is held by shop/older"},
		{name: "a change that waits for Oxide",
			addresses:  []*backendv1.LoadBalancerAddress{attached},
			conditions: []*backendv1.Condition{condition(pending, "instance\nis starting")},
			wantErr:    "instance is starting", retry: 10 * time.Second},
		{name: "an address on another cluster's instance is not published as ours",
			addresses:  []*backendv1.LoadBalancerAddress{attached},
			conditions: []*backendv1.Condition{condition(foreignAttachment, "on the\ninstance x")},
			wantErr:    "on the instance x"},
		{name: "what is only worth knowing hinders nothing",
			addresses: []*backendv1.LoadBalancerAddress{attached},
			conditions: []*backendv1.Condition{
				condition(firewallClosed, "open TCP 80"), condition(degraded, "not healthy"),
				condition(portRefused, "TCP 80 is used"), condition(notOwned, "was edited"),
				condition(99, "a type that is newer than this program"),
			},
			want: vip("198.51.100.9", "172.30.0.11")},
		{name: "an address without a reason for being detached",
			addresses: []*backendv1.LoadBalancerAddress{reserved},
			wantErr:   "no address is attached yet", retry: 10 * time.Second},
		{name: "no address at all is never success", wantErr: "no address is attached yet",
			retry: 10 * time.Second},
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
			b, c := newPeer(t, append(tt.nodes, service())...)
			b.answer(tt.addresses, tt.conditions...)
			got, err := c.Ensure(t.Context(), service())
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if tt.wantErr == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("the error is %v, want %q in it", err, tt.wantErr)
			}
			checkRetry(t, err, tt.retry)
		})
	}
}

// A backend that answers without a load balancer is no reason to publish nothing.
func TestNoStatusIsNeverSuccess(t *testing.T) {
	_, c := newPeer(t, service())
	if got, err := c.Ensure(t.Context(), service()); err == nil || got != nil {
		t.Errorf("Ensure() = %v, %v", got, err)
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
		"PORT_CONFLICT":                 {codes.FailedPrecondition, grows},
		"FULL_SET_REQUIRED":             {codes.FailedPrecondition, 10 * time.Second},
		"POOL_EXHAUSTED":                {codes.ResourceExhausted, 10 * time.Second},
		"INSTANCE_LIMIT_REACHED":        {codes.ResourceExhausted, 10 * time.Second},
		"OXIDE_UNAVAILABLE":             {codes.Unavailable, 10 * time.Second},
		"BUSY":                          {codes.Unavailable, 10 * time.Second},
		"OXIDE_BAD_RESPONSE":            {codes.Internal, grows},
		"UNIMPLEMENTED":                 {codes.Unimplemented, grows},
		"CALL_ENDED":                    {codes.DeadlineExceeded, 10 * time.Second},
		"INTERNAL":                      {codes.Internal, grows},
	}
	b, c := newPeer(t, service())
	for number, name := range backendv1.ErrorReason_name {
		want, ok := table[strings.TrimPrefix(name, "ERROR_REASON_")]
		if !ok {
			t.Errorf("%s is not in the table", name)
			continue
		}
		reason := backendv1.ErrorReason(number)
		t.Run(name, func(t *testing.T) {
			b.failure = fail(want.code, reason, "why it failed")
			_, err := c.Ensure(t.Context(), service())
			if err == nil || err.Error() != "why it failed" {
				t.Errorf("the error is %v", err)
			}
			checkRetry(t, err, want.retry)
			checkRetry(t, retriable(fmt.Errorf("more: %w", provider.AsBackendError(b.failure))),
				want.retry)

			// Where the backend names a delay, that holds whatever the reason.
			b.failure = fail(want.code, reason, "why", retryInfo(3*time.Second))
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
			checkRetry(t, retriable(provider.AsBackendError(fail(codes.Unavailable,
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
