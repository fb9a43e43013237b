// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// written is what a Service says of its addresses, as it stands there.
type written struct {
	service           *v1.Service
	sources           []string
	annotation, field *explicit
	lists             map[string][]string
}

// read reads what a Service says of its addresses, and fails if that cannot be, whatever its IP
// families are.
func read(service *v1.Service) (*written, error) {
	r := &written{service: service, lists: make(map[string][]string)}
	var errs []error
	var err error
	if r.sources, err = SourcesOf(service); err != nil {
		errs = append(errs, err)
	}
	if r.annotation, r.field, err = explicitOf(service); err != nil {
		errs = append(errs, err)
	}
	for _, resource := range resourceLists {
		values := list(service, resource.annotation)
		errs = append(errs, resource.check(values))
		if !isEmpty(values) {
			r.lists[resource.annotation] = values
		}
	}
	return r, OneLine(errs...)
}

// choice is what a Service says of its addresses of one IP family.
type choice struct {
	source string
	// addresses and existing are as many as the Service gets, or none.
	addresses, existing []string
	pool                string
}

// Addresses returns the addresses that a Service asks for: those of one IP family together, the
// families in the order of spec.ipFamilies. On an error, which is one line, there are none.
func Addresses(service *v1.Service) ([]*backendv1.DesiredAddress, error) {
	w, wantedErr := wantedOf(service)
	r, readErr := read(service)
	if err := OneLine(wantedErr, readErr); err != nil {
		return nil, err
	}
	choices, err := choose(w, r)
	if err != nil {
		return nil, err
	}
	// Of two families one that is named by address or resource is not the one that may be missing.
	named := slices.DeleteFunc(slices.Clone(w.families), func(family backendv1.IpFamily) bool {
		return len(choices[family].addresses)+len(choices[family].existing) == 0
	})
	var addresses []*backendv1.DesiredAddress
	for _, family := range w.families {
		required := !w.prefers || len(named) == 1 && named[0] == family
		for i := range w.each {
			address := choices[family].address(i)
			address.Family, address.Optional = family, !required
			addresses = append(addresses, address)
		}
	}
	return addresses, nil
}

// address returns one of the addresses.
func (c *choice) address(i int) *backendv1.DesiredAddress {
	if c.source == SourceExternalSubnet {
		subnet := &backendv1.ExternalSubnetSource{}
		switch {
		case c.pool != "":
			subnet.Selector = &backendv1.ExternalSubnetSource_Pool{Pool: c.pool}
		case len(c.existing) > 0:
			subnet.Selector = &backendv1.ExternalSubnetSource_Existing{Existing: c.existing[i]}
		}
		return &backendv1.DesiredAddress{
			Source: &backendv1.DesiredAddress_ExternalSubnet{ExternalSubnet: subnet},
		}
	}
	ip := &backendv1.FloatingIpSource{}
	switch {
	case len(c.addresses) > 0:
		ip.Selector = &backendv1.FloatingIpSource_Address{Address: c.addresses[i]}
	case c.pool != "":
		ip.Selector = &backendv1.FloatingIpSource_Pool{Pool: c.pool}
	case len(c.existing) > 0:
		ip.Selector = &backendv1.FloatingIpSource_Existing{Existing: c.existing[i]}
	}
	return &backendv1.DesiredAddress{Source: &backendv1.DesiredAddress_FloatingIp{FloatingIp: ip}}
}

// choose assigns what a Service says to the IP families of which it gets addresses.
func choose(w *wanted, r *written) (map[backendv1.IpFamily]*choice, error) {
	choices, err := chooseSources(w, r)
	if err != nil {
		return nil, err
	}
	var errs []error
	if err := r.chooseAddresses(w, choices); err != nil {
		errs = append(errs, err)
	}
	for _, resource := range resourceLists {
		if values := r.lists[resource.annotation]; len(values) > 0 {
			errs = append(errs, r.chooseResources(w, choices, resource, values))
		}
	}
	if err := OneLine(errs...); err != nil {
		return nil, err
	}
	for _, family := range w.families {
		if err := choices[family].exclusive(); err != nil {
			return nil, err
		}
	}
	return choices, nil
}

// chooseSources assigns the sources: one for all IP families, or one for each of them.
func chooseSources(w *wanted, r *written) (map[backendv1.IpFamily]*choice, error) {
	choices := make(map[backendv1.IpFamily]*choice)
	for i, family := range w.families {
		var source string
		switch len(r.sources) {
		case 1:
			source = r.sources[0]
		case len(w.families):
			source = r.sources[i]
		case len(w.named):
			source = r.sources[slices.Index(w.named, family)]
		default:
			return nil, mistake(AddressSource, "has %d values, but the Service gets addresses of %s (%s): "+
				"name one source for all IP families, or one for each", len(r.sources), familyNames(w.families),
				w.narrowedBy)
		}
		choices[family] = &choice{source: source}
	}
	return choices, nil
}

// chooseAddresses assigns the addresses that the Service names.
func (r *written) chooseAddresses(w *wanted, choices map[backendv1.IpFamily]*choice) error {
	all, err := requested(w, r.annotation, r.field)
	if err != nil {
		return err
	}
	for _, family := range w.families {
		c := choices[family]
		if c.addresses = all[family]; len(c.addresses) > 0 && c.source != SourceFloatingIP {
			where := r.annotation.where
			if len(r.annotation.byFamily[family]) == 0 {
				where = r.field.where
			}
			return contradiction(r.service, where, SourceFloatingIP)
		}
	}
	return nil
}

// chooseResources assigns the values of a list of pools or resources.
func (r *written) chooseResources(
	w *wanted, choices map[backendv1.IpFamily]*choice, resource resources, values []string,
) error {
	ofSource := slices.DeleteFunc(slices.Clone(w.families), func(family backendv1.IpFamily) bool {
		return choices[family].source != resource.source
	})
	if len(ofSource) == 0 {
		return contradiction(r.service, "the annotation "+resource.annotation, resource.source)
	}
	assigned, err := resource.spread(w, values, ofSource)
	if err != nil {
		return err
	}
	for _, family := range w.families {
		switch c, values := choices[family], assigned[family]; {
		case isEmpty(values):
		case c.source != resource.source:
			return contradiction(r.service, "the annotation "+resource.annotation, resource.source)
		case resource.isPool:
			c.pool = values[0]
		case slices.Contains(values, ""):
			return mistake(resource.annotation, "has an empty value for %s beside others: name %s, or none",
				familyName(family), addressCount(w.each))
		default:
			c.existing = values
		}
	}
	return nil
}

// exclusive fails if more than one thing is said of the same addresses.
func (c *choice) exclusive() error {
	count := 0
	for _, is := range []bool{len(c.addresses) > 0, c.pool != "", len(c.existing) > 0} {
		if is {
			count++
		}
	}
	switch {
	case count < 2:
		return nil
	case c.source == SourceExternalSubnet:
		return fmt.Errorf("a subnet pool (annotation %s) and an existing external subnet (%s) exclude each "+
			"other: give one of them for each IP family", SubnetPool, ExistingExternalSubnet)
	}
	return fmt.Errorf("an address (annotation %s or spec.loadBalancerIP), a pool (%s) and an existing "+
		"floating IP (%s) exclude each other: give one of them for each IP family",
		FloatingIP, FloatingIPPool, ExistingFloatingIP)
}
