// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// shape is which addresses a Service asks for: of which IP families, from which source, and how many.
type shape struct {
	// class is its load balancer class; empty: none.
	class string
	// versions are its IP families in order, "v4" and "v6"; prefers: of two, one suffices.
	versions []string
	prefers  bool
	// subnets says of which of them the addresses are external subnets, and not floating IPs.
	subnets map[string]bool
	// each is how many addresses of each family it asks for.
	each int
}

// kindOfAddress is one family from one source.
type kindOfAddress struct {
	version string
	subnet  bool
}

func (k kindOfAddress) has(ip rack.Carried) bool {
	return k.version == ip.Version() && k.subnet == ip.Subnet
}

func (k kindOfAddress) String() string {
	if k.subnet {
		return "external subnet " + k.version
	}
	return "floating IP " + k.version
}

// kinds returns the kinds of addresses that are asked for, in order.
func (s *shape) kinds() []kindOfAddress {
	var all []kindOfAddress
	for _, version := range s.versions {
		all = append(all, kindOfAddress{version, s.subnets[version]})
	}
	return all
}

// isPlain reports whether one IPv4 floating IP is asked for.
func (s *shape) isPlain() bool {
	return len(s.versions) == 1 && s.kinds()[0] == kindOfAddress{version: "v4"} && s.each == 1
}

func (s *shape) String() string {
	var words []string
	if s.class != "" {
		words = append(words, s.class)
	}
	for _, kind := range s.kinds() {
		words = append(words, fmt.Sprintf("%d %s", s.each, kind))
	}
	if s.prefers {
		words = append(words, "preferred")
	}
	return strings.Join(words, " ")
}

// The load balancer classes, and the values of the annotation for the source.
const (
	classPrefix    = "oxide.computer/"
	floatingIP     = "floating-ip"
	externalSubnet = "external-subnet"
)

const (
	eachAnnotation = "oxide.computer/addresses-per-family"
	// frameworkFinalizer is on Services without a class, classFinalizer on those with one.
	frameworkFinalizer = "service.kubernetes.io/load-balancer-cleanup"
	classFinalizer     = "oxide.computer/load-balancer-cleanup"
)

// finalizer is the one that a Service of this class has.
func (s *shape) finalizer() string {
	if s.class == "" {
		return frameworkFinalizer
	}
	return classFinalizer
}

// annotations are those that ask for it; an empty one is left out.
func (s *shape) annotations() map[string]string {
	all := map[string]string{sourceAnnotation: "", eachAnnotation: ""}
	if s.each != 1 {
		all[eachAnnotation] = strconv.Itoa(s.each)
	}
	var sources []string
	for _, kind := range s.kinds() {
		source := floatingIP
		if kind.subnet {
			source = externalSubnet
		}
		sources = append(sources, source)
	}
	if text := strings.Join(sources, ","); s.class == "" && strings.Contains(text, externalSubnet) {
		all[sourceAnnotation] = text
	}
	return all
}

// families returns spec.ipFamilyPolicy and spec.ipFamilies.
func (s *shape) families() (policy corev1.IPFamilyPolicy, all []corev1.IPFamily) {
	for _, version := range s.versions {
		all = append(all, map[string]corev1.IPFamily{
			"v4": corev1.IPv4Protocol, "v6": corev1.IPv6Protocol,
		}[version])
	}
	switch {
	case s.prefers:
		policy = corev1.IPFamilyPolicyPreferDualStack
	case len(all) == 2:
		policy = corev1.IPFamilyPolicyRequireDualStack
	default:
		policy = corev1.IPFamilyPolicySingleStack
	}
	return policy, all
}

// someFamilies draws families of which the first is given: that of a living Service cannot be changed.
func (w *world) someFamilies(s *shape, first string) {
	s.versions, s.prefers = []string{first}, false
	if w.random.IntN(2) == 0 {
		s.versions = append(s.versions, map[string]string{"v4": "v6", "v6": "v4"}[first])
		s.prefers = w.random.IntN(2) == 0
	}
}

// someClass draws a class, and with it the sources, or those for each family.
func (w *world) someClass(s *shape) {
	s.class = []string{"", "", "", classPrefix + floatingIP, classPrefix + externalSubnet}[w.random.IntN(5)]
	w.someSources(s)
}

func (w *world) someSources(s *shape) {
	s.subnets = make(map[string]bool)
	for _, version := range []string{"v4", "v6"} {
		isSubnet := w.random.IntN(5) < 2
		if s.class != "" {
			isSubnet = s.class == classPrefix+externalSubnet
		}
		s.subnets[version] = isSubnet
	}
}

func (w *world) someCount() int { return []int{1, 1, 1, 1, 2, 2, 3}[w.random.IntN(7)] }

func (w *world) someShape() shape {
	s := shape{each: w.someCount()}
	w.someFamilies(&s, []string{"v4", "v4", "v4", "v6"}[w.random.IntN(4)])
	w.someClass(&s)
	return s
}

// plain is the shape of Services that ask for one IPv4 floating IP.
func plain() shape { return shape{versions: []string{"v4"}, each: 1} }

func shapeKinds() []kind {
	// What names one address by itself asks for one IPv4 floating IP.
	isFree := func(v *service) bool {
		return isLive(v) && v.desired == "" && v.borrows == "" && len(v.returns) == 0
	}
	changes := func(draw func(*world, *shape)) func(*world, *service) change {
		return func(w *world, v *service) change {
			to := v.shape
			for to.String() == v.shape.String() {
				draw(w, &to)
			}
			w.detail = "to " + to.String()
			return func(ctx context.Context, st *step) error {
				v.shape, v.exchanging = to, true
				return w.reshape(ctx, st.before, v, nil)
			}
		}
	}
	return []kind{
		{5, ofService(func(v *service) bool { return isFree(v) && v.class == "" }, "change the sources of",
			changes((*world).someSources))},
		{5, ofService(isFree, "change the families of", changes(func(w *world, s *shape) {
			w.someFamilies(s, s.versions[0])
		}))},
		{6, ofService(isFree, "change the count of", changes(func(w *world, s *shape) {
			s.each = w.someCount()
		}))},
	}
}

// reshape has a Service ask for what its shape says, and gives it more of a spec.
func (w *world) reshape(ctx context.Context, s snapshot, v *service, spec map[string]any) error {
	annotations := make(map[string]any)
	for key, value := range v.annotations() {
		annotations[key] = value
		if value == "" {
			annotations[key] = nil
		}
	}
	policy, families := v.families()
	all := map[string]any{"ipFamilyPolicy": policy, "ipFamilies": families}
	if ips := s.services[v.name].Spec.ClusterIPs; len(ips) > len(families) {
		all["clusterIPs"] = ips[:len(families)]
	}
	maps.Copy(all, spec)
	return w.patch(ctx, v.name, map[string]any{
		"metadata": map[string]any{"annotations": annotations}, "spec": all,
	})
}
