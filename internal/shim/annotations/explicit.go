// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// explicit are the addresses that an annotation or a field names, in canonical form.
type explicit struct {
	where, text string
	byFamily    map[backendv1.IpFamily][]string
}

// explicitOf returns the addresses that a Service names, by the annotation and by the field.
func explicitOf(service *v1.Service) (annotation, field *explicit, err error) {
	annotation, annotationErr := explicitIn("the annotation "+FloatingIP, Value(service, FloatingIP))
	field, fieldErr := explicitIn("spec.loadBalancerIP", strings.TrimSpace(service.Spec.LoadBalancerIP))
	return annotation, field, OneLine(annotationErr, fieldErr)
}

// explicitIn reads a list of addresses, in any order.
func explicitIn(where, text string) (*explicit, error) {
	e := &explicit{where: where, text: text, byFamily: make(map[backendv1.IpFamily][]string)}
	if text == "" {
		return e, nil
	}
	for value := range strings.SplitSeq(text, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(value))
		if err != nil || addr.Zone() != "" {
			return e, fmt.Errorf("%s: %s is not an IP address", where, quoted(strings.TrimSpace(value)))
		}
		family := ipv4
		if addr = addr.Unmap(); addr.Is6() {
			family = ipv6
		}
		if slices.Contains(e.byFamily[family], addr.String()) {
			return e, fmt.Errorf("%s names %s twice: name it once", where, addr)
		}
		e.byFamily[family] = append(e.byFamily[family], addr.String())
	}
	return e, nil
}

// check returns why a Service cannot have just these addresses. Of each family there are as many as
// it gets, or none. One of a family in spec.ipFamilies of which it gets none, since an annotation
// says so, is passed over beside others.
func (e *explicit) check(w *wanted) error {
	isWanted := slices.ContainsFunc(w.families, func(family backendv1.IpFamily) bool {
		return len(e.byFamily[family]) > 0
	})
	for _, family := range []backendv1.IpFamily{ipv4, ipv6} {
		addresses := e.byFamily[family]
		switch {
		case len(addresses) == 0:
		case !slices.Contains(w.named, family) || !isWanted:
			return fmt.Errorf("%s: %s is of another IP family than the Service gets addresses of, %s: change "+
				"the address or %s", e.where, addresses[0], familyNames(w.families), w.narrowedBy)
		case slices.Contains(w.families, family) && len(addresses) != w.each:
			return fmt.Errorf("%s is %s and names %s of %s, but the Service gets %s of that IP family: "+
				"name %s%s", e.where, quoted(e.text), addressCount(len(addresses)),
				familyName(family), addressCount(w.each), addressCount(w.each), e.orMore(w, len(addresses)))
		}
	}
	return nil
}

// orMore says how a Service would get as many addresses as are named; empty: it cannot.
func (e *explicit) orMore(w *wanted, each int) string {
	for _, family := range w.families {
		if n := len(e.byFamily[family]); n != 0 && n != each {
			return ""
		}
	}
	return w.orMore(each * len(w.families))
}

// requested returns the addresses that a Service names, by their families; annotation and field may
// both name them if they agree.
func requested(w *wanted, annotation, field *explicit) (map[backendv1.IpFamily][]string, error) {
	if err := OneLine(annotation.check(w), field.check(w)); err != nil {
		return nil, err
	}
	all := make(map[backendv1.IpFamily][]string)
	for _, family := range w.families {
		one, other := annotation.byFamily[family], field.byFamily[family]
		if len(one) > 0 && len(other) > 0 &&
			!slices.Equal(slices.Sorted(slices.Values(one)), slices.Sorted(slices.Values(other))) {
			return nil, fmt.Errorf("%s says %s and %s %s: make them agree, or leave one of them out",
				annotation.where, strings.Join(one, ","), field.where, strings.Join(other, ","))
		}
		if all[family] = one; len(one) == 0 {
			all[family] = other
		}
	}
	return all, nil
}
