// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"cmp"
	"fmt"
	"strings"

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

// IsUnknownClass reports whether a Service has a class that is meant for this provider, by its prefix
// or as one of its sources, and that it does not serve. No other provider would.
func IsUnknownClass(service *v1.Service) bool {
	class := service.Spec.LoadBalancerClass
	return class != nil && !IsOurClass(service) &&
		(strings.HasPrefix(*class, Prefix) || sourcesByClass[Prefix+*class] != "")
}

// SourcesOf returns where the addresses of a Service come from: one source for all its IP families, or
// one for each. Its class and its annotation say so, which must agree, or else it is a floating IP.
func SourcesOf(service *v1.Service) (sources []string, err error) {
	annotated := list(service, AddressSource)
	byClass := ""
	if IsOurClass(service) {
		byClass = sourcesByClass[*service.Spec.LoadBalancerClass]
	}
	for _, source := range annotated {
		switch {
		case source != SourceFloatingIP && source != SourceExternalSubnet:
			return nil, mistake(AddressSource, "says %s: use %s or %s, or leave it out", quoted(source),
				SourceFloatingIP, SourceExternalSubnet)
		case byClass != "" && source != byClass:
			return nil, mistake(AddressSource, "says %s, but spec.loadBalancerClass is %s: make it say %s, or "+
				"leave it out", source, *service.Spec.LoadBalancerClass, byClass)
		}
	}
	if len(annotated) == 0 {
		annotated = []string{cmp.Or(byClass, SourceFloatingIP)}
	}
	return annotated, nil
}

var sourceNames = map[string]string{
	SourceFloatingIP: "a floating IP", SourceExternalSubnet: "an external subnet",
}

// contradiction says that an annotation or a field asks for another source than the Service has.
func contradiction(service *v1.Service, where, source string) error {
	other := SourceFloatingIP
	if source == other {
		other = SourceExternalSubnet
	}
	switch {
	case IsOurClass(service):
		return fmt.Errorf("%s asks for %s, but spec.loadBalancerClass is %s: leave it out, or create the "+
			"Service with the class %s", where, sourceNames[source], *service.Spec.LoadBalancerClass,
			Prefix+source)
	case Value(service, AddressSource) == "":
		return fmt.Errorf("%s asks for %s, but without the annotation %s the Service gets %s: set that to "+
			"%s, or leave the first one out", where, sourceNames[source], AddressSource, sourceNames[other],
			source)
	}
	return fmt.Errorf("%s asks for %s, but the annotation %s for %s: leave one of them out, or change it",
		where, sourceNames[source], AddressSource, sourceNames[other])
}
