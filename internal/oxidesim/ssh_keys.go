// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"slices"

	"github.com/google/uuid"
)

// sshKey is a public key of a user, its parent.
type sshKey struct {
	meta
	publicKey string
}

type sshKeyJSON struct {
	identity
	UserID    string `json:"silo_user_id"`
	PublicKey string `json:"public_key"`
}

func (k *sshKey) json() sshKeyJSON {
	return sshKeyJSON{k.identity(), k.parent.String(), k.publicKey}
}

func (s *Simulator) sshKeyList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	return pageOf(c, s.db.sshKeys.in(c.user.id), (*sshKey).json), nil
}

func (s *Simulator) sshKeyCreate(c *call) (any, error) {
	f := c.fields()
	name, description, key := f.name("name"), f.str("description"), f.str("public_key")
	if err := f.done(); err != nil {
		return nil, err
	}
	k := &sshKey{meta: s.newMeta(uuid.Nil, c.user.id, name, description), publicKey: key}
	if err := s.db.sshKeys.insert(k); err != nil {
		return nil, err
	}
	return k.json(), nil
}

func (s *Simulator) findKey(u *user, r ref) (*sshKey, error) {
	if !r.isID() {
		return s.db.sshKeys.named(u.id, r.name)
	}
	k, ok := s.db.sshKeys.rows[r.id]
	if !ok || k.parent != u.id {
		return nil, notFoundByID(s.db.sshKeys.kind, r.id)
	}
	return k, nil
}

func (s *Simulator) sshKeyFromPath(c *call) (*sshKey, error) {
	r, err := c.pathRef("ssh_key")
	if err != nil {
		return nil, err
	}
	return s.findKey(c.user, r)
}

func (s *Simulator) sshKeyView(c *call) (any, error) {
	k, err := s.sshKeyFromPath(c)
	if err != nil {
		return nil, err
	}
	return k.json(), nil
}

func (s *Simulator) sshKeyDelete(c *call) (any, error) {
	k, err := s.sshKeyFromPath(c)
	if err != nil {
		return nil, err
	}
	s.db.sshKeys.remove(k)
	return nil, nil
}

// giveKeys remembers which keys an instance was made with: those asked for, or all that the
// user has if nothing was said.
func (s *Simulator) giveKeys(i *instance, by *user, wanted *[]ref) error {
	if by == nil {
		return nil
	}
	if wanted == nil {
		for _, k := range s.db.sshKeys.in(by.id) {
			i.sshKeys = append(i.sshKeys, k.id)
		}
		return nil
	}
	for _, r := range *wanted {
		k, err := s.findKey(by, r)
		if err != nil {
			return err
		}
		i.sshKeys = append(i.sshKeys, k.id)
	}
	return nil
}

func (s *Simulator) instanceSSHKeys(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	i, err := findInProject(c, s.db.instances, "instance", roleViewer)
	if err != nil {
		return nil, err
	}
	keys := s.db.sshKeys.all()
	keys = slices.DeleteFunc(keys, func(k *sshKey) bool { return !slices.Contains(i.sshKeys, k.id) })
	return pageOf(c, keys, (*sshKey).json), nil
}
