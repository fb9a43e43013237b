// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// shop is a running backend with the session of a cluster: two Services, shop/web and infra/web, which may
// use only the first node, the instance machine-1, until they are free.
type shop struct {
	*process
	rack   *oxidesim.Simulator
	stream backendv1.LoadBalancerService_SyncLoadBalancersClient
	set    *backendv1.LoadBalancerSet
}

func nodeNamed(i int) string { return fmt.Sprintf("worker-%d.example.com", i) }

// aCluster makes the instances of a cluster without load balancers.
func aCluster(
	t *testing.T, rack *oxidesim.Server, nodes int, name func(int) string,
) *backendv1.LoadBalancerSet {
	t.Helper()
	set := &backendv1.LoadBalancerSet{Open: &backendv1.OpenSession{Scope: "c1"}}
	for i := range nodes {
		node, err := rack.AddInstance("demo", oxidesim.InstanceSeed{Name: fmt.Sprintf("machine-%d", i+1)})
		if err != nil {
			t.Fatal(err)
		}
		set.Candidates = append(set.Candidates, &backendv1.Candidate{
			InstanceId: node.ID, DisplayName: name(i + 1), Readiness: backendv1.Readiness_READINESS_READY,
		})
	}
	return set
}

// newShop starts a backend for a cluster with some nodes.
func newShop(t *testing.T, nodes int) *shop {
	t.Helper()
	rack := oxidesim.Start(t, oxidesim.Config{})
	set := aCluster(t, rack, nodes, nodeNamed)
	for i, name := range []string{"infra/web", "shop/web"} {
		lb := aLoadBalancer(name, int32(80+i))
		lb.EligibleInstances = only(set, "")
		set.LoadBalancers = append(set.LoadBalancers, lb)
	}
	s := &shop{process: start(t, rack.URL), rack: rack.Simulator, set: set}
	s.awaitReady()
	s.stream = openSession(t, backendv1.NewLoadBalancerServiceClient(s.conn), set)
	s.attached(len(set.GetLoadBalancers()))
	s.awaitShown("Nothing would change.", "plan")
	return s
}

// attached awaits that some addresses are attached.
func (s *shop) attached(addresses int) {
	s.t.Helper()
	s.await("addresses that are attached", func() bool {
		attached := 0
		for _, ip := range s.rack.FloatingIPs() {
			if ip.InstanceID != "" {
				attached++
			}
		}
		return attached == addresses
	})
}

// only makes the first node eligible, for what it has.
func only(set *backendv1.LoadBalancerSet, has string) *backendv1.EligibleInstances {
	return &backendv1.EligibleInstances{
		Instances:   []*backendv1.EligibleInstance{{InstanceId: set.GetCandidates()[0].GetInstanceId()}},
		Description: has,
	}
}

func aLoadBalancer(name string, port int32) *backendv1.DesiredLoadBalancer {
	return &backendv1.DesiredLoadBalancer{
		Key: &backendv1.LoadBalancerKey{Scope: "c1", Name: name}, OwnerUid: "uid", Generation: 1,
		NoPublication: true,
		Addresses: []*backendv1.DesiredAddress{{
			Family: backendv1.IpFamily_IP_FAMILY_IPV4,
			Source: &backendv1.DesiredAddress_FloatingIp{FloatingIp: &backendv1.FloatingIpSource{}},
		}},
		Ports: []*backendv1.Port{{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: port}},
	}
}

// send sends an item of the session.
func (s *shop) send(item *backendv1.SyncLoadBalancersRequest) {
	s.t.Helper()
	if err := s.stream.Send(item); err != nil {
		s.t.Fatal(err)
	}
}

// wants sends a load balancer.
func (s *shop) wants(lb *backendv1.DesiredLoadBalancer) {
	s.t.Helper()
	s.send(&backendv1.SyncLoadBalancersRequest{
		Item: &backendv1.SyncLoadBalancersRequest_LoadBalancer{LoadBalancer: lb},
	})
}

// free lets every node carry the Services.
func (s *shop) free() {
	s.t.Helper()
	for _, lb := range s.set.GetLoadBalancers() {
		lb.EligibleInstances, lb.Generation = nil, lb.GetGeneration()+1
		s.wants(lb)
	}
}

// addressOf returns the address of a Service.
func (s *shop) addressOf(name string) string {
	for _, ip := range s.rack.FloatingIPs() {
		if strings.Contains(ip.Description, " name="+name+" ") {
			return ip.IP
		}
	}
	s.t.Fatalf("%s has no address", name)
	return ""
}

// run runs a command for operators.
func (s *shop) run(args ...string) (code int, stdout, stderr string) {
	var out, errOut bytes.Buffer
	code = backend.Main(s.t.Context(), append(args, "--socket", s.socket), &out, &errOut)
	return code, out.String(), errOut.String()
}

// shows checks what a command shows: lines whose columns are set apart by any space.
func (s *shop) shows(lines []string, args ...string) {
	s.t.Helper()
	code, stdout, stderr := s.run(args...)
	if code != 0 || stderr != "" {
		s.t.Fatalf("%q: exit code %d: %s", args, code, stderr)
	}
	all := make(map[string]bool)
	for line := range strings.Lines(stdout) {
		all[strings.Join(strings.Fields(line), " ")] = true
	}
	for _, line := range lines {
		if !all[line] {
			s.t.Errorf("%q: there is no line %q in:\n%s", args, line, stdout)
		}
	}
}

// awaitShown awaits what a command shows once the backend has done or heard something.
func (s *shop) awaitShown(part string, args ...string) {
	s.t.Helper()
	s.await(fmt.Sprintf("showing %q by %q", part, args), func() bool {
		_, stdout, _ := s.run(args...)
		return strings.Contains(stdout, part)
	})
}

// refuses checks that a command is refused with one line that has some parts.
func (s *shop) refuses(code int, parts []string, args ...string) {
	s.t.Helper()
	got, stdout, stderr := s.run(args...)
	if got != code || stdout != "" || strings.Count(stderr, "\n") != 1 {
		s.t.Errorf("%q: exit code %d, want %d, and one line: %s%s", args, got, code, stdout, stderr)
	}
	for _, part := range parts {
		if !strings.Contains(stderr, part) {
			s.t.Errorf("%q: there is no %q in %s", args, part, stderr)
		}
	}
}

// inForm checks that a command prints a message of the API as JSON, and the same as YAML.
func inForm[M proto.Message](s *shop, message M, args ...string) M {
	s.t.Helper()
	code, stdout, stderr := s.run(append(args, "-o", "json")...)
	if err := protojson.Unmarshal([]byte(stdout), message); err != nil || code != 0 {
		s.t.Fatalf("%q: exit code %d, %v: %s%s", args, code, err, stdout, stderr)
	}
	if code, stdout, stderr := s.run(append(args, "-o", "yaml")...); code != 0 ||
		strings.HasPrefix(stdout, "{") || !strings.Contains(stdout, "addresses:") {
		s.t.Errorf("%q in YAML: exit code %d: %s%s", args, code, stdout, stderr)
	}
	return message
}
