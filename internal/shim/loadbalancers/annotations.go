// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// value returns what an annotation of a Service says; empty if it is not there.
func value(service *v1.Service, annotation string) string {
	return strings.TrimSpace(service.Annotations[annotation])
}

// mistake says what is wrong with an annotation.
func mistake(annotation, format string, args ...any) error {
	return fmt.Errorf("the annotation %s %s", annotation, fmt.Sprintf(format, args...))
}

// checkSource refuses sources of addresses that are not supported, or unknown.
func checkSource(service *v1.Service) error {
	switch source := value(service, annotations.AddressSource); source {
	case "", "floating-ip":
		return nil
	case "external-subnet":
		return mistake(annotations.AddressSource, "says external-subnet, which is not supported "+
			"yet: use floating-ip, or leave it out")
	default:
		return mistake(annotations.AddressSource, "says %q: use floating-ip, or leave it out", source)
	}
}

// wantedFloatingIP returns which floating IP a Service wants; family may be unspecified if it is not
// known.
func wantedFloatingIP(
	service *v1.Service, family backendv1.IpFamily,
) (*backendv1.FloatingIpSource, error) {
	address, addressErr := wantedAddress(service, family)
	pool, poolErr := single(service, annotations.FloatingIPPool, "pool")
	existing, existingErr := single(service, annotations.ExistingFloatingIP, "floating IP")
	if err := joinOneLine(addressErr, poolErr, existingErr); err != nil {
		return nil, err
	}
	source := &backendv1.FloatingIpSource{}
	given := 0
	if address != "" {
		given++
		source.Selector = &backendv1.FloatingIpSource_Address{Address: address}
	}
	if pool != "" {
		given++
		source.Selector = &backendv1.FloatingIpSource_Pool{Pool: pool}
	}
	if existing != "" {
		given++
		source.Selector = &backendv1.FloatingIpSource_Existing{Existing: existing}
	}
	if given > 1 {
		return nil, fmt.Errorf("an address (annotation %s or spec.loadBalancerIP), a pool (%s) and an "+
			"existing floating IP (%s) exclude each other: give one of them",
			annotations.FloatingIP, annotations.FloatingIPPool, annotations.ExistingFloatingIP)
	}
	return source, nil
}

// wantedAddress returns the address that a Service asks for, in canonical form; empty: none.
func wantedAddress(service *v1.Service, family backendv1.IpFamily) (string, error) {
	annotated, err := addressOf(annotations.FloatingIP, value(service, annotations.FloatingIP), family)
	if err != nil {
		return "", err
	}
	field, err := addressOf("spec.loadBalancerIP", service.Spec.LoadBalancerIP, family)
	switch {
	case err != nil:
		return "", err
	case annotated != "" && field != "" && annotated != field:
		return "", fmt.Errorf("the annotation %s says %s and spec.loadBalancerIP %s: make them agree, "+
			"or leave one of them out", annotations.FloatingIP, annotated, field)
	case annotated != "":
		return annotated, nil
	}
	return field, nil
}

// addressOf returns the address of a family in a list of addresses with at most one of each family.
func addressOf(where, list string, family backendv1.IpFamily) (string, error) {
	if list == "" {
		return "", nil
	}
	byFamily := make(map[backendv1.IpFamily]string)
	for _, text := range strings.Split(list, ",") {
		text = strings.TrimSpace(text)
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return "", fmt.Errorf("%s: %q is not an IP address", where, text)
		}
		addr = addr.Unmap()
		of := familyOf(addr)
		if byFamily[of] != "" {
			return "", fmt.Errorf("%s: %s and %s are of one IP family: give at most one of each",
				where, byFamily[of], addr)
		}
		byFamily[of] = addr.String()
	}
	if family != backendv1.IpFamily_IP_FAMILY_UNSPECIFIED && byFamily[family] == "" {
		return "", fmt.Errorf("%s: %s is not of the IP family that the Service has, %s: change "+
			"spec.ipFamilies or the address", where, list, familyName(family))
	}
	return byFamily[family], nil
}

func familyOf(addr netip.Addr) backendv1.IpFamily {
	if addr.Unmap().Is6() {
		return backendv1.IpFamily_IP_FAMILY_IPV6
	}
	return backendv1.IpFamily_IP_FAMILY_IPV4
}

func familyName(family backendv1.IpFamily) string {
	if family == backendv1.IpFamily_IP_FAMILY_IPV6 {
		return string(v1.IPv6Protocol)
	}
	return string(v1.IPv4Protocol)
}

// single returns the one value of an annotation that may once have one for each IP family.
func single(service *v1.Service, annotation, what string) (string, error) {
	text := value(service, annotation)
	switch {
	case strings.Contains(text, ","):
		return "", mistake(annotation, "names more than one %s, but a Service gets an address of one "+
			"IP family only: name one", what)
	case text != "" && !isNameOrID(text):
		return "", mistake(annotation, "says %q, which is neither a name nor an id in Oxide", text)
	}
	return text, nil
}

// nameInOxide is what a name in Oxide looks like.
var nameInOxide = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// isNameOrID tells whether a text can name something in Oxide, by name or by id: a UUID, hyphenated or
// as 32 hexadecimal digits. The backend refuses whatever else, and with one Service the full set.
func isNameOrID(text string) bool {
	return nameInOxide.MatchString(text) ||
		(len(text) == 32 || len(text) == 36) && uuid.Validate(text) == nil
}

// retains reports whether the address of a Service is to be kept when it goes.
func retains(service *v1.Service) (bool, error) {
	switch text := value(service, annotations.RetainAddress); text {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return true, mistake(annotations.RetainAddress, "says %q: use true or false", text)
	}
}

// nodeSelector returns which Nodes may carry the address of a Service; nil: all.
func nodeSelector(service *v1.Service) (labels.Selector, error) {
	text := value(service, annotations.NodeSelector)
	if text == "" {
		return nil, nil
	}
	selector, err := labels.Parse(text)
	if err != nil {
		return nil, mistake(annotations.NodeSelector, "says %q, which is not a label selector such as "+
			"\"pool=edge,zone in (a,b)\": %s", text, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return selector, nil
}

// maxTypos is how many letters a misspelt annotation differs in.
const maxTypos = 2

// misspelt returns the annotations under our prefix that are nearly, but not quite, known ones, with
// the known one that each may mean. Others under the prefix are somebody else's.
func misspelt(service *v1.Service) map[string]string {
	found := make(map[string]string)
	for name := range service.Annotations {
		if !strings.HasPrefix(name, annotations.Prefix) || slices.Contains(annotations.Known(), name) {
			continue
		}
		for _, known := range annotations.Known() {
			if distance(name, known) <= maxTypos {
				found[name] = known
			}
		}
	}
	return found
}

// distance counts how many letters have to be put in, taken out or changed to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
