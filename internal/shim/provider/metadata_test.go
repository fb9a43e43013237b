// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/klog/v2"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestInstanceMetadata(t *testing.T) {
	dualStack := &backendv1.Instance{
		Id: id1, Name: "worker-1", Hostname: "worker-1.example.com", SiloId: silo,
		ProjectId: project, ProjectName: "prod", CpuCount: 8, MemoryBytes: 32 << 30,
		NetworkInterfaces: []*backendv1.NetworkInterface{
			{Name: "net1", Primary: true, Addresses: []string{"172.30.0.11", "fd00::11"}},
			{Name: "net0", Addresses: []string{"172.31.0.11"}},
		},
		ExternalAddresses: []*backendv1.ExternalAddress{
			{Address: "198.51.100.7"}, {Address: "2001:db8::7"},
		},
	}
	picky := instance(id1, "worker-1", "172.30.0.11")
	picky.CpuPlatform = "amd_turin"
	picky.AntiAffinityGroups = []string{"etcd", strings.Repeat("x", 44)}
	labels := map[string]string{
		"oxide.computer/silo-id":       silo,
		"oxide.computer/project-id":    project,
		"oxide.computer/instance-name": "worker-1",
		"oxide.computer/project":       "prod",
	}
	registered := node("worker-1", "")
	registered.Status.Addresses = []v1.NodeAddress{{Type: v1.NodeHostName, Address: "override"}}

	for _, tt := range []struct {
		name     string
		node     *v1.Node
		instance *backendv1.Instance
		want     *cloudprovider.InstanceMetadata
		wantErr  string
	}{
		{"every kind of address, the primary interface first", node("worker-1", id1), dualStack,
			&cloudprovider.InstanceMetadata{
				ProviderID:   "oxide://" + id1,
				InstanceType: "8-32",
				NodeAddresses: []v1.NodeAddress{
					{Type: v1.NodeInternalIP, Address: "172.30.0.11"},
					{Type: v1.NodeInternalIP, Address: "fd00::11"},
					{Type: v1.NodeInternalIP, Address: "172.31.0.11"},
					{Type: v1.NodeExternalIP, Address: "198.51.100.7"},
					{Type: v1.NodeExternalIP, Address: "2001:db8::7"},
					{Type: v1.NodeHostName, Address: "worker-1.example.com"},
				},
				AdditionalLabels: labels,
			}, ""},
		{"the hostname that kubelet registered with stays", joining(registered),
			instance(id1, "worker-1", "172.30.0.11"),
			&cloudprovider.InstanceMetadata{
				ProviderID:   "oxide://" + id1,
				InstanceType: "4-16",
				NodeAddresses: []v1.NodeAddress{
					{Type: v1.NodeInternalIP, Address: "172.30.0.11"},
					{Type: v1.NodeHostName, Address: "override"},
				},
				AdditionalLabels: labels,
			}, ""},
		{"an instance that requires a CPU platform, and is in a group with a name that fits", joining(registered), picky,
			&cloudprovider.InstanceMetadata{
				ProviderID:   "oxide://" + id1,
				InstanceType: "4-16",
				NodeAddresses: []v1.NodeAddress{
					{Type: v1.NodeInternalIP, Address: "172.30.0.11"},
					{Type: v1.NodeHostName, Address: "override"},
				},
				AdditionalLabels: map[string]string{
					"oxide.computer/silo-id":       silo,
					"oxide.computer/project-id":    project,
					"oxide.computer/instance-name": "worker-1",
					"oxide.computer/project":       "prod",
					"oxide.computer/cpu-platform":  "amd_turin",

					"oxide.computer/anti-affinity-group.etcd": "true",
				},
			}, ""},
		{"a node of another provider that joins is skipped", joining(foreignNode("x")),
			dualStack, nil, ""},
		{"a node of another provider that has joined gets empty metadata: nil would crash the " +
			"framework", foreignNode("x"), dualStack, &cloudprovider.InstanceMetadata{}, ""},
		{"no private address", node("worker-1", id1), &backendv1.Instance{
			Id: id1, Name: "worker-1", Hostname: "worker-1",
			ExternalAddresses: []*backendv1.ExternalAddress{{Address: "198.51.100.7"}},
		}, nil, "has no private address"},
		{"malformed provider ID", node("worker-1", "x"), dualStack, nil, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, p := newPeer(t, tt.instance)
			got, err := p.InstanceMetadata(t.Context(), tt.node)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("the error is %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("metadata (-want +got):\n%s", diff)
			}
		})
	}
}

