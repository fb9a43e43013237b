// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/google/uuid"
)

// The methods of this file play what happens to a rack. Instances, floating IPs, pools and
// users are given by id, or by name, as in name, project/name or silo/project/name; sleds by
// id, by serial number, by position from 0, or as instance:NAME for the sled that an instance
// runs on.

// AddInstance adds an instance to a project of the rack, at once in its state.
func (s *Simulator) AddInstance(project string, w InstanceSeed) (Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := pick(s, s.db.projects, project)
	if err != nil {
		return Instance{}, err
	}
	i, err := s.applyInstance(p, w)
	if err != nil {
		return Instance{}, seedError("instance", w.Name, err)
	}
	return s.inspectInstance(i), nil
}

// AddExternalSubnet adds an external subnet to a project of the rack.
func (s *Simulator) AddExternalSubnet(project string, w ExternalSubnetSeed) (ExternalSubnet, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := pick(s, s.db.projects, project)
	if err != nil {
		return ExternalSubnet{}, err
	}
	e, err := s.applyExternalSubnet(p, w)
	if err != nil {
		return ExternalSubnet{}, seedError("external subnet", w.Name, err)
	}
	return s.inspectExternalSubnet(e), nil
}

// AddFloatingIP adds a floating IP to a project of the rack.
func (s *Simulator) AddFloatingIP(project string, w FloatingIPSeed) (FloatingIP, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := pick(s, s.db.projects, project)
	if err != nil {
		return FloatingIP{}, err
	}
	f, err := s.applyFloatingIP(p, w)
	if err != nil {
		return FloatingIP{}, seedError("floating IP", w.Name, err)
	}
	return s.inspectFloatingIP(f), nil
}

// CrashVM ends an instance's VMM: running, stopping, failed; then perhaps started again.
func (s *Simulator) CrashVM(which string) error {
	return s.withInstance(which, func(i *instance) error {
		if i.vmm == nil || i.vmm.end != "" {
			return fmt.Errorf("instance %q has no VMM that could crash", which)
		}
		s.fail(i)
		return nil
	})
}

// SetRunState puts an instance into a run state, without any of the usual steps, and leaves
// it there until something is asked of it. Migrating and failed are reached so in tests.
// Destroyed is the moment of an ordinary stop in which the virtual machine has ended and is still
// linked: the instance is stopping, but for the lists after ShowDestroyed.
func (s *Simulator) SetRunState(which, state string) error {
	return s.withInstance(which, func(i *instance) error {
		st := runState(state)
		ended := st == destroyed
		if ended {
			st = stopping
		}
		switch st {
		case running, rebooting, migrating, starting, stopping:
			if i.vmm == nil {
				on, err := s.place(i)
				if err != nil {
					return err
				}
				i.vmm = newVMM(on)
			}
			i.vmm.end = ""
			s.enter(i, st)
			if ended {
				i.vmm.end = vmmDestroyed
			}
		case stopped, failed, creating:
			i.vmm = nil
			s.enter(i, st)
		default:
			return fmt.Errorf("run state %q: the API never shows it", state)
		}
		return nil
	})
}

// ShowDestroyed makes the lists of the rack say that an instance is destroyed between the end of its
// virtual machine and the end of its stop, as racks up to v20.2 do, or no longer. Reading one instance
// says stopping.
func (s *Simulator) ShowDestroyed(shown bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.showDestroyed = shown
}

// RemoveInstance makes an instance disappear as if it had been deleted, in whatever state.
func (s *Simulator) RemoveInstance(which string) error {
	return s.withInstance(which, func(i *instance) error {
		i.step++
		s.db.instances.remove(i)
		s.releaseAll(i)
		return nil
	})
}

func (s *Simulator) withInstance(which string, f func(*instance) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := pick(s, s.db.instances, which)
	if err != nil {
		return err
	}
	return f(i)
}

// PowerOffSled takes the power from a sled. The control plane notices after a while: the
// instances on it then fail, and may be started elsewhere.
func (s *Simulator) PowerOffSled(which string) error {
	return s.changeSled(which, sledPoweredOff)
}

// LoseSled makes a powered sled stop answering. Its instances stay running as far as the API
// tells; whatever must ask the sled hangs, and then fails.
func (s *Simulator) LoseSled(which string) error {
	return s.changeSled(which, sledUnreachable)
}

// ExpungeSled is an operator's word that a sled will not come back: its instances fail.
func (s *Simulator) ExpungeSled(which string) error {
	return s.changeSled(which, sledExpunged)
}

// RecoverSled makes a lost or powered-off sled answer again. An expunged one stays so.
func (s *Simulator) RecoverSled(which string) error {
	return s.changeSled(which, sledReachable)
}

