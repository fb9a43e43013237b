// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"time"

	"github.com/google/uuid"
)

// runState is the state of an instance as the API shows it.
type runState string

const (
	creating  runState = "creating"
	starting  runState = "starting"
	running   runState = "running"
	rebooting runState = "rebooting"
	stopping  runState = "stopping"
	stopped   runState = "stopped"
	migrating runState = "migrating"
	failed    runState = "failed"
	destroyed runState = "destroyed" // in lists only, and only of some racks
)

const (
	policyNever      = "never"
	policyBestEffort = "best_effort"
)

// instance is a virtual machine of a project, its parent.
type instance struct {
	meta
	hostname      string
	ncpus         uint16
	memory        uint64
	bootDisk      uuid.UUID
	cpuPlatform   *string
	jumboFrames   bool
	restartPolicy *string

	state           runState
	stateUpdated    time.Time
	lastAutoRestart *time.Time
	wantRunning     bool // the last user request wanted it to run
	unwound         bool // failed only in that a start was undone
	vmm             *vmm // nil when no virtual machine exists
	step            int  // counts state changes, so that late timers do nothing

	snat      *externalAddr // nil without an IPv4 stack
	ephemeral []*ephemeralIP
	sshKeys   []uuid.UUID
	madeDisks []*disk // made along with it
}

type instanceJSON struct {
	identity
	ProjectID       string  `json:"project_id"`
	Hostname        string  `json:"hostname"`
	NCPUs           uint16  `json:"ncpus"`
	Memory          uint64  `json:"memory"`
	BootDiskID      *string `json:"boot_disk_id"`
	CPUPlatform     *string `json:"cpu_platform"`
	RunState        string  `json:"run_state"`
	StateUpdated    string  `json:"time_run_state_updated"`
	LastAutoRestart *string `json:"time_last_auto_restarted"`
	RestartEnabled  bool    `json:"auto_restart_enabled"`
	RestartPolicy   *string `json:"auto_restart_policy"`
	CooldownEnds    *string `json:"auto_restart_cooldown_expiration"`
	JumboFrames     bool    `json:"enable_jumbo_frames"`
}

func (s *Simulator) instanceJSON(i *instance) instanceJSON {
	out := instanceJSON{
		identity: i.identity(), ProjectID: i.project.String(), Hostname: i.hostname,
		NCPUs: i.ncpus, Memory: i.memory, BootDiskID: optID(i.bootDisk),
		CPUPlatform: i.cpuPlatform, RunState: string(i.state),
		StateUpdated: stamp(i.stateUpdated), LastAutoRestart: optStamp(i.lastAutoRestart),
		RestartEnabled: i.restartEnabled(), RestartPolicy: i.restartPolicy,
		JumboFrames: i.jumboFrames,
	}
	if i.lastAutoRestart != nil {
		ends := i.lastAutoRestart.Add(s.clock.scaled(s.timings.Cooldown))
		out.CooldownEnds = optStamp(&ends)
	}
	return out
}

// listedState is the state of an instance where instances are listed. Racks up to v20.2 say there
// that an instance is destroyed while its virtual machine has ended and is still linked to it.
func (s *Simulator) listedState(i *instance) string {
	if s.showDestroyed && i.state == stopping && i.vmm.end == vmmDestroyed {
		return string(destroyed)
	}
	return string(i.state)
}

func (s *Simulator) listedInstanceJSON(i *instance) instanceJSON {
	out := s.instanceJSON(i)
	out.RunState = s.listedState(i)
	return out
}

// restartEnabled: no policy means best effort.
func (i *instance) restartEnabled() bool {
	return i.restartPolicy == nil || *i.restartPolicy != policyNever
}

func (s *Simulator) instanceList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.instances.in(p.id), s.listedInstanceJSON), nil
}

func (s *Simulator) instanceView(c *call) (any, error) {
	i, err := findInProject(c, s.db.instances, "instance", roleViewer)
	if err != nil {
		return nil, err
	}
	return s.instanceJSON(i), nil
}

// instanceDelete removes a stopped or failed instance. Its addresses are let go a moment
// after it is gone itself; until then a floating IP names an instance that nobody finds.
func (s *Simulator) instanceDelete(c *call) (any, error) {
	s.mu.Lock()
	i, err := findInProject(c, s.db.instances, "instance", roleLimited)
	if err == nil {
		i.wantRunning = false
		if i.state != stopped && i.state != failed {
			err = invalidRequest("instance cannot be deleted in state %q", i.state)
		}
	}
	if err == nil {
		i.step++
		s.db.instances.remove(i)
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	cut := s.work(s.timings.Delete, s.nexus.current())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseAll(i)
	return nil, cut
}

// releaseAll gives back what an instance held: NICs and shared and ephemeral addresses go,
// what has a life of its own is detached.
func (s *Simulator) releaseAll(i *instance) {
	for _, n := range s.db.nics.in(i.id) {
		s.removeNIC(n)
	}
	if i.snat != nil {
		i.snat.pool.releaseSNAT(*i.snat)
		i.snat = nil
	}
	for _, e := range i.ephemeral {
		e.becomes(detached, s.clock.now())
	}
	for _, f := range s.db.floatingIPs.rows {
		if f.instance == i.id {
			f.becomes(detached, s.clock.now())
		}
	}
	for _, e := range s.externalSubnetsOf(i) {
		e.becomes(detached, s.clock.now())
	}
	for _, d := range s.disksOf(i) {
		d.unplug()
	}
	for _, t := range []*table[*group]{s.db.groups, s.db.affinityGroups} {
		for _, g := range t.in(i.project) {
			delete(g.members, i.id)
		}
	}
}
