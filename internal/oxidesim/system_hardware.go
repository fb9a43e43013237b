// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"github.com/google/uuid"
)

// This file is the operator's view of the hardware, and of what silos use of it.

const (
	sledThreads = 128
	sledMemory  = 1 << 40
)

type rackJSON struct {
	ID           string `json:"id"`
	TimeCreated  string `json:"time_created"`
	TimeModified string `json:"time_modified"`
}

type baseboardJSON struct {
	Serial   string `json:"serial"`
	Part     string `json:"part"`
	Revision uint32 `json:"revision"`
}

type sledPolicyJSON struct {
	Kind            string `json:"kind"`
	ProvisionPolicy string `json:"provision_policy,omitempty"`
}

type sledJSON struct {
	rackJSON
	Baseboard     baseboardJSON  `json:"baseboard"`
	RackID        string         `json:"rack_id"`
	Policy        sledPolicyJSON `json:"policy"`
	State         string         `json:"state"`
	UsableThreads uint32         `json:"usable_hardware_threads"`
	UsableMemory  uint64         `json:"usable_physical_ram"`
}

type sledInstanceJSON struct {
	rackJSON
	ActiveSledID string  `json:"active_sled_id"`
	MigrationID  *string `json:"migration_id"`
	Name         string  `json:"name"`
	SiloName     string  `json:"silo_name"`
	ProjectName  string  `json:"project_name"`
	State        string  `json:"state"`
	NCPUs        int64   `json:"ncpus"`
	Memory       int64   `json:"memory"`
}

type resourcesJSON struct {
	CPUs    int64  `json:"cpus"`
	Memory  uint64 `json:"memory"`
	Storage uint64 `json:"storage"`
}

type siloUseJSON struct {
	Provisioned resourcesJSON `json:"provisioned"`
	Capacity    resourcesJSON `json:"capacity"`
}

func (s *Simulator) rackJSON(id uuid.UUID) rackJSON {
	return rackJSON{id.String(), stamp(s.born), stamp(s.born)}
}

func (s *Simulator) sledJSON(sl *sled) sledJSON {
	out := sledJSON{
		rackJSON: s.rackJSON(sl.id), Baseboard: baseboardJSON{sl.serial, sl.model, 6},
		RackID: s.rackID.String(), Policy: sledPolicyJSON{"in_service", "provisionable"},
		State: "active", UsableThreads: sledThreads, UsableMemory: sledMemory,
	}
	if sl.state == sledExpunged {
		out.Policy, out.State = sledPolicyJSON{Kind: "expunged"}, "decommissioned"
	}
	return out
}

func (s *Simulator) rackList(c *call) (any, error) {
	if err := c.beginScan(idSorts); err != nil {
		return nil, err
	}
	if err := c.requireFleet(roleViewer); err != nil {
		return nil, err
	}
	return pageBy(c, []uuid.UUID{s.rackID}, uuid.UUID.String, s.rackJSON), nil
}

func (s *Simulator) rackView(c *call) (any, error) {
	id, err := c.pathID("rack_id")
	if err == nil && (id != s.rackID || c.user.fleet == roleNone) {
		err = notFoundByID("rack", id)
	}
	if err != nil {
		return nil, err
	}
	return s.rackJSON(id), nil
}

func (s *Simulator) sledList(c *call) (any, error) {
	if err := c.beginScan(idSorts); err != nil {
		return nil, err
	}
	if err := c.requireFleet(roleViewer); err != nil {
		return nil, err
	}
	sleds := append([]*sled{}, s.db.sleds...)
	return pageBy(c, sleds, func(sl *sled) string { return sl.id.String() }, s.sledJSON), nil
}

func (s *Simulator) sledFromPath(c *call) (*sled, error) {
	id, err := c.pathID("sled_id")
	if err != nil {
		return nil, err
	}
	for _, sl := range s.db.sleds {
		if sl.id == id && c.user.fleet != roleNone {
			return sl, nil
		}
	}
	return nil, notFoundByID("sled", id)
}

func (s *Simulator) sledView(c *call) (any, error) {
	sl, err := s.sledFromPath(c)
	if err != nil {
		return nil, err
	}
	return s.sledJSON(sl), nil
}

func (s *Simulator) sledInstances(c *call) (any, error) {
	if err := c.beginScan(idSorts); err != nil {
		return nil, err
	}
	sl, err := s.sledFromPath(c)
	if err != nil {
		return nil, err
	}
	var on []*instance
	for _, i := range s.db.instances.rows {
		if i.vmm != nil && i.vmm.sled == sl {
			on = append(on, i)
		}
	}
	return pageOf(c, on, func(i *instance) sledInstanceJSON {
		siloName, projectName := s.places(i.project)
		return sledInstanceJSON{
			rackJSON:     rackJSON{i.vmm.id.String(), stamp(i.created), stamp(i.modified)},
			ActiveSledID: sl.id.String(), Name: i.name, SiloName: siloName,
			ProjectName: projectName, State: s.listedState(i), NCPUs: int64(i.ncpus),
			Memory: int64(i.memory),
		}
	}), nil
}

// siloUse adds up what a silo's running instances and its disks take.
func (s *Simulator) siloUse(c *call) (any, error) {
	sl := s.db.silos.rows[c.user.parent]
	var out siloUseJSON
	out.Capacity = resourcesJSON{sl.quotas.CPUs, sl.quotas.Memory, sl.quotas.Storage}
	for _, p := range s.db.projects.in(sl.id) {
		for _, i := range s.db.instances.in(p.id) {
			if i.vmm != nil {
				out.Provisioned.CPUs += int64(i.ncpus)
				out.Provisioned.Memory += i.memory
			}
		}
		for _, d := range s.db.disks.in(p.id) {
			out.Provisioned.Storage += d.size
		}
	}
	return out, nil
}
