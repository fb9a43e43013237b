// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"strings"
	"testing"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestAWrongNameOffersThoseOfEachNamespace(t *testing.T) {
	planned := new(backendv1.PlanLoadBalancersResponse)
	for _, name := range []string{"infra/gateway", "one/shop", "two/shop"} {
		planned.LoadBalancers = append(planned.LoadBalancers, &backendv1.PlannedLoadBalancer{
			LoadBalancer: &backendv1.LoadBalancer{Key: &backendv1.LoadBalancerKey{Scope: "c1", Name: name}},
		})
	}
	_, err := findLoadBalancer(planned, "shp")
	if err == nil || !strings.Contains(err.Error(), "do you mean one/shop or two/shop?") {
		t.Errorf("it says %v", err)
	}
}

// The text of a condition is for people: 198.51.100.1 is in that of 198.51.100.11, too.
func TestAnAddressIsNotGivenTheReasonOfAnother(t *testing.T) {
	const why = "the address 198.51.100.11 is reserved but attached nowhere: no node is healthy"
	lb := &backendv1.LoadBalancer{Conditions: []*backendv1.Condition{{
		Type: backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE, Message: why,
	}}}
	for address, want := range map[string]string{
		"198.51.100.11": why, "198.51.100.1": "", "98.51.100.11": "",
	} {
		if got := whyNoPlace(lb, &backendv1.LoadBalancerAddress{Address: address}); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}
