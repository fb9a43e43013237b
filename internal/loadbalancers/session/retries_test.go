// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// watched is for how long requests are counted while a fault lasts.
const watched = 30 * time.Minute

// counts are requests by operation.
type counts map[string]int

// requests returns all requests so far.
func (w *world) requests() counts {
	all := make(counts)
	for operation, byStatus := range w.sim.Counters() {
		for _, n := range byStatus {
			all[operation] += n
		}
	}
	return all
}

// since returns the requests that were made since counts were taken.
func (w *world) since(before counts) counts {
	now := w.requests()
	maps.DeleteFunc(now, func(operation string, n int) bool { return n == before[operation] })
	for operation := range now {
		now[operation] -= before[operation]
	}
	return now
}

func (c counts) String() string {
	var parts []string
	for _, operation := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%s %d", operation, c[operation]))
	}
	return strings.Join(parts, ", ")
}

// fault answers requests for an operation with a status from now on.
func (w *world) fault(operation string, status int, code string) {
	w.Helper()
	_, err := w.sim.AddFault(oxidesim.Fault{Operation: operation, Status: status, ErrorCode: code})
	w.must(err)
}

// refusals are faults that last, and what meets them.
var refusals = []struct {
	name string
	// before brings about what there is when the fault begins, and after what meets it.
	before, after func(o *owner)
	operation     string
	status        int
	code          string
	// most bounds the requests for the operation, published how often what is published changes.
	most, published int
}{
	{"there is no default pool", nil, desiresWeb, "floating_ip_create", 404, notFound, 12, 0},
	{"a named pool is not linked", nil, desiresFromPool, "floating_ip_create", 404, notFound, 12, 0},
	{"a pool is exhausted", nil, desiresWeb, "floating_ip_create", 507, noCapacity, 12, 0},
	{"a creation is refused", nil, desiresWeb, "floating_ip_create", 400, invalid, 12, 0},
	{"a creation is forbidden", nil, desiresWeb, "floating_ip_create", 403, forbidden, 12, 0},
	{"a creation fails", nil, desiresWeb, "floating_ip_create", 500, "", 12, 0},
	{"no creation is possible", nil, desiresWeb, "floating_ip_create", 503, unavailable, 70, 0},
	{"endpoints come and go", nil, endpointsFlap, "floating_ip_create", 400, invalid, 12, 0},
	{"an attachment is refused", nil, desiresWeb, "floating_ip_attach", 400, invalid, 12, 18},
	{"an attachment is forbidden", nil, desiresWeb, "floating_ip_attach", 403, forbidden, 12, 18},
	{"an attachment fails", nil, desiresWeb, "floating_ip_attach", 500, "", 12, 18},
	{"no attachment is possible", nil, desiresWeb, "floating_ip_attach", 503, unavailable, 40, 18},
	{"a detachment is refused", serves, losesItsNode, "floating_ip_detach", 400, invalid, 12, 2},
	{"a detachment is forbidden", serves, losesItsNode, "floating_ip_detach", 403, forbidden, 12, 2},
	{"a detachment fails", serves, losesItsNode, "floating_ip_detach", 500, "", 12, 2},
	{"no detachment is possible", serves, losesItsNode, "floating_ip_detach", 503, unavailable, 70, 2},
	{"a place cannot be released", serves, ends, "floating_ip_detach", 400, invalid, 12, 2},
	{"a deletion is refused", serves, ends, "floating_ip_delete", 400, invalid, 12, 2},
	{"a deletion is forbidden", serves, ends, "floating_ip_delete", 403, forbidden, 12, 2},
	{"no deletion is possible", serves, ends, "floating_ip_delete", 503, unavailable, 70, 2},
	{"a marker is refused", serves, retains, "floating_ip_update", 400, invalid, 12, 2},
	{"a marker cannot be written", serves, retains, "floating_ip_update", 500, "", 12, 2},
	{"a marker cannot be restored", losesItsMarker, nil, "floating_ip_update", 403, forbidden, 12, 1},
	{"an instance has failed", serves, fails, "floating_ip_detach", 0, "", 40, 2},
	{"an instance has no interface", nil, hasNoInterface, "vpc_subnet_list*", 0, "", 40, 1},
	{"an address cannot be read", serves, stops, "floating_ip_view", 503, unavailable, 280, 4},
	{"an absence cannot be read", nil, isEnding, "floating_ip_view", 503, unavailable, 280, 0},
	{"addresses cannot be listed", serves, losesItsNode, "floating_ip_list", 503, unavailable, 750, 3},
	{"addresses may not be listed", serves, losesItsNode, "floating_ip_list", 403, forbidden, 200, 3},
	{"instances cannot be listed", serves, losesItsNode, "instance_list", 503, unavailable, 300, 3},
	{"instances may not be listed", serves, losesItsNode, "instance_list", 403, forbidden, 80, 3},
	{"networks cannot be listed", serves, losesItsNode, "vpc_subnet_list*", 503, unavailable, 350, 3},
	{"an instance cannot be read", serves, losesAnInstance, "instance_view", 503, unavailable, 280, 18},
	{"a pool cannot be read", nil, desiresFromPool, "ip_pool_*", 503, unavailable, 280, 0},
	{"firewall rules cannot be read", nil, desiresWeb, "vpc_firewall*", 503, unavailable, 280, 1},
	{"an external subnet is refused", nil, desiresSubnet, "external_subnet_create", 400, invalid, 12, 0},
	{"an external subnet is forbidden", nil, desiresSubnet, "external_subnet_create", 403, forbidden, 12, 0},
	{"an external subnet cannot be attached", nil, desiresSubnet, "external_subnet_attach", 503, unavailable, 40, 18},
	{"an external subnet may not be attached", nil, desiresSubnet, "external_subnet_attach", 403, forbidden, 12, 18},
	{"an external subnet cannot be detached", servesSubnet, losesItsNode, "external_subnet_detach", 503, unavailable, 70, 1},
	{"an external subnet is not detached", servesSubnet, losesItsNode, "external_subnet_detach", 400, invalid, 12, 1},
	{"an external subnet is not deleted", servesSubnet, ends, "external_subnet_delete", 400, invalid, 12, 1},
	{"external subnets cannot be listed", servesSubnet, losesItsNode, "external_subnet_list", 503, unavailable, 750, 1},
	{"external subnets may not be listed", nil, desiresSubnet, "external_subnet_list", 403, forbidden, 200, 0},
	{"Oxide is away", serves, losesItsNode, "*", 503, unavailable, 350, 3},
	{"the token is refused", serves, losesItsNode, "*", 401, "Unauthorized", 90, 3},
}

