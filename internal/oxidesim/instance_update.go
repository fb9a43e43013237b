// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import "github.com/google/uuid"

// instanceUpdate replaces everything that can change: its fields may be null, but none may
// be left out. The size and the boot disk can change only while there is no VMM.
func (s *Simulator) instanceUpdate(c *call) (any, error) {
	f := c.fields()
	ncpus, memory := f.uint16("ncpus"), f.bytes("memory")
	jumbo := f.boolean("enable_jumbo_frames")
	for _, nullable := range []string{"boot_disk", "cpu_platform", "auto_restart_policy"} {
		f.must(nullable, true)
	}
	policy := f.optEnum("auto_restart_policy", policyNever, policyBestEffort)
	platform := f.optEnum("cpu_platform", cpuPlatforms...)
	boot := f.optRef("boot_disk")
	if err := f.done(); err != nil {
		return nil, err
	}
	i, err := findInProject(c, s.db.instances, "instance", roleLimited)
	if err != nil {
		return nil, err
	}
	wanted := instanceParams{ncpus: ncpus, memory: memory, jumboFrames: jumbo}
	if err := s.checkInstance(wanted); err != nil {
		return nil, err
	}
	var bootDisk uuid.UUID
	if boot != nil {
		d, err := findDisk(s, i.project, *boot)
		if err != nil {
			return nil, err
		}
		if d.instance != i.id {
			return nil, conflict("boot disk must be attached to the instance")
		}
		bootDisk = d.id
	}
	same := ncpus == i.ncpus && memory == i.memory && bootDisk == i.bootDisk &&
		orDefault(deref(platform), "any") == orDefault(deref(i.cpuPlatform), "any")
	if i.state != stopped && i.state != failed && !same {
		return nil, conflict("instance must be stopped to change its size, platform or boot disk")
	}
	i.ncpus, i.memory, i.bootDisk, i.cpuPlatform = ncpus, memory, bootDisk, platform
	i.restartPolicy, i.jumboFrames = policy, jumbo
	i.modified = s.clock.now()
	if i.state == failed && i.wantRunning && i.restartEnabled() {
		i.step++ // whatever was planned is planned anew
		s.scheduleRestart(i)
	}
	return s.instanceJSON(i), nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