// Until the backend was told all load balancers, a floating IP may be one that a Service was given.
func TestNoFloatingAddressIsAddedWhileItMayBeALoadBalancers(t *testing.T) {
	const (
		floating  = backendv1.ExternalAddressKind_EXTERNAL_ADDRESS_KIND_FLOATING
		ephemeral = backendv1.ExternalAddressKind_EXTERNAL_ADDRESS_KIND_EPHEMERAL
	)
	external := func(kind v1.NodeAddressType, addresses ...string) []v1.NodeAddress {
		var all []v1.NodeAddress
		for _, address := range addresses {
			all = append(all, v1.NodeAddress{Type: kind, Address: address})
		}
		return all
	}
	for _, tt := range []struct {
		name        string
		provisional bool
		on          []v1.NodeAddress
		want        []v1.NodeAddress
	}{
		{"all are settled", false, nil,
			external(v1.NodeExternalIP, "198.51.100.7", "198.51.100.8", "2001:db8::8")},
		{"none is on the Node", true, nil, external(v1.NodeExternalIP, "198.51.100.7")},
		{"one is on the Node, and is kept", true,
			external(v1.NodeExternalIP, "198.51.100.8", "198.51.100.7"),
			external(v1.NodeExternalIP, "198.51.100.7", "198.51.100.8")},
		{"one is on the Node as another kind of address", true,
			external(v1.NodeInternalIP, "198.51.100.8"),
			external(v1.NodeExternalIP, "198.51.100.7")},
		{"one that is on the Node, and not listed any more, goes", true,
			external(v1.NodeExternalIP, "198.51.100.99", "2001:db8::8"),
			external(v1.NodeExternalIP, "198.51.100.7", "2001:db8::8")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := instance(id1, "worker-1", "172.30.0.11")
			i.ExternalAddressesProvisional = tt.provisional
			i.ExternalAddresses = []*backendv1.ExternalAddress{
				{Address: "198.51.100.7", Kind: ephemeral},
				{Address: "198.51.100.8", Kind: floating},
				{Address: "2001:db8::8", Kind: floating},
			}
			n := node("worker-1", id1)
			n.Status.Addresses = tt.on
			_, p := newPeer(t, i)
			got, err := p.InstanceMetadata(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			is := slices.DeleteFunc(got.NodeAddresses, func(a v1.NodeAddress) bool {
				return a.Type != v1.NodeExternalIP
			})
			if diff := cmp.Diff(tt.want, is); diff != "" {
				t.Errorf("external addresses (-want +got):\n%s", diff)
			}
		})
	}
}

// A new field of the framework is to be decided about, not overlooked.
func TestEveryFieldOfTheMetadataIsSet(t *testing.T) {
	_, p := newPeer(t)
	p.topology = Topology{Region: "west", Zone: "rack-1"}
	got, err := p.metadata(node("worker-1", id1), instance(id1, "worker-1", "172.30.0.11"))
	if err != nil {
		t.Fatal(err)
	}
	value := reflect.ValueOf(*got)
	for i := range value.NumField() {
		if value.Field(i).IsZero() {
			t.Errorf("InstanceMetadata.%s is not set", value.Type().Field(i).Name)
		}
	}
}

