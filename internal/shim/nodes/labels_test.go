// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package nodes

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	silo    = "aaaaaaaa-0000-4000-8000-000000000001"
	project = "bbbbbbbb-0000-4000-8000-000000000001"
	id1     = "11111111-1111-4111-8111-111111111111"
	id2     = "22222222-2222-4222-8222-222222222222"
)

// machine returns an instance of 4 CPUs and 16 GiB.
func machine(id, name string) *backendv1.Instance {
	return &backendv1.Instance{
		Id: id, Name: name, SiloId: silo, ProjectId: project, ProjectName: "prod",
		CpuCount: 4, MemoryBytes: 16 << 30,
	}
}

// labelled returns what the node of such an instance has, with more labels or others.
func labelled(name string, more map[string]string) map[string]string {
	all := map[string]string{
		"oxide.computer/silo-id": silo, "oxide.computer/project-id": project,
		"oxide.computer/instance-name": name, "oxide.computer/project": "prod",
		"beta.kubernetes.io/instance-type": "4-16", "node.kubernetes.io/instance-type": "4-16",
		"kubernetes.io/hostname": "whatever",
	}
	for key, value := range more {
		if value == "absent" {
			delete(all, key)
		} else {
			all[key] = value
		}
	}
	return all
}

func TestChanges(t *testing.T) {
	const (
		oldRegion = "failure-domain.beta.kubernetes.io/region"
		newRegion = "topology.kubernetes.io/region"
		oldZone   = "failure-domain.beta.kubernetes.io/zone"
		newZone   = "topology.kubernetes.io/zone"
	)
	here := provider.Topology{Region: "west", Zone: "west"}
	relabel := provider.Topology{Region: "west", Zone: "west", Relabel: true}
	for _, tt := range []struct {
		name string
		// labels are what the node has beside, or instead of, what it should.
		labels   map[string]string
		instance func(*backendv1.Instance)
		topology provider.Topology
		// want maps labels to values; "taken away" for none.
		want map[string]string
	}{
		{name: "nothing to change", want: map[string]string{}},
		{name: "no stamp", labels: map[string]string{
			"oxide.computer/silo-id": "absent", "oxide.computer/project-id": "absent",
		}, want: map[string]string{
			"oxide.computer/silo-id": silo, "oxide.computer/project-id": project,
		}},
		{name: "half a stamp, and a false name", labels: map[string]string{
			"oxide.computer/silo-id": "absent", "oxide.computer/instance-name": "other",
		}, want: map[string]string{
			"oxide.computer/silo-id": silo, "oxide.computer/instance-name": "w",
		}},
		{name: "a stamp that says another project", labels: map[string]string{
			"oxide.computer/project-id": id2,
		}, want: map[string]string{"oxide.computer/project-id": project}},
		{name: "a project that is renamed",
			instance: func(i *backendv1.Instance) { i.ProjectName = "production" },
			want:     map[string]string{"oxide.computer/project": "production"}},
		{name: "an instance that says nothing takes no stamp away",
			instance: func(i *backendv1.Instance) {
				i.SiloId, i.ProjectId, i.ProjectName, i.Name = "", "", "", ""
			},
			want: map[string]string{}},
		{name: "a CPU platform is required",
			instance: func(i *backendv1.Instance) { i.CpuPlatform = "amd_milan" },
			want:     map[string]string{"oxide.computer/cpu-platform": "amd_milan"}},
		{name: "a CPU platform is required no more",
			labels: map[string]string{"oxide.computer/cpu-platform": "amd_milan"},
			want:   map[string]string{"oxide.computer/cpu-platform": "taken away"}},
		{name: "in two groups, one of which is too long for a label",
			instance: func(i *backendv1.Instance) {
				i.AntiAffinityGroups = []string{"etcd", strings.Repeat("x", 44), strings.Repeat("y", 43)}
			},
			want: map[string]string{
				"oxide.computer/anti-affinity-group.etcd":                       "true",
				"oxide.computer/anti-affinity-group." + strings.Repeat("y", 43): "true",
			}},
		{name: "out of a group: others' labels stay",
			labels: map[string]string{
				"oxide.computer/anti-affinity-group.etcd": "true",
				"oxide.computer/anti-affinity-group.web":  "true",
				"example.com/anti-affinity-group.etcd":    "true", "oxide.computer/mine": "",
			},
			instance: func(i *backendv1.Instance) {
				i.AntiAffinityGroups, i.AntiAffinityGroupsKnown = []string{"web"}, true
			},
			want: map[string]string{"oxide.computer/anti-affinity-group.etcd": "taken away"}},
		{name: "groups that are not known take no label away",
			labels: map[string]string{"oxide.computer/anti-affinity-group.etcd": "true"},
			want:   map[string]string{}},
		{name: "resized: both labels at once",
			instance: func(i *backendv1.Instance) { i.CpuCount = 8 },
			want: map[string]string{
				"beta.kubernetes.io/instance-type": "8-16", "node.kubernetes.io/instance-type": "8-16",
			}},
		{name: "one of the two types is lost",
			labels: map[string]string{"beta.kubernetes.io/instance-type": "absent"},
			want:   map[string]string{"beta.kubernetes.io/instance-type": "4-16"}},
		{name: "no region and zone yet: all four at once", topology: here,
			want: map[string]string{
				oldRegion: "west", newRegion: "west", oldZone: "west", newZone: "west",
			}},
		{name: "only one of each is there, and right", topology: here,
			labels: map[string]string{newRegion: "west", oldZone: "west"},
			want:   map[string]string{oldRegion: "west", newZone: "west"}},
		{name: "all are there", topology: here,
			labels: map[string]string{
				oldRegion: "west", newRegion: "west", oldZone: "west", newZone: "west",
			}, want: map[string]string{}},
		{name: "another zone stays", topology: here,
			labels: map[string]string{oldZone: "mine", newZone: "mine"},
			want:   map[string]string{oldRegion: "west", newRegion: "west"}},
		{name: "another region stays, by one label", topology: here,
			labels: map[string]string{newRegion: "mine", newZone: "west", oldZone: "west"},
			want:   map[string]string{}},
		{name: "an empty zone stays", topology: here,
			labels: map[string]string{oldRegion: "west", newRegion: "west", newZone: ""},
			want:   map[string]string{}},
		{name: "others are changed if told so: both at once", topology: relabel,
			labels: map[string]string{oldZone: "mine", newZone: "mine", newRegion: "mine"},
			want: map[string]string{
				oldRegion: "west", newRegion: "west", oldZone: "west", newZone: "west",
			}},
		{name: "the rack is the zone", topology: provider.Topology{ZoneFromRack: true},
			instance: func(i *backendv1.Instance) { i.RackId = id2 },
			want:     map[string]string{oldZone: id2, newZone: id2}},
		{name: "another zone than the rack stays", topology: provider.Topology{ZoneFromRack: true},
			labels:   map[string]string{oldZone: "mine", newZone: "mine"},
			instance: func(i *backendv1.Instance) { i.RackId = id2 },
			want:     map[string]string{}},
		{name: "another zone than the rack is changed if told so",
			topology: provider.Topology{ZoneFromRack: true, Relabel: true},
			labels:   map[string]string{oldZone: id1, newZone: id1},
			instance: func(i *backendv1.Instance) { i.RackId = id2 },
			want:     map[string]string{oldZone: id2, newZone: id2}},
		{name: "a rack that is not known takes no zone away",
			topology: provider.Topology{ZoneFromRack: true, Relabel: true},
			labels:   map[string]string{oldZone: id2, newZone: id2}, want: map[string]string{}},
		{name: "a rack that can be no zone", topology: provider.Topology{ZoneFromRack: true},
			instance: func(i *backendv1.Instance) { i.RackId = "no zone" },
			want:     map[string]string{}},
		{name: "a rack that nobody asked for", topology: here,
			labels:   map[string]string{oldRegion: "west", newRegion: "west"},
			instance: func(i *backendv1.Instance) { i.RackId = id2 },
			want:     map[string]string{oldZone: "west", newZone: "west"}},
		{name: "what is not configured any more stays", topology: provider.Topology{},
			labels: map[string]string{oldZone: "west", newZone: "west"}, want: map[string]string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			instance := machine(id1, "w")
			if tt.instance != nil {
				tt.instance(instance)
			}
			node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Labels: labelled("w", tt.labels)}}
			got := map[string]string{}
			for key, value := range changes(node, instance, tt.topology) {
				if value == nil {
					got[key] = "taken away"
				} else {
					got[key] = *value
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}
