// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"time"

	"github.com/google/uuid"
)

// silo is a tenant. Its name is unique on the rack (parent uuid.Nil).
type silo struct {
	meta
	siloDetails
	roles       map[uuid.UUID]role
	tokenMaxTTL *uint32
}

// user is a person (or what passes for one) in a silo, its parent; name is the display name.
type user struct {
	meta
	fleet role
}

type currentUserJSON struct {
	ID           string `json:"id"`
	DisplayName  string `json:"display_name"`
	SiloID       string `json:"silo_id"`
	SiloName     string `json:"silo_name"`
	FleetViewer  bool   `json:"fleet_viewer"`
	SiloAdmin    bool   `json:"silo_admin"`
	TimeCreated  string `json:"time_created"`
	TimeModified string `json:"time_modified"`
}

// identity is the head that most JSON objects share.
type identity struct {
	ID           string `json:"id"`
	Name         string `json:"name"`
	Description  string `json:"description"`
	TimeCreated  string `json:"time_created"`
	TimeModified string `json:"time_modified"`
}

func (m *meta) identity() identity {
	return identity{
		ID: m.id.String(), Name: m.name, Description: m.description,
		TimeCreated: stamp(m.created), TimeModified: stamp(m.modified),
	}
}

// stamp writes a time as the rack does: RFC 3339 in UTC with microseconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func optStamp(t *time.Time) *string {
	if t == nil {
		return nil
	}
	s := stamp(*t)
	return &s
}

func optID(id uuid.UUID) *string {
	if id == uuid.Nil {
		return nil
	}
	s := id.String()
	return &s
}

func (s *Simulator) ping(*call) (any, error) {
	return struct {
		Status string `json:"status"`
	}{"ok"}, nil
}

func (s *Simulator) currentUserView(c *call) (any, error) {
	silo := s.db.silos.rows[c.user.parent]
	return currentUserJSON{
		ID: c.user.id.String(), DisplayName: c.user.name,
		SiloID: silo.id.String(), SiloName: silo.name,
		FleetViewer: c.user.fleet >= roleViewer, SiloAdmin: c.siloRole() == roleAdmin,
		TimeCreated: stamp(c.user.created), TimeModified: stamp(c.user.modified),
	}, nil
}