// While a node joins, the framework overwrites what the node says itself of where it is.
func TestANodeThatJoinsKeepsWhatItSaysOfWhereItIs(t *testing.T) {
	for _, tt := range []struct {
		name     string
		labels   map[string]string
		topology Topology
		want     [2]string
	}{
		{"it says nothing", nil, Topology{Region: "west", Zone: "rack-1"},
			[2]string{"west", "rack-1"}},
		{"nothing is configured", nil, Topology{}, [2]string{}},
		{"it says the same", map[string]string{v1.LabelTopologyZone: "rack-1"},
			Topology{Zone: "rack-1"}, [2]string{"", "rack-1"}},
		{"it says another zone", map[string]string{v1.LabelTopologyZone: "mine"},
			Topology{Region: "west", Zone: "rack-1"}, [2]string{"west", ""}},
		{"it says another region, by the old label",
			map[string]string{v1.LabelFailureDomainBetaRegion: "mine"},
			Topology{Region: "west", Zone: "rack-1"}, [2]string{"", "rack-1"}},
		{"it says an empty zone", map[string]string{v1.LabelTopologyZone: ""},
			Topology{Zone: "rack-1"}, [2]string{"", ""}},
		{"it says another, and is relabelled", map[string]string{v1.LabelTopologyZone: "mine"},
			Topology{Zone: "rack-1", Relabel: true}, [2]string{"", "rack-1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, p := newPeer(t)
			p.topology = tt.topology
			n := joining(node("worker-1", ""))
			n.Labels = tt.labels
			got, err := p.metadata(n, instance(id1, "worker-1", "172.30.0.11"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, [2]string{got.Region, got.Zone}); diff != "" {
				t.Errorf("region and zone (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFactsAreFreshWhileANodeJoins(t *testing.T) {
	b, p := newPeer(t, instance(id1, "worker-1", "172.30.0.11"))
	for _, tt := range []struct {
		name string
		node *v1.Node
		want backendv1.Freshness
	}{
		{"joining", joining(node("worker-1", "")), backendv1.Freshness_FRESHNESS_DIRECT},
		{"joined", node("worker-1", id1), backendv1.Freshness_FRESHNESS_BOUNDED},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := p.InstanceMetadata(t.Context(), tt.node); err != nil {
				t.Fatal(err)
			}
			request, _ := b.last()
			if got := request.(*backendv1.GetInstanceRequest).GetFreshness(); got != tt.want {
				t.Errorf("asked for %s, want %s", got, tt.want)
			}
		})
	}
}

func TestLabelsThatAreNoneAreLeftOut(t *testing.T) {
	i := instance(id1, "worker-1", "172.30.0.11")
	i.ProjectId, i.ProjectName = "not good", "Not good"
	i.CpuPlatform = strings.Repeat("x", 64)
	want := map[string]string{LabelSiloID: silo, LabelInstanceName: "worker-1"}
	if diff := cmp.Diff(want, InstanceLabels(i)); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

func TestAForeignNodeIsToldOnce(t *testing.T) {
	var lines []string
	klog.SetLogger(funcr.New(func(_, args string) { lines = append(lines, args) },
		funcr.Options{}))
	t.Cleanup(klog.ClearLogger)

	b, p := newPeer(t)
	for range 3 {
		for _, name := range []string{"x", "y"} {
			if exists, err := p.InstanceExists(t.Context(), foreignNode(name)); !exists {
				t.Fatalf("%s does not exist: %v", name, err)
			}
			if _, err := p.InstanceMetadata(t.Context(), foreignNode(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(lines) != 2 {
		t.Errorf("two foreign nodes are told in %d lines: %q", len(lines), lines)
	}
	events := b.events.Sent()
	if len(events) != 2 || !strings.HasPrefix(events[0], "x Normal ForeignProviderID ") ||
		!strings.HasPrefix(events[1], "y Normal ForeignProviderID ") {
		t.Errorf("the events are %q", events)
	}
}

// Only what makes a label is worth the request: the rack, while a node joins.
func TestTheZoneOfANodeThatJoinsCanBeItsRack(t *testing.T) {
	onRack := instance(id1, "worker-1", "172.30.0.11")
	onRack.RackId = id2
	for name, tt := range map[string]struct {
		node     *v1.Node
		topology Topology
		asked    bool
		want     string
	}{
		"by its provider ID":  {joining(node("worker-1", id1)), Topology{ZoneFromRack: true}, true, id2},
		"by its name":         {joining(node("worker-1", "")), Topology{ZoneFromRack: true}, true, id2},
		"one that has joined": {node("worker-1", id1), Topology{ZoneFromRack: true}, false, id2},
		"the zone is configured": {
			joining(node("worker-1", id1)), Topology{Zone: "rack-1"}, false, "rack-1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, p := newPeer(t, onRack)
			p.topology = tt.topology
			got, err := p.InstanceMetadata(t.Context(), tt.node)
			if err != nil {
				t.Fatal(err)
			}
			if got.Zone != tt.want {
				t.Errorf("the zone is %q, want %q", got.Zone, tt.want)
			}
			for _, request := range b.requests {
				if got := request.(*backendv1.GetInstanceRequest).GetIncludeRack(); got != tt.asked {
					t.Errorf("asked for the rack: %t, want %t", got, tt.asked)
				}
			}
		})
	}
}
