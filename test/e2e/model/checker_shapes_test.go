// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// What the Service "many" has in shapedWorld, and its status.
const (
	fip1, fip2 = "id-fip-1", "id-fip-2"
	net1, net2 = "id-net-1", "id-net-2"
)

const (
	ip1, ip2      = "198.51.100.1", "198.51.100.2"
	six1, six2    = "2001:db8::1", "2001:db8::2"
	at1, at2, at3 = "172.30.0.1", "172.30.0.2", "172.30.0.3"
)

var manyStatus = []string{ip1, ip2, six1, six2, at1, at2}

// shapedWorld is one in which nothing is wrong: many has two IPv4 floating IPs and two IPv6 external
// subnets, on node-1 and node-2; node-3 has IPv4 alone.
func shapedWorld() (*expectation, snapshot) {
	e, s := settledWorld()
	e.services = map[string]*service{"many": {
		name: "many", balanced: true, ports: []corev1.ServicePort{objects.TCP(80)},
		shape: shape{versions: []string{"v4", "v6"}, subnets: map[string]bool{"v6": true}, each: 2},
	}}
	for i := range 2 {
		s.rack.Instances[i].PrivateIPs["v6"] = fmt.Sprintf("fd00::%d", i+1)
		s.rack.ExternalSubnets = append(s.rack.ExternalSubnets, rack.ExternalSubnet{
			ID: []string{net1, net2}[i], Name: fmt.Sprint("net-", i),
			Description: strings.Replace(markerFor("many", ""), "v4", "v6", 1),
			Subnet:      fmt.Sprintf("2001:db8::%d/128", i+1),
			AttachState: rack.Attached, Instance: fmt.Sprint("node-", i+1),
		})
		s.rack.FloatingIPs[i] = rack.FloatingIP{
			ID: []string{fip1, fip2}[i], Name: fmt.Sprint("fip-", i),
			Description: markerFor("many", ""), IP: fmt.Sprintf("198.51.100.%d", i+1),
			AttachState: rack.Attached, Instance: fmt.Sprint("node-", i+1),
		}
	}
	s.rack.FloatingIPs = slices.DeleteFunc(s.rack.FloatingIPs, func(f rack.FloatingIP) bool {
		return f.ID == fipKept
	})
	s.services = map[string]corev1.Service{"many": published("many", manyStatus...)}
	s.firewall = rulesFor(e)
	e.adopt(s)
	return e, s
}

func network(id string, change func(*rack.ExternalSubnet)) doctor {
	return func(_ *expectation, s snapshot, _ *step) {
		i := slices.IndexFunc(s.rack.ExternalSubnets, func(e rack.ExternalSubnet) bool { return e.ID == id })
		change(&s.rack.ExternalSubnets[i])
	}
}

func withoutNetworks(_ *expectation, _ snapshot, st *step) { st.now.rack.ExternalSubnets = nil }

func unfit(name string) doctor {
	return func(e *expectation, _ snapshot, _ *step) { e.nodes[name].excluded = true }
}

// asks has the Service ask for something else from this operation on.
func asks(change func(*shape)) doctor {
	return func(e *expectation, _ snapshot, _ *step) {
		change(&e.services["many"].shape)
		e.services["many"].exchanging = true
	}
}

// deleted is an address of a Service that is gone: somebody else has another one.
func deleted(id string) doctor {
	return func(e *expectation, s snapshot, _ *step) {
		ip(id, func(f *rack.FloatingIP) { f.ID, f.Description = "gone", "" })(e, s, nil)
		for _, c := range s.rack.Carried() {
			e.others[c.ID] = c
		}
		for known := range e.others {
			if known != "gone" && known != fipUser {
				delete(e.others, known)
			}
		}
	}
}

