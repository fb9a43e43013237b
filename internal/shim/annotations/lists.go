// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// list returns the values of an annotation that takes a comma-separated list, without the space
// around them; nil: it says nothing.
func list(service *v1.Service, annotation string) []string {
	text := Value(service, annotation)
	if text == "" {
		return nil
	}
	values := strings.Split(text, ",")
	for i := range values {
		values[i] = strings.TrimSpace(values[i])
	}
	return values
}

// isEmpty reports whether a list names nothing.
func isEmpty(values []string) bool {
	return !slices.ContainsFunc(values, func(value string) bool { return value != "" })
}

// resources is an annotation that names pools, one for each IP family, or resources of the user's
// own, one for each address.
type resources struct {
	annotation, source string
	isPool             bool
}

// resourceLists are all of them.
var resourceLists = []resources{
	{annotation: FloatingIPPool, source: SourceFloatingIP, isPool: true},
	{annotation: ExistingFloatingIP, source: SourceFloatingIP},
	{annotation: SubnetPool, source: SourceExternalSubnet, isPool: true},
	{annotation: ExistingExternalSubnet, source: SourceExternalSubnet},
}

// check returns what is wrong with the values whatever the Service is. What Oxide has by these
// names, and whether it can have anything by such, is not known here.
func (r resources) check(values []string) error {
	for i, value := range values {
		same := func(other string) bool { return strings.EqualFold(value, other) }
		if value != "" && !r.isPool && slices.ContainsFunc(values[:i], same) {
			return mistake(r.annotation, "names %s twice: each address is one of its own", quoted(value))
		}
	}
	return nil
}

// each is how many values there are for each IP family.
func (r resources) each(w *wanted) int {
	if r.isPool {
		return 1
	}
	return w.each
}

// spread assigns the values of a list to IP families by their position: to those in
// spec.ipFamilies, to those that the Service gets addresses of, or to those that have the list's
// source. What a Service that prefers both families names once is for whichever family it is of.
// Empty values at the end are for nothing.
func (r resources) spread(
	w *wanted, values []string, ofSource []backendv1.IpFamily,
) (map[backendv1.IpFamily][]string, error) {
	count, each := len(values), r.each(w)
	for len(values) > len(w.named)*each && values[len(values)-1] == "" {
		values = values[:len(values)-1]
	}
	assigned := make(map[backendv1.IpFamily][]string)
	for _, families := range [][]backendv1.IpFamily{w.named, w.families, ofSource} {
		if len(values) != len(families)*each {
			continue
		}
		for i, family := range families {
			assigned[family] = values[i*each : (i+1)*each]
		}
		return assigned, nil
	}
	if w.prefers && len(values) == each {
		for _, family := range w.families {
			assigned[family] = values
		}
		return assigned, nil
	}
	return nil, r.miscounted(w, count)
}

// miscounted says how many values a list should have.
func (r resources) miscounted(w *wanted, count int) error {
	const inOrder = ", in this order"
	has := counted(count, "value", "values")
	families := familyNames(w.families)
	switch two := len(w.families) > 1; {
	case r.isPool && two:
		return mistake(r.annotation, "has %s, but the Service gets addresses of %s: name one pool for "+
			"each%s; an empty value is for the default pool", has, families, inOrder)
	case r.isPool:
		return mistake(r.annotation, "has %s, but the Service gets addresses of %s alone "+
			"(%s): name one pool", has, families, w.narrowedBy)
	case two:
		return mistake(r.annotation, "has %s, but the Service gets %s each of %s: name %d%s%s",
			has, addressCount(w.each), families, w.each*len(w.families), inOrder, w.orMore(count))
	case w.each > 1:
		return mistake(r.annotation, "has %s, but the Service gets %s of %s (the annotation %s): name "+
			"%d%s", has, addressCount(w.each), families, AddressesPerFamily, w.each, w.orMore(count))
	default:
		return mistake(r.annotation, "has %s, but the Service gets one address, of %s: name one%s",
			has, families, w.orMore(count))
	}
}

// addressCount says how many addresses.
func addressCount(count int) string { return counted(count, "address", "addresses") }

func counted(count int, one, many string) string {
	if count == 1 {
		return "one " + one
	}
	return fmt.Sprintf("%d %s", count, many)
}

// orMore says how a Service would get as many addresses as it names; empty: it cannot.
func (w *wanted) orMore(named int) string {
	each := named / len(w.families)
	if each == w.each || each < 1 || each > maxPerFamily || named%len(w.families) != 0 {
		return ""
	}
	return fmt.Sprintf(", or set the annotation %s to \"%d\"", AddressesPerFamily, each)
}
