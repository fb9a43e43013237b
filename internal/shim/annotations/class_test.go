// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// A class with the prefix of this provider, or that is one of its sources, is meant for it, known or not.
func TestUnknownClassesAreMeantForThisProvider(t *testing.T) {
	for class, want := range map[string]bool{
		"": false, ClassFloatingIP: false, ClassExternalSubnet: false, "oxide.computer/floating-ips": true,
		"oxide.computer/Floating-IP": true, "oxide.computer/subnet": true, "external-subnet": true,
		"floating-ip": true, "example.com/floating-ip": false, "oxide.computers/floating-ip": false,
		"metallb": false,
	} {
		service := &v1.Service{}
		if class != "" {
			service.Spec.LoadBalancerClass = &class
		}
		if got := IsUnknownClass(service); got != want {
			t.Errorf("%q: %t, want %t", class, got, want)
		}
	}
}

// Class and annotation say where an address comes from; where they contradict each other, neither is
// obeyed.
func TestTheClassSaysWhereAnAddressComesFrom(t *testing.T) {
	for _, tt := range []struct {
		name, class, annotated string
		want                   []string
		// wantErr are parts of the error.
		wantErr []string
	}{
		{name: "neither", want: []string{SourceFloatingIP}},
		{name: "the annotation", annotated: "floating-ip", want: []string{SourceFloatingIP}},
		{name: "the class", class: "oxide.computer/floating-ip", want: []string{SourceFloatingIP}},
		{name: "both, and they agree", class: "oxide.computer/floating-ip", annotated: " floating-ip ",
			want: []string{SourceFloatingIP}},
		{name: "a class of somebody else, which says nothing", class: "example.com/external-subnet",
			want: []string{SourceFloatingIP}},
		{name: "external subnets by the annotation", annotated: "external-subnet",
			want: []string{SourceExternalSubnet}},
		{name: "external subnets by the class", class: "oxide.computer/external-subnet",
			want: []string{SourceExternalSubnet}},
		{name: "external subnets by both", class: "oxide.computer/external-subnet",
			annotated: "external-subnet", want: []string{SourceExternalSubnet}},
		{name: "a source for each IP family", annotated: "external-subnet, floating-ip",
			want: []string{SourceExternalSubnet, SourceFloatingIP}},
		{name: "each as the class has it", class: "oxide.computer/external-subnet",
			annotated: "external-subnet,external-subnet",
			want:      []string{SourceExternalSubnet, SourceExternalSubnet}},
		{name: "one that contradicts the class", class: "oxide.computer/floating-ip",
			annotated: "floating-ip,external-subnet", wantErr: []string{"annotation " + AddressSource,
				"says external-subnet", "spec.loadBalancerClass is oxide.computer/floating-ip"}},
		{name: "an annotation that contradicts the class", class: "oxide.computer/floating-ip",
			annotated: "external-subnet", wantErr: []string{"annotation " + AddressSource,
				"spec.loadBalancerClass is oxide.computer/floating-ip", "make it say floating-ip, or leave it out"}},
		{name: "and the other way round", class: "oxide.computer/external-subnet",
			annotated: "floating-ip", wantErr: []string{"annotation " + AddressSource,
				"spec.loadBalancerClass is oxide.computer/external-subnet", "make it say external-subnet"}},
		{name: "nonsense beside the class", class: "oxide.computer/floating-ip", annotated: "dhcp",
			wantErr: []string{"annotation " + AddressSource, `"dhcp"`, "leave it out"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			service := &v1.Service{}
			if tt.class != "" {
				service.Spec.LoadBalancerClass = &tt.class
			}
			if tt.annotated != "" {
				service.Annotations = map[string]string{AddressSource: tt.annotated}
			}
			got, err := SourcesOf(service)
			if !slices.Equal(got, tt.want) || (err == nil) != (len(tt.wantErr) == 0) {
				t.Fatalf("SourcesOf() = %q, %v, want %q", got, err, tt.want)
			}
			for _, part := range tt.wantErr {
				if !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
					t.Errorf("the error is %q, want one line with %q in it", err, part)
				}
			}
		})
	}
}
