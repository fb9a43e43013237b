// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"errors"
	"fmt"
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
// An address that is attached nowhere is not published; the second result is the first such.
func loadBalancerStatus(lb *backendv1.LoadBalancer,
) (*v1.LoadBalancerStatus, *backendv1.LoadBalancerAddress, error) {
	mode := v1.LoadBalancerIPModeVIP
	status := &v1.LoadBalancerStatus{}
	var detached *backendv1.LoadBalancerAddress
	publish := func(address string) {
		status.Ingress = append(status.Ingress, v1.LoadBalancerIngress{IP: address, IPMode: &mode})
	}
	for _, address := range lb.GetAddresses() {
		attachment := address.GetAttachment()
		if attachment == nil {
			if detached == nil {
				detached = address
			}
			continue
		}
		if address.GetAddress() == "" {
			return nil, nil, fmt.Errorf("oxide-backend named no address for %s: please report it",
				address.GetResourceName())
		}
		switch source := address.GetSource(); source {
		case backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP:
			if attachment.GetPrivateAddress() == "" {
				return nil, nil, fmt.Errorf("the instance %s, which carries %s, has no private "+
					"address of the same IP family", attachment.GetInstanceId(),
					address.GetAddress())
			}
			publish(address.GetAddress())
			publish(attachment.GetPrivateAddress())
		case backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET:
			publish(address.GetAddress())
		default:
			return nil, nil, fmt.Errorf("oxide-backend named the kind of address %s, which this "+
				"ccm-shim does not know: it is too old", source)
		}
	}
	return status, detached, nil
}

// findCondition returns the condition of the given type, or nil.
func findCondition(lb *backendv1.LoadBalancer, t backendv1.ConditionType) *backendv1.Condition {
	for _, condition := range lb.GetConditions() {
		if condition.GetType() == t {
			return condition
		}
	}
	return nil
}

const (
	// defaultRetryDelay is used where the backend recommends none.
	defaultRetryDelay = 10 * time.Second

	// minRetryDelay and maxRetryDelay bound what the backend recommends.
	minRetryDelay = time.Second
	maxRetryDelay = 5 * time.Minute
)

// outcome returns the status that a state amounts to, or an error that says what is missing.
//
// An address on an instance that never was of this cluster is not published: its private address would
// be taken for proof, the next time, that the instance is ours, and the address for ours to move; and
// kube-proxy would keep our pods from what really listens there.
func outcome(
	lb *backendv1.LoadBalancer, whyNoCandidate func() string,
) (*v1.LoadBalancerStatus, error) {
	foreign := findCondition(lb, backendv1.ConditionType_CONDITION_TYPE_FOREIGN_ATTACHMENT)
	if foreign != nil {
		return nil, errors.New(provider.OneLine(foreign.GetMessage()))
	}
	status, detached, err := loadBalancerStatus(lb)
	if err != nil {
		return nil, err
	}
	if pending := findCondition(lb, backendv1.ConditionType_CONDITION_TYPE_PENDING); pending != nil {
		return nil, retryLater(provider.OneLine(pending.GetMessage()))
	}
	if detached == nil && len(status.Ingress) > 0 {
		return status, nil
	}
	if c := findCondition(lb, backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT); c != nil {
		// Waiting alone does not help.
		return nil, errors.New(provider.OneLine(c.GetMessage()))
	}
	address := ""
	if detached.GetAddress() != "" {
		address = fmt.Sprintf(" (%s is reserved)", detached.GetAddress())
	}
	if findCondition(lb, backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE) != nil {
		return nil, retryLater(whyNoCandidate() + address)
	}
	return nil, retryLater("no address is attached yet" + address)
}

// retryLater returns an error that is retried after the default delay.
func retryLater(message string) error { return api.NewRetryError(message, defaultRetryDelay) }

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
