// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"cmp"
	"fmt"

	v1 "k8s.io/api/core/v1"
)

// The values of spec.loadBalancerClass that this provider serves. Each says where the address of a
// Service comes from, as the annotation AddressSource does for a Service without a class.
const (
	ClassFloatingIP     = Prefix + SourceFloatingIP
	ClassExternalSubnet = Prefix + SourceExternalSubnet
)

// The sources of addresses, as the annotation AddressSource names them.
const (
	SourceFloatingIP     = "floating-ip"
	SourceExternalSubnet = "external-subnet"
)

// sourcesByClass are the sources that the classes of this provider stand for.
var sourcesByClass = map[string]string{
	ClassFloatingIP:     SourceFloatingIP,
	ClassExternalSubnet: SourceExternalSubnet,
}

// IsOurClass reports whether a Service has a class that this provider serves.
func IsOurClass(service *v1.Service) bool {
	class := service.Spec.LoadBalancerClass
	return class != nil && sourcesByClass[*class] != ""
}

// SourceOf returns where the addresses of a Service come from: its class and its annotation say so, which
// must agree, or else it is a floating IP.
func SourceOf(service *v1.Service) (source string, err error) {
	annotated := Value(service, AddressSource)
	byClass := ""
	if IsOurClass(service) {
		byClass = sourcesByClass[*service.Spec.LoadBalancerClass]
	}
	switch {
	case annotated != "" && annotated != SourceFloatingIP && annotated != SourceExternalSubnet:
		return "", mistake(AddressSource, "says %s: use floating-ip, or leave it out", quoted(annotated))
	case annotated != "" && byClass != "" && annotated != byClass:
		return "", mistake(AddressSource, "says %s, but spec.loadBalancerClass is %s: make it say %s, or "+
			"leave it out", annotated, *service.Spec.LoadBalancerClass, byClass)
	}
	source = cmp.Or(byClass, annotated, SourceFloatingIP)
	switch {
	case source != SourceExternalSubnet:
		return source, nil
	case byClass != "":
		return "", fmt.Errorf("spec.loadBalancerClass is %s, which is not supported yet: delete the Service, "+
			"and create it with %s, or with none", ClassExternalSubnet, ClassFloatingIP)
	default:
		return "", mistake(AddressSource, "says external-subnet, which is not supported yet: use "+
			"floating-ip, or leave it out")
	}
}