// The checker finds what is wrong with several addresses, of both IP families and sources.
func TestTheCheckerFindsWhatIsBrokenOfSeveralAddresses(t *testing.T) {
	without := func(left ...string) []string {
		return slices.DeleteFunc(slices.Clone(manyStatus), func(ip string) bool {
			return slices.Contains(left, ip)
		})
	}
	checkDoctored(t, shapedWorld, 4, []doctored{
		{name: "nothing has happened"},
		{"two addresses are on one node", []doctor{
			moved(fip2, "node-1"), status("many", without(at2)...),
		}, onePerNode, "both on node-1"},
		{"one is missing", []doctor{
			deleted(fip2), status("many", without(ip2, at2)...),
		}, converges, "many has 1 addresses of 2: floating IP v4"},
		{"one was exchanged for another", []doctor{
			ip(fip2, func(f *rack.FloatingIP) { f.ID, f.IP = "id-new", "198.51.100.77" }),
			status("many", ip1, "198.51.100.77", six1, six2, at1, at2),
		}, noneLost, "has lost 1 of them"},
		{"one too many", []doctor{asks(func(s *shape) { s.each = 1 })}, converges, "2 addresses too many"},
		{"a family too many", []doctor{
			asks(func(s *shape) { s.versions = s.versions[:1] }),
		}, converges, "2 addresses too many"},
		{"of another source", []doctor{
			asks(func(s *shape) { s.subnets = nil }),
		}, converges, "many has no address: floating IP v6"},
		{"of another class", []doctor{func(e *expectation, _ snapshot, _ *step) {
			e.services["many"].class = classPrefix + floatingIP
		}}, converges, classFinalizer},
		{"one could be on another node", []doctor{
			unfit("node-1"), unready("many", manyStatus...),
		}, converges, "198.51.100.1 of many is on node-1, which is not fit, and could be on [node-3]"},
		{"one has no node of its own", []doctor{
			unfit("node-1"), moved(fip1, "node-3"),
			unready("many", ip1, ip2, six1, six2, at2, at3),
		}, "", ""},
		{"one has no node of its own, and nobody says so", []doctor{
			unfit("node-1"), moved(fip1, "node-3"),
			status("many", ip1, ip2, six1, six2, at2, at3),
		}, statusIsFact, "the condition of many"},
		{"all are served, and the condition does not say so", []doctor{
			unready("many", manyStatus...),
		}, statusIsFact, "the condition of many"},
		{"one has moved for the sake of another", []doctor{
			network(net2, func(s *rack.ExternalSubnet) { s.Instance = "node-3" }),
		}, leastMovement, "2001:db8::2 of many"},
		{"the place of an external subnet is published", []doctor{
			status("many", append(slices.Clone(manyStatus), "fd00::1")...),
		}, statusIsFact, "fd00::1"},
		{"a place is published twice", []doctor{
			status("many", append(slices.Clone(manyStatus), at1)...),
		}, statusIsFact, "many"},
		{"a place comes before an address", []doctor{
			status("many", ip1, at1, ip2, six1, six2, at2),
		}, statusIsFact, "many"},
		{"the families are published in another order", []doctor{
			status("many", six1, six2, ip1, ip2, at1, at2),
		}, statusIsFact, "many"},
		{"one that served was released for one that did not", []doctor{
			unfit("node-1"), func(e *expectation, _ snapshot, _ *step) {
				e.services["many"].shape = shape{versions: []string{"v4"}, each: 1}
			},
			deleted(fip2), withoutNetworks,
			unready("many", ip1, at1),
		}, leastMovement, "lost one that served"},
		{"one that was kept is gone", []doctor{func(e *expectation, _ snapshot, _ *step) {
			v := e.services["many"]
			v.had, v.kept = v.had[1:], []address{v.had[0]}
			v.kept[0].id = "id-other"
		}}, noneLost, "many has lost its address 198.51.100.1"},
		{"a family that no node has is missing", []doctor{
			asks(func(s *shape) { s.prefers, s.each = true, 2 }),
			func(e *expectation, s snapshot, _ *step) {
				e.services["many"].had = e.services["many"].had[:2]
				delete(s.rack.Instances[0].PrivateIPs, "v6")
				delete(s.rack.Instances[1].PrivateIPs, "v6")
			},
			withoutNetworks,
			status("many", without(six1, six2)...),
		}, "", ""},
		{"a family that a node has is missing", []doctor{
			asks(func(s *shape) { s.prefers = true }),
			withoutNetworks,
			status("many", without(six1, six2)...),
		}, converges, "many has no address: external subnet v6"},
	})
}

// Two floating IPs of one port are in each other's way in one family alone, and external subnets never.
func TestTheCheckerKnowsWhoIsInWhoseWay(t *testing.T) {
	beside := func(version string, subnet bool) doctor {
		return func(e *expectation, s snapshot, st *step) {
			e.services["other"] = &service{
				name: "other", balanced: true, ports: []corev1.ServicePort{objects.TCP(80)},
				shape: shape{versions: []string{version}, subnets: map[string]bool{version: subnet}, each: 1},
			}
			marker := strings.Replace(markerFor("other", ""), "v4", version, 1)
			ips := []string{map[string]string{"v4": "198.51.100.7", "v6": "2001:db8::7"}[version]}
			if at := &st.now.rack; subnet {
				at.ExternalSubnets = append(at.ExternalSubnets, rack.ExternalSubnet{
					ID: "id-7", Name: "seven", Description: marker, Subnet: ips[0] + "/32",
					AttachState: rack.Attached, Instance: "node-1",
				})
			} else {
				at.FloatingIPs = append(at.FloatingIPs, rack.FloatingIP{
					ID: "id-7", Name: "seven", Description: marker, IP: ips[0],
					AttachState: rack.Attached, Instance: "node-1",
				})
			}
			if !subnet {
				ips = append(ips, s.private("node-1", version))
			}
			s.services["other"] = published("other", ips...)
			protected(e, s, st)
		}
	}
	checkDoctored(t, shapedWorld, 4, []doctored{
		{"floating IPs of one family", []doctor{beside("v4", false)}, onePerPort,
			"many and other are on node-1"},
		{"floating IPs of two families", []doctor{beside("v6", false)}, "", ""},
		{"a floating IP and an external subnet", []doctor{beside("v4", true)}, "", ""},
	})
}
