// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"github.com/google/uuid"
)

type userJSON struct {
	ID           string `json:"id"`
	DisplayName  string `json:"display_name"`
	SiloID       string `json:"silo_id"`
	TimeCreated  string `json:"time_created"`
	TimeModified string `json:"time_modified"`
}

type accessTokenJSON struct {
	ID          string  `json:"id"`
	TimeCreated string  `json:"time_created"`
	TimeExpires *string `json:"time_expires"`
}

type authSettingsJSON struct {
	SiloID string  `json:"silo_id"`
	MaxTTL *uint32 `json:"device_token_max_ttl_seconds"`
}

func (u *user) json() userJSON {
	return userJSON{
		ID: u.id.String(), DisplayName: u.name, SiloID: u.parent.String(),
		TimeCreated: stamp(u.created), TimeModified: stamp(u.modified),
	}
}

func (t *token) json() accessTokenJSON {
	return accessTokenJSON{t.id.String(), stamp(t.created), optStamp(t.expires)}
}

func (s *Simulator) userList(c *call) (any, error) {
	if err := c.beginScan(idSorts); err != nil {
		return nil, err
	}
	if r, err := c.queryRef("group"); err != nil {
		return nil, err
	} else if r != nil {
		return nil, refNotFound("silo-group", *r)
	}
	return pageOf(c, s.db.users.in(c.user.parent), (*user).json), nil
}

func (s *Simulator) userView(c *call) (any, error) {
	id, err := c.pathID("user_id")
	if err != nil {
		return nil, err
	}
	u, ok := s.db.users.rows[id]
	if !ok || u.parent != c.user.parent {
		return nil, notFoundByID(s.db.users.kind, id)
	}
	return u.json(), nil
}

// noGroups lists the groups of a silo, of which there are none.
func (s *Simulator) noGroups(c *call) (any, error) {
	if err := c.beginScan(idSorts); err != nil {
		return nil, err
	}
	return wholePage[userJSON](nil), nil
}

func (s *Simulator) groupView(c *call) (any, error) {
	id, err := c.pathID("group_id")
	if err != nil {
		return nil, err
	}
	return nil, notFoundByID("silo-group", id)
}

// accessTokenList lists all tokens of the user; nothing tells which one is in use.
func (s *Simulator) accessTokenList(c *call) (any, error) {
	if err := c.beginScan(idSorts); err != nil {
		return nil, err
	}
	var own []*token
	for _, t := range s.db.tokens {
		if t.user == c.user {
			own = append(own, t)
		}
	}
	return pageBy(c, own, func(t *token) string { return t.id.String() }, (*token).json), nil
}

func (s *Simulator) accessTokenDelete(c *call) (any, error) {
	id, err := c.pathID("token_id")
	if err != nil {
		return nil, err
	}
	for secret, t := range s.db.tokens {
		if t.id == id && t.user == c.user {
			delete(s.db.tokens, secret)
			return nil, nil
		}
	}
	return nil, notFoundByID("device-access-token", id)
}

func (s *Simulator) authSettingsView(c *call) (any, error) {
	sl := s.db.silos.rows[c.user.parent]
	return authSettingsJSON{sl.id.String(), sl.tokenMaxTTL}, nil
}

func (s *Simulator) authSettingsUpdate(c *call) (any, error) {
	f := c.fields()
	f.must("device_token_max_ttl_seconds", true)
	ttl := opt[uint32](f, "device_token_max_ttl_seconds", "a u32")
	if f.done() == nil && ttl != nil && *ttl == 0 {
		f.wrong("device_token_max_ttl_seconds", "a positive u32")
	}
	if err := f.done(); err != nil {
		return nil, err
	}
	if err := c.requireSilo(roleAdmin); err != nil {
		return nil, err
	}
	sl := s.db.silos.rows[c.user.parent]
	sl.tokenMaxTTL = ttl
	return authSettingsJSON{sl.id.String(), sl.tokenMaxTTL}, nil
}

// systemUserList lists the users of one silo, for an operator.
func (s *Simulator) systemUserList(c *call) (any, error) {
	if err := c.beginScan(idSorts); err != nil {
		return nil, err
	}
	sl, err := s.siloFromQuery(c)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.users.in(sl.id), (*user).json), nil
}

func (s *Simulator) systemUserView(c *call) (any, error) {
	id, err := c.pathID("user_id")
	if err != nil {
		return nil, err
	}
	sl, err := s.siloFromQuery(c)
	if err != nil {
		return nil, err
	}
	u, ok := s.db.users.rows[id]
	if !ok || u.parent != sl.id {
		return nil, notFoundByID(s.db.users.kind, id)
	}
	return u.json(), nil
}

func (s *Simulator) siloFromQuery(c *call) (*silo, error) {
	r, err := c.mustQueryRef("silo")
	if err != nil {
		return nil, err
	}
	sl, err := s.visibleSilo(c, r)
	if err != nil {
		return nil, err
	}
	return sl, c.requireFleet(roleViewer)
}

// localUserCreate adds a user to a silo; there is no password to log in with, only tokens
// that a story gives.
func (s *Simulator) localUserCreate(c *call) (any, error) {
	f := c.fields()
	name, password := f.name("external_id"), f.object("password")
	if password.enum("mode", "password", "login_disallowed") == "password" {
		password.str("value")
	}
	if err := f.done(); err != nil {
		return nil, err
	}
	sl, err := s.siloFromQuery(c)
	if err == nil {
		err = c.requireFleet(roleAdmin)
	}
	if err != nil {
		return nil, err
	}
	u := &user{meta: s.newMeta(uuid.Nil, sl.id, name, "")}
	if err := s.db.users.insert(u); err != nil {
		return nil, err
	}
	return u.json(), nil
}

func (s *Simulator) localUserDelete(c *call) (any, error) {
	id, err := c.pathID("user_id")
	if err != nil {
		return nil, err
	}
	sl, err := s.siloFromQuery(c)
	if err == nil {
		err = c.requireFleet(roleAdmin)
	}
	if err != nil {
		return nil, err
	}
	u, ok := s.db.users.rows[id]
	if !ok || u.parent != sl.id {
		return nil, notFoundByID(s.db.users.kind, id)
	}
	for secret, t := range s.db.tokens {
		if t.user == u {
			delete(s.db.tokens, secret)
		}
	}
	s.db.users.remove(u)
	return nil, nil
}