func (s *Simulator) changeSled(which string, state sledState) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl, err := s.pickSled(which)
	if err != nil {
		return err
	}
	if sl.state == sledExpunged {
		return fmt.Errorf("sled %s is expunged", sl.serial)
	}
	wasOff := sl.state == sledPoweredOff
	sl.become(state)
	if wasOff && state == sledReachable { // its VMMs are gone, and it says so
		s.failAllOn(sl)
	}
	if state == sledPoweredOff || state == sledExpunged {
		s.clock.after(s.timings.Watcher, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if sl.state == state {
				s.failAllOn(sl)
			}
		})
	}
	return nil
}

func (s *Simulator) failAllOn(sl *sled) {
	for _, i := range s.db.instances.rows {
		if i.vmm != nil && i.vmm.sled == sl && i.state != stopping {
			s.fail(i)
		}
	}
}

func (s *Simulator) pickSled(which string) (*sled, error) {
	if n, err := strconv.Atoi(which); err == nil && n >= 0 && n < len(s.db.sleds) {
		return s.db.sleds[n], nil
	}
	const prefix = "instance:"
	if len(which) > len(prefix) && which[:len(prefix)] == prefix {
		i, err := pick(s, s.db.instances, which[len(prefix):])
		if err != nil {
			return nil, err
		}
		if i.vmm == nil {
			return nil, fmt.Errorf("instance %q runs on no sled", i.name)
		}
		return i.vmm.sled, nil
	}
	for _, sl := range s.db.sleds {
		if sl.serial == which || sl.id.String() == which {
			return sl, nil
		}
	}
	return nil, fmt.Errorf("no sled is %q", which)
}

// FillPool leaves no free address in an IP pool, until DrainPool.
func (s *Simulator) FillPool(which string) error {
	return setFilled(s, s.db.pools, which, func(p *ipPool) { p.filled = true })
}

// DrainPool undoes FillPool.
func (s *Simulator) DrainPool(which string) error {
	return setFilled(s, s.db.pools, which, func(p *ipPool) { p.filled = false })
}

// FillSubnetPool leaves no free network in a subnet pool, until DrainSubnetPool.
func (s *Simulator) FillSubnetPool(which string) error {
	return setFilled(s, s.db.subnetPools, which, func(p *subnetPool) { p.filled = true })
}

// DrainSubnetPool undoes FillSubnetPool.
func (s *Simulator) DrainSubnetPool(which string) error {
	return setFilled(s, s.db.subnetPools, which, func(p *subnetPool) { p.filled = false })
}

func setFilled[T row](s *Simulator, pools *table[T], which string, set func(T)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := pick(s, pools, which)
	if err == nil {
		set(p)
	}
	return err
}

// AddToken gives a user one more token; an empty secret lets the rack choose. It answers
// with the secret.
func (s *Simulator) AddToken(user, secret string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := pick(s, s.db.users, user)
	if err != nil {
		return "", err
	}
	if secret == "" {
		secret = "oxide-token-" + hexID() + hexID()[:8]
	}
	s.db.tokens[secret] = &token{id: uuid.New(), user: u, created: s.clock.now()}
	return secret, nil
}

func hexID() string {
	id := uuid.New()
	return hex.EncodeToString(id[:])
}

// RevokeToken makes a token worthless and says whether it was known.
func (s *Simulator) RevokeToken(secret string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.db.tokens[secret]
	delete(s.db.tokens, secret)
	return known
}

// SetProjectRole gives a user a role on a project, or takes it away ("none"). A role on the
// silo still counts.
func (s *Simulator) SetProjectRole(project, user, name string) error {
	r, err := parseRole(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := pick(s, s.db.projects, project)
	if err != nil {
		return err
	}
	u, err := pick(s, s.db.users, user)
	if err == nil {
		p.roles[u.id] = r
	}
	return err
}

// SetSiloRole gives a user a role on the user's silo, or takes it away ("none").
func (s *Simulator) SetSiloRole(user, name string) error {
	r, err := parseRole(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := pick(s, s.db.users, user)
	if err == nil {
		s.db.silos.rows[u.parent].roles[u.id] = r
	}
	return err
}

// SetAttachState puts a floating IP into a hidden state, with an instance unless detached,
// and leaves it there: as after a crash whose recovery never comes.
func (s *Simulator) SetAttachState(floatingIP, state, on string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := pick(s, s.db.floatingIPs, floatingIP)
	if err != nil {
		return err
	}
	return s.setAttachState(f, attachState(state), on)
}

// SetSubnetAttachState is SetAttachState for an external subnet.
func (s *Simulator) SetSubnetAttachState(externalSubnet, state, on string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := pick(s, s.db.externalSubnets, externalSubnet)
	if err != nil {
		return err
	}
	return s.setAttachState(e, attachState(state), on)
}

func (s *Simulator) setAttachState(a attachable, state attachState, on string) error {
	switch state {
	case detached:
		a.becomes(detached, s.clock.now())
	case attaching, attached, detaching:
		i, err := pick(s, s.db.instances, on)
		if err != nil {
			return err
		}
		a.held().instance = i.id
		a.becomes(state, s.clock.now())
	default:
		return fmt.Errorf("attach state %q: must be detached, attaching, attached or detaching",
			state)
	}
	return nil
}
