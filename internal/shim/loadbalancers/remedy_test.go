// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// What the backend refuses is told with the annotation or field that asks for it, if it is about that.
func TestWhatIsRefusedNamesWhoAsksForIt(t *testing.T) {
	const notOwned = backendv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_OWNED
	for _, tt := range []struct {
		name    string
		change  func(*v1.Service)
		reason  backendv1.ErrorReason
		says    string
		remedy  string
		without bool
	}{
		{name: "address", change: annotated(annotations.FloatingIP, "198.51.100.9"), reason: notOwned,
			says: "198.51.100.9 is taken", remedy: "in the annotation " + annotations.FloatingIP},
		{name: "field", change: func(s *v1.Service) { s.Spec.LoadBalancerIP = "198.51.100.9" },
			reason: notOwned, says: "198.51.100.9 is taken", remedy: "in spec.loadBalancerIP"},
		{name: "pool", change: annotated(annotations.FloatingIPPool, "edge"),
			reason: backendv1.ErrorReason_ERROR_REASON_POOL_EXHAUSTED, says: "the pool edge is full",
			remedy: "in the annotation " + annotations.FloatingIPPool},
		{name: "existing", change: annotated(annotations.ExistingFloatingIP, "mine"),
			reason: backendv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND, says: "there is no mine",
			remedy: "in the annotation " + annotations.ExistingFloatingIP},
		{name: "no wish", change: func(*v1.Service) {},
			reason: backendv1.ErrorReason_ERROR_REASON_POOL_NOT_FOUND, says: "there is no default pool",
			remedy: "in the annotation " + annotations.FloatingIPPool},
		{name: "something else", change: annotated(annotations.FloatingIPPool, "edge"), reason: notOwned,
			says: "the name lb-web is taken", without: true},
		{name: "no wish, and no pool", change: func(*v1.Service) {}, reason: notOwned,
			says: "the name lb-web is taken", without: true},
		{name: "another reason", change: annotated(annotations.FloatingIPPool, "edge"),
			reason: backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE, says: "edge",
			without: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, c := newPeer(t, service())
			b.failure = backendtest.Fail(codes.FailedPrecondition, tt.reason, tt.says)
			_, err := c.Ensure(t.Context(), service(tt.change))
			switch {
			case err == nil || !strings.HasPrefix(err.Error(), tt.says):
				t.Errorf("the error is %v", err)
			case tt.without && err.Error() != tt.says, !strings.Contains(err.Error(), tt.remedy):
				t.Errorf("the error is %q, want it to say %q", err, tt.remedy)
			}
		})
	}
}
