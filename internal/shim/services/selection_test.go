// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
)

func nodePortService(s *v1.Service) {
	s.Spec.Type, s.Spec.LoadBalancerClass = v1.ServiceTypeNodePort, nil
}

// What becomes of a Service: nothing, if it is not ours; it is desired, it ends, or what it has is left as
// it is.
func TestWhichServicesAreOurs(t *testing.T) {
	const nothing, desired, ending, left = "nothing", "desired", "ending", "left"
	ours, subnet, theirs := ofClass(annotations.ClassFloatingIP), ofClass(annotations.ClassExternalSubnet),
		ofClass("example.com/other")
	another := finalizedBy("another-cloud-provider")
	for _, tt := range []struct {
		name    string
		service *v1.Service
		// want is what it is by default, and classedOnly what where only classes are served.
		want, classedOnly string
	}{
		{"a plain one", service(), desired, nothing},
		{"one with a mistake in it", service(policy(v1.IPFamilyPolicyRequireDualStack)), desired, nothing},
		{"another type", service(nodePortService), nothing, nothing},
		{"one that is going", service(going), nothing, nothing},

		{"a class of ours", service(ours), desired, desired},
		{"the other class of ours", service(subnet), desired, desired},
		{"a class of somebody else", service(theirs), nothing, nothing},
		{"one that begins as ours", service(ofClass("oxide.computer/floating-ips")), nothing, nothing},
		{"one of ours that was deleted before anything was made", service(ours, going), nothing, nothing},

		{"with the framework's finalizer", service(finalized), desired, left},
		{"going, with the framework's finalizer", service(finalized, going), ending, ending},
		{"another type, with the framework's finalizer", service(finalized, nodePortService), ending, ending},
		{"with that of the earlier controller manager", service(finalizedBy("oxide-cloud-controller-manager")),
			desired, left},
		{"with the finalizer of somebody who uses the same framework", service(another), desired, nothing},
		{"going, with that", service(another, going), ending, nothing},
		{"another type, with that", service(another, nodePortService), ending, nothing},

		{"a class of ours, with our finalizer", service(ours, classFinalized), desired, desired},
		{"going, with our finalizer", service(ours, classFinalized, going), ending, ending},
		{"another type, with our finalizer", service(classFinalized, nodePortService), ending, ending},
		{"without a class, with our finalizer", service(classFinalized), desired, left},
		{"without a class and going, with our finalizer", service(classFinalized, going), ending, ending},

		{"a class of ours, with both finalizers", service(ours, classFinalized, finalized), desired, desired},
		{"going, with both finalizers", service(ours, classFinalized, finalized, going), ending, ending},
		{"another type, with both finalizers", service(classFinalized, finalized, nodePortService), ending, ending},

		{"a class of somebody else now, with our finalizer", service(theirs, classFinalized), ending, ending},
		{"a class of somebody else now, with the framework's", service(theirs, finalized), ending, ending},
		{"a class of somebody who uses the same framework", service(theirs, another), nothing, nothing},
		{"that, going", service(theirs, another, going), nothing, nothing},
		{"a class of somebody who uses the same framework, with our finalizer",
			service(theirs, another, classFinalized), ending, ending},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, by := range []struct {
				selection
				want string
			}{{selection{}, tt.want}, {selection{classedOnly: true}, tt.classedOnly}} {
				got := nothing
				for is, so := range map[string]bool{
					desired: by.isDesired(tt.service), ending: by.isEnding(tt.service), left: by.isLeft(tt.service),
				} {
					if so && got != nothing {
						t.Errorf("classedOnly %t: it is both %s and %s", by.classedOnly, got, is)
					}
					if so {
						got = is
					}
				}
				if got != by.want {
					t.Errorf("classedOnly %t: it is %s, want %s", by.classedOnly, got, by.want)
				}
			}
		})
	}
}

// Only who has put the framework's finalizer on may take it off where several use that.
func TestTheFrameworksFinalizerIsKnownByWhoPutItOn(t *testing.T) {
	entry := func(manager, fields string) func(*v1.Service) {
		return func(s *v1.Service) {
			finalizedBy("another-cloud-provider")(s)
			s.ManagedFields = append(s.ManagedFields, metav1.ManagedFieldsEntry{
				Manager: manager, FieldsV1: metav1.NewFieldsV1(fields),
			})
		}
	}
	for name, tt := range map[string]struct {
		service *v1.Service
		want    bool
	}{
		"this program":              {service(finalized), true},
		"somebody else":             {service(finalizedBy("another-cloud-provider")), false},
		"both":                      {service(finalizedBy("another-cloud-provider"), finalized), true},
		"nobody knows":              {service(finalized, func(s *v1.Service) { s.ManagedFields = nil }), false},
		"we have written a status":  {service(entry("ccm-shim", `{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}`)), false},
		"we own another finalizer":  {service(entry("ccm-shim", `{"f:metadata":{"f:finalizers":{"v:\"a/b\"":{}}}}`)), false},
		"an annotation of its name": {service(entry("ccm-shim", `{"f:metadata":{"f:annotations":{"f:service.kubernetes.io/load-balancer-cleanup":{}}}}`)), false},
		"an entry without fields":   {service(finalizedBy("x"), func(s *v1.Service) { s.ManagedFields[0].FieldsV1 = nil }), false},
	} {
		if got := frameworkFinalizerIsOurs(tt.service); got != tt.want {
			t.Errorf("%s: it is ours: %t, want %t", name, got, tt.want)
		}
	}
}