const (
	invalid     = "InvalidRequest"
	notFound    = "ObjectNotFound"
	forbidden   = "Forbidden"
	unavailable = "ServiceNotAvailable"
	noCapacity  = "InsufficientCapacity"
)

var web = ownership.Key{Scope: scope, Name: "default/web"}

func desiresWeb(o *owner) { o.want(web.Name, nil, 80) }

func desiresFromPool(o *owner) {
	o.want(web.Name, func(d *session.Desired) { d.Addresses[0].Source.Pool = "default" }, 80)
}

func serves(o *owner) {
	desiresWeb(o)
	o.settled(web)
}

func desiresSubnet(o *owner) { o.want(web.Name, routed, 80) }

func servesSubnet(o *owner) {
	desiresSubnet(o)
	o.carried(web, 1)
}

// inServedWorld runs a test in a world with so many nodes, in which the load balancer web is served at
// an address.
func inServedWorld(t *testing.T, nodes int, test func(w *world, o *owner, before session.Address)) {
	t.Helper()
	inWorld(t, nodes, func(w *world) {
		o := w.open().sync()
		defer o.close()
		serves(o)
		test(w, o, o.state(web).Addresses[0])
	})
}

func losesItsNode(o *owner) {
	o.observe(o.node(o.state(web).Addresses[0].Attached.InstanceID), silent)
}

func ends(o *owner) { o.want(web.Name, func(d *session.Desired) { d.Ending = plan.EndRelease }) }

func isEnding(o *owner) {
	o.want(web.Name, func(d *session.Desired) { d.Ending = plan.EndRelease }, 80)
}

func retains(o *owner) { o.want(web.Name, func(d *session.Desired) { d.Ending = plan.EndRetain }) }

func stops(o *owner) {
	o.must(o.sim.SetRunState(o.state(web).Addresses[0].Attached.InstanceID, "stopped"))
}

func losesItsMarker(o *owner) {
	serves(o)
	_, err := o.api.DescribeFloatingIP(o.Context(), o.state(web).Addresses[0].ID, "by hand")
	o.must(err)
}

func losesAnInstance(o *owner) {
	o.must(o.sim.RemoveInstance(o.state(web).Addresses[0].Attached.InstanceID))
}

func fails(o *owner) {
	o.must(o.sim.SetRunState(o.state(web).Addresses[0].Attached.InstanceID, "failed"))
}

func hasNoInterface(o *owner) {
	bare, err := o.sim.AddInstance("demo", oxidesim.InstanceSeed{Name: "bare", NIC: "none"})
	o.must(err)
	o.send(session.Item{Candidate: &health.Observation{InstanceID: bare.ID, Readiness: health.Ready}})
	desiresWeb(o)
}

func endpointsFlap(o *owner) {
	desiresWeb(o)
	go func() {
		for i := range int(watched / (10 * time.Second)) {
			o.want(web.Name, o.confined(i%2))
			time.Sleep(10 * time.Second)
		}
	}()
}

// atRest is how often at most the same is asked in 30 minutes while all is well: the instances are
// listed every four seconds.
const atRest = 450

func TestEveryRetryHasABound(t *testing.T) {
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, 3, func(w *world) {
				o := w.open().sync()
				defer o.close()
				if tt.before != nil {
					tt.before(o)
				}
				if tt.status != 0 {
					w.fault(tt.operation, tt.status, tt.code)
				}
				before, began := w.requests(), time.Now()
				if tt.after != nil {
					tt.after(o)
				}
				time.Sleep(watched)
				got, published := w.since(before), o.published(web, began)
				t.Logf("%s; %d publications", got, published)
				met := false
				for operation, n := range got {
					most := atRest
					if meets, _ := path.Match(tt.operation, operation); meets {
						met, most = true, tt.most
					}
					if n > most {
						t.Errorf("%s: %d requests in %s, want at most %d", operation, n, watched, most)
					}
				}
				if !met {
					t.Error("no request has met the fault")
				}
				if published > tt.published {
					t.Errorf("%d publications, want at most %d", published, tt.published)
				}
			})
		})
	}
}

// published counts how often what a load balancer publishes has changed since a time.
func (o *owner) published(key ownership.Key, since time.Time) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, p := range o.journal[key] {
		if !p.at.Before(since) {
			n++
		}
	}
	return n
}
