// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"fmt"

	v1 "k8s.io/api/core/v1"

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
