// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"github.com/google/uuid"
)

// image is what disks are made from. Its parent is a project, or the silo of a promoted one
// (then meta.project is uuid.Nil, and everybody in the silo sees it).
type image struct {
	meta
	os, version string
	size        uint64
	blockSize   uint32
}

type imageJSON struct {
	identity
	ProjectID *string `json:"project_id"`
	OS        string  `json:"os"`
	Version   string  `json:"version"`
	Digest    *string `json:"digest"`
	BlockSize uint32  `json:"block_size"`
	Size      uint64  `json:"size"`
}

// snapshot is a copy of a disk, in the same project, its parent.
type snapshot struct {
	meta
	disk      uuid.UUID
	size      uint64
	blockSize uint32
}

type snapshotJSON struct {
	identity
	ProjectID string `json:"project_id"`
	DiskID    string `json:"disk_id"`
	State     string `json:"state"`
	Size      uint64 `json:"size"`
}

func (i *image) json() imageJSON {
	return imageJSON{
		identity: i.identity(), ProjectID: optID(i.project), OS: i.os, Version: i.version,
		BlockSize: i.blockSize, Size: i.size,
	}
}

func (s *snapshot) json() snapshotJSON {
	return snapshotJSON{s.identity(), s.project.String(), s.disk.String(), "ready", s.size}
}

// imageList lists those of a project, or without one those of the silo, which a role on a project
// alone does not show.
func (s *Simulator) imageList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	parent := c.user.parent
	if c.query.Has("project") {
		p, err := c.createIn(roleViewer)
		if err != nil {
			return nil, err
		}
		parent = p.id
	} else if err := c.requireSilo(roleViewer); err != nil {
		return nil, err
	}
	return pageOf(c, s.db.images.in(parent), (*image).json), nil
}

// imageFromPath resolves an image: by id; by name in the project of the query; or by name
// alone in the silo.
func (s *Simulator) imageFromPath(c *call, least role) (*image, error) {
	r, err := c.pathRef("image")
	if err != nil {
		return nil, err
	}
	i, err := find(c, s.db.images, r, inProject, func() (uuid.UUID, error) {
		if !c.query.Has("project") {
			return c.user.parent, nil
		}
		return c.projectFromQuery()
	})
	if err != nil {
		return nil, err
	}
	if i.project != uuid.Nil {
		return i, c.require(i.project, least)
	}
	if i.parent != c.user.parent || c.siloRole() == roleNone {
		return nil, refNotFound(s.db.images.kind, r)
	}
	if least > roleViewer {
		return i, c.requireSilo(roleCollaborator)
	}
	return i, nil
}

func (s *Simulator) imageView(c *call) (any, error) {
	i, err := s.imageFromPath(c, roleViewer)
	if err != nil {
		return nil, err
	}
	return i.json(), nil
}

// imageCreate makes an image from a snapshot, in the project of the query or in the silo.
func (s *Simulator) imageCreate(c *call) (any, error) {
	f := c.fields()
	i := &image{os: f.str("os"), version: f.str("version")}
	name, description := f.name("name"), f.str("description")
	src := f.object("source")
	src.enum("type", "snapshot")
	from := src.id("id")
	if err := f.done(); err != nil {
		return nil, err
	}
	if c.query.Has("project") {
		p, err := c.createIn(roleLimited)
		if err != nil {
			return nil, err
		}
		i.meta = s.newMeta(p.id, p.id, name, description)
	} else {
		if err := c.requireSilo(roleCollaborator); err != nil {
			return nil, err
		}
		i.meta = s.newMeta(uuid.Nil, c.user.parent, name, description)
	}
	snap, err := see(c, s.db.snapshots, from)
	if err != nil {
		return nil, err
	}
	i.size, i.blockSize = snap.size, snap.blockSize
	if err := s.db.images.insert(i); err != nil {
		return nil, err
	}
	return i.json(), nil
}

func (s *Simulator) imageDelete(c *call) (any, error) {
	i, err := s.imageFromPath(c, roleLimited)
	if err != nil {
		return nil, err
	}
	s.db.images.remove(i)
	return nil, nil
}

func (s *Simulator) imagePromote(c *call) (any, error) {
	i, err := s.imageFromPath(c, roleLimited)
	if err != nil {
		return nil, err
	}
	if i.project == uuid.Nil {
		return nil, invalidRequest("silo image is already promoted")
	}
	if err := c.requireSilo(roleCollaborator); err != nil {
		return nil, err
	}
	return s.moveImage(i, uuid.Nil, c.user.parent)
}

func (s *Simulator) imageDemote(c *call) (any, error) {
	p, err := c.createIn(roleLimited)
	if err != nil {
		return nil, err
	}
	r, err := c.pathRef("image")
	if err != nil {
		return nil, err
	}
	i, ok := s.db.images.rows[r.id]
	if !r.isID() {
		if i, err = s.db.images.named(c.user.parent, r.name); err != nil {
			return nil, err
		}
	} else if !ok || i.project != uuid.Nil || i.parent != c.user.parent {
		return nil, notFoundByID(s.db.images.kind, r.id)
	}
	if err := c.requireSilo(roleCollaborator); err != nil {
		return nil, err
	}
	return s.moveImage(i, p.id, p.id)
}

func (s *Simulator) moveImage(i *image, project, parent uuid.UUID) (any, error) {
	if err := s.db.images.checkNew(parent, i.name, i.description); err != nil {
		return nil, err
	}
	s.db.images.remove(i)
	i.project, i.parent, i.modified = project, parent, s.clock.now()
	if err := s.db.images.insert(i); err != nil {
		return nil, err
	}
	return i.json(), nil
}

func (s *Simulator) snapshotList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.snapshots.in(p.id), (*snapshot).json), nil
}

func (s *Simulator) snapshotView(c *call) (any, error) {
	n, err := findInProject(c, s.db.snapshots, "snapshot", roleViewer)
	if err != nil {
		return nil, err
	}
	return n.json(), nil
}

func (s *Simulator) snapshotCreate(c *call) (any, error) {
	f := c.fields()
	name, description, from := f.name("name"), f.str("description"), f.ref("disk")
	if err := f.done(); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleLimited)
	if err != nil {
		return nil, err
	}
	d, err := findDisk(s, p.id, from)
	if err != nil {
		return nil, err
	}
	if d.kind == "local" {
		return nil, invalidRequest("cannot take a snapshot of a local disk")
	}
	return s.newSnapshot(d, name, description)
}

func (s *Simulator) newSnapshot(d *disk, name, description string) (any, error) {
	n := &snapshot{
		meta: s.newMeta(d.project, d.project, name, description), disk: d.id, size: d.size,
		blockSize: d.blockSize,
	}
	if err := s.db.snapshots.insert(n); err != nil {
		return nil, err
	}
	return n.json(), nil
}

func (s *Simulator) snapshotDelete(c *call) (any, error) {
	n, err := findInProject(c, s.db.snapshots, "snapshot", roleLimited)
	if err != nil {
		return nil, err
	}
	s.db.snapshots.remove(n)
	return nil, nil
}
