// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
)

func TestSourceRangesAreThoseThatKubernetesReads(t *testing.T) {
	for _, tt := range []struct {
		name       string
		field      []string
		annotation string
		want       []string
	}{
		{"none: all clients, of both IP families", nil, "", nil},
		{"an annotation without a word", nil, "  ", nil},
		{"one", []string{"203.0.113.0/24"}, "", []string{"203.0.113.0/24"}},
		{"ordered, so that another order is no change", []string{"2001:db8::/64", "203.0.113.0/24", "10.0.0.0/8"},
			"", []string{"10.0.0.0/8", "203.0.113.0/24", "2001:db8::/64"}},
		{"the same twice", []string{"10.0.0.0/8", "10.1.2.3/8"}, "", []string{"10.0.0.0/8"}},
		{"that overlap", []string{"10.1.0.0/16", "10.0.0.0/8"}, "", []string{"10.0.0.0/8", "10.1.0.0/16"}},
		{"space around them, which is valid", []string{" 10.0.0.0/8 "}, "", []string{"10.0.0.0/8"}},
		{"leading zeros, which are valid", []string{"010.000.0.0/08"}, "", []string{"10.0.0.0/8"}},
		{"everybody, of one family", []string{"0.0.0.0/0"}, "", []string{"0.0.0.0/0"}},
		{"an IPv4 network in IPv6", []string{"::ffff:10.0.0.0/104"}, "", []string{"10.0.0.0/8"}},
		{"one host", []string{"203.0.113.9/32", "2001:DB8::9/128"}, "",
			[]string{"203.0.113.9/32", "2001:db8::9/128"}},
		{"the annotation", nil, " 18.0.0.0/8, 56.0.0.0/8 ", []string{"18.0.0.0/8", "56.0.0.0/8"}},
		{"the field wins over the annotation", []string{"10.0.0.0/8"}, "18.0.0.0/8", []string{"10.0.0.0/8"}},
		{"the field wins over an annotation that is wrong", []string{"10.0.0.0/8"}, "x", []string{"10.0.0.0/8"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := SourceRanges(restricted(tt.field, tt.annotation))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("source ranges (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSourceRangesThatAreNoneAreOneLineWithTheFieldAndTheRemedy(t *testing.T) {
	const field, annotation = "spec.loadBalancerSourceRanges has ", "the annotation " +
		v1.AnnotationLoadBalancerSourceRangesKey + " has "
	var many []string
	for i := range maxSourceRanges + 1 {
		many = append(many, fmt.Sprintf("10.%d.%d.0/24", i/256, i%256))
	}
	if got, err := SourceRanges(restricted(append(many[1:], many[1:]...), "")); err != nil ||
		len(got) != maxSourceRanges {
		t.Errorf("as many as there may be, twice, are %d, %v", len(got), err)
	}
	const format = "write it as 203.0.113.0/24 or 2001:db8::/64"
	for _, tt := range []struct {
		name       string
		field      []string
		annotation string
		want       string
		remedy     string
	}{
		{"too many", many, "", field + "1001 networks", "give at most 1000"},
		{"an address", []string{"10.0.0.0/8", "203.0.113.9"}, "", field + `"203.0.113.9"`, format},
		{"a word", []string{"everybody"}, "", field + `"everybody"`, format},
		{"nothing", []string{""}, "", field + `""`, format},
		{"too many bits", []string{"10.0.0.0/33"}, "", field + `"10.0.0.0/33"`, format},
		{"lines", []string{"10.0.0.0/8\n10.0.0.0/8"}, "", field + `"10.0.0.0/8\n10.0.0.0/8"`, format},
		{"a word without an end", []string{strings.Repeat("x", 9000)}, "", field + `"xxx`, format},
		{"a wrong annotation", nil, "10.0.0.0/8, x", annotation + `"x"`, format},
		{"an annotation that ends too soon", nil, "10.0.0.0/8,", annotation + `""`, format},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := SourceRanges(restricted(tt.field, tt.annotation))
			if err == nil {
				t.Fatalf("it was accepted as %q", got)
			}
			if len(got) == 0 {
				t.Error("beside the error all clients may")
			}
			for _, part := range []string{tt.want, tt.remedy} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error has no %q: %v", part, err)
				}
			}
			checkLine(t, err)
		})
	}
}

func TestTheFirewallIsOffWhereAServiceSaysSo(t *testing.T) {
	for text, want := range map[string]bool{"": false, " ": false, "off": true, " off\n": true} {
		got, err := FirewallOff(asks{"firewall": text}.service())
		if err != nil || got != want {
			t.Errorf("%q: %t, %v", text, got, err)
		}
	}
	if got, err := FirewallOff(v4.service()); err != nil || got {
		t.Errorf("without the annotation: %t, %v", got, err)
	}
	for _, text := range []string{"on", "Off", "false", "no", "off,off", strings.Repeat("x", 9000)} {
		_, err := FirewallOff(asks{"firewall": text}.service())
		if err == nil {
			t.Errorf("%q was accepted", text)
			continue
		}
		if !strings.Contains(err.Error(), `use "off", or leave it out`) ||
			!strings.Contains(err.Error(), "the annotation "+Firewall) {
			t.Errorf("%q: %v", text, err)
		}
		checkLine(t, err)
	}
}

// restricted returns a Service with these source ranges.
func restricted(field []string, annotation string) *v1.Service {
	s := v4.service()
	s.Spec.LoadBalancerSourceRanges = field
	if annotation != "" {
		s.Annotations[v1.AnnotationLoadBalancerSourceRangesKey] = annotation
	}
	return s
}
