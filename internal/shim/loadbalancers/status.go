// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	"k8s.io/cloud-provider/api"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// loadBalancerStatus translates the state of a load balancer into the status of its Service. A
// floating IP is published with the private address of the instance that it is on: Oxide rewrites
// the destination of packets to that, and kube-proxy must accept it. The floating IP itself keeps
// clients inside the cluster inside. The address of an external subnet arrives as it is and is
// published alone. All have the mode VIP: packets arrive with the published address as their
// destination, and without a proxy between.
//
// An address that is attached nowhere is not published.
func loadBalancerStatus(lb *backendv1.LoadBalancer) (*v1.LoadBalancerStatus, error) {
	mode := v1.LoadBalancerIPModeVIP
	status := &v1.LoadBalancerStatus{}
	publish := func(address string) {
		status.Ingress = append(status.Ingress, v1.LoadBalancerIngress{IP: address, IPMode: &mode})
	}
	for _, address := range lb.GetAddresses() {
		attachment := address.GetAttachment()
		if attachment == nil {
			continue
		}
		if address.GetAddress() == "" {
			return nil, fmt.Errorf("oxide-backend named no address for %s: please report it",
				address.GetResourceName())
		}
		switch source := address.GetSource(); source {
		case backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP:
			if attachment.GetPrivateAddress() == "" {
				return nil, fmt.Errorf("the instance %s, which carries %s, has no private "+
					"address of the same IP family", attachment.GetInstanceId(),
					address.GetAddress())
			}
			publish(address.GetAddress())
			publish(attachment.GetPrivateAddress())
		case backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET:
			publish(address.GetAddress())
		default:
			return nil, fmt.Errorf("oxide-backend named the kind of address %s, which this "+
				"ccm-shim does not know: it is too old", source)
		}
	}
	return status, nil
}

// union returns the entries of all statuses, each once, in the order in which they come.
func union(statuses ...*v1.LoadBalancerStatus) *v1.LoadBalancerStatus {
	all := &v1.LoadBalancerStatus{}
	seen := make(map[string]bool)
	for _, status := range statuses {
		for _, ingress := range status.Ingress {
			if !seen[ingress.IP+"\x00"+ingress.Hostname] {
				seen[ingress.IP+"\x00"+ingress.Hostname] = true
				all.Ingress = append(all.Ingress, ingress)
			}
		}
	}
	return all
}

// covers reports whether a status has all entries of another one.
func covers(status, other *v1.LoadBalancerStatus) bool {
	return len(union(status, other).Ingress) == len(union(status).Ingress)
}

// ofOtherFamily returns what a Service publishes of the IP family that it does not want an address of.
// The backend describes addresses of the wanted one.
func ofOtherFamily(service *v1.Service) *v1.LoadBalancerStatus {
	other := &v1.LoadBalancerStatus{}
	family, err := wantedFamily(service)
	if err != nil {
		return other // it is held, and all that it has is described
	}
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		addr, err := netip.ParseAddr(ingress.IP)
		if err == nil && familyOf(addr) != family {
			other.Ingress = append(other.Ingress, ingress)
		}
	}
	return other
}

// planned returns a load balancer as it will be, for the status that it will have.
func planned(lb *backendv1.LoadBalancer) *backendv1.LoadBalancer {
	will := &backendv1.LoadBalancer{Key: lb.GetKey()}
	for _, address := range lb.GetAddresses() {
		if address.GetAddress() == "" {
			continue // yet to be allocated
		}
		will.Addresses = append(will.Addresses, &backendv1.LoadBalancerAddress{
			Family: address.GetFamily(), Source: address.GetSource(), Address: address.GetAddress(),
			ResourceName: address.GetResourceName(), Attachment: address.GetPlannedAttachment(),
		})
	}
	return will
}

const (
	// defaultRetryDelay is used where the backend recommends none.
	defaultRetryDelay = 10 * time.Second

	// minRetryDelay and maxRetryDelay bound what the backend recommends.
	minRetryDelay = time.Second
	maxRetryDelay = 5 * time.Minute
)

// retriable turns an error into one that the service controller
// retries after a fixed delay, where waiting helps; others it retries with growing delays.
func retriable(err error) error {
	var be *provider.BackendError
	if !errors.As(err, &be) {
		return err
	}
	retry := be.RetryDelay > 0
	switch be.Code {
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded:
		retry = true
	}
	switch be.Reason {
	case backendv1.ErrorReason_ERROR_REASON_FULL_SET_REQUIRED,
		backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_OPERABLE,
		backendv1.ErrorReason_ERROR_REASON_BUSY:
		retry = true
	}
	if !retry {
		return be
	}
	delay := be.RetryDelay
	if delay <= 0 {
		delay = defaultRetryDelay
	}
	return api.NewRetryError(be.Message, min(max(delay, minRetryDelay), maxRetryDelay))
}
