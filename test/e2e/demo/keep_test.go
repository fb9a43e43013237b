// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package demo

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestTheDryRunShowsNodesAsTheyAre(t *testing.T) {
	for status, want := range map[corev1.ConditionStatus]string{
		corev1.ConditionTrue: "READINESS_READY", corev1.ConditionFalse: "READINESS_NOT_READY",
		corev1.ConditionUnknown: "READINESS_UNKNOWN",
	} {
		got := readiness([]corev1.NodeCondition{
			{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue},
			{Type: corev1.NodeReady, Status: status},
		})
		if got != want {
			t.Errorf("Ready=%s: %s, want %s", status, got, want)
		}
	}
	if got := readiness(nil); got != "READINESS_UNKNOWN" {
		t.Errorf("a Node without conditions: %s", got)
	}
}
