// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"github.com/google/uuid"
)

const (
	maxDisks    = 12
	maxDiskSize = 1023 * gibibyte

	diskCreating      = "creating"
	diskDetached      = "detached"
	diskAttached      = "attached"
	diskImportReady   = "import_ready"
	diskImportWriting = "importing_from_bulk_writes"
)

// disk is a block device of a project, its parent.
type disk struct {
	meta
	size      uint64
	blockSize uint32
	kind      string // distributed or local
	state     string
	instance  uuid.UUID
	image     uuid.UUID
	snapshot  uuid.UUID
	readOnly  bool
}

type diskStateJSON struct {
	State    string  `json:"state"`
	Instance *string `json:"instance,omitempty"`
}

type diskJSON struct {
	identity
	ProjectID  string        `json:"project_id"`
	SnapshotID *string       `json:"snapshot_id"`
	ImageID    *string       `json:"image_id"`
	Size       uint64        `json:"size"`
	BlockSize  uint32        `json:"block_size"`
	State      diskStateJSON `json:"state"`
	DevicePath string        `json:"device_path"`
	DiskType   string        `json:"disk_type"`
	ReadOnly   bool          `json:"read_only"`
}

func (d *disk) json() diskJSON {
	return diskJSON{
		identity: d.identity(), ProjectID: d.project.String(), SnapshotID: optID(d.snapshot),
		ImageID: optID(d.image), Size: d.size, BlockSize: d.blockSize,
		State:      diskStateJSON{State: d.state, Instance: optID(d.instance)},
		DevicePath: "/mnt/" + d.name, DiskType: d.kind, ReadOnly: d.readOnly,
	}
}

// diskParams is a wanted disk: a local one, or one with a source.
type diskParams struct {
	name, description string
	size              uint64
	local             bool
	source            string // blank, importing_blocks, snapshot or image
	from              uuid.UUID
	blockSize         uint32
	readOnly          bool
}

// diskAttachment is a disk that a new instance shall have: an existing one, or a new one.
type diskAttachment struct {
	existing string
	create   diskParams
}

func readDisk(f *fields) diskParams {
	d := diskParams{
		name: f.name("name"), description: f.str("description"), size: f.bytes("size"),
		blockSize: 512,
	}
	o := f.object("disk_backend")
	if o.enum("type", "local", "distributed") == "local" {
		d.local, d.blockSize = true, 4096
		return d
	}
	src := o.object("disk_source")
	d.source = src.enum("type", "blank", "snapshot", "image", "importing_blocks")
	switch d.source {
	case "snapshot":
		d.from, d.readOnly = src.id("snapshot_id"), src.boolOr("read_only", false)
	case "image":
		d.from, d.readOnly = src.id("image_id"), src.boolOr("read_only", false)
	default:
		d.blockSize = need[uint32](src, "block_size", "512, 2048 or 4096")
		if f.done() == nil && d.blockSize != 512 && d.blockSize != 2048 && d.blockSize != 4096 {
			src.wrong("block_size", "512, 2048 or 4096")
		}
	}
	return d
}

func readDiskAttachment(f *fields) diskAttachment {
	if f.enum("type", "create", "attach") == "attach" {
		return diskAttachment{existing: f.name("name")}
	}
	return diskAttachment{create: readDisk(f)}
}

func (s *Simulator) newDisk(p *project, w diskParams) (*disk, error) {
	d := &disk{
		meta: s.newMeta(p.id, p.id, w.name, w.description), size: w.size,
		blockSize: w.blockSize, kind: "distributed", state: diskDetached, readOnly: w.readOnly,
	}
	if w.local {
		d.kind = "local"
	}
	var least uint64
	switch w.source {
	case "image":
		img, ok := s.db.images.rows[w.from]
		if !ok || img.parent != p.id && img.parent != p.parent {
			return nil, notFoundByID("image", w.from)
		}
		d.image, d.blockSize, least = img.id, img.blockSize, img.size
	case "snapshot":
		snap, ok := s.db.snapshots.rows[w.from]
		if !ok || snap.project != p.id {
			return nil, notFoundByID("snapshot", w.from)
		}
		d.snapshot, d.blockSize, least = snap.id, snap.blockSize, snap.size
	case "importing_blocks":
		d.state = diskImportReady
	}
	switch {
	case w.size < gibibyte || w.size%gibibyte != 0:
		return nil, invalidValue("size", "disk size must be a multiple of 1 GiB, at least 1 GiB")
	case w.size > maxDiskSize && !w.local:
		return nil, invalidValue("size", "disk size must be at most 1023 GiB")
	case w.size < least:
		return nil, invalidRequest("disk size %d must be greater than or equal to %d", w.size, least)
	}
	return d, s.db.disks.insert(d)
}

func findDisk(s *Simulator, project uuid.UUID, r ref) (*disk, error) {
	if !r.isID() {
		return s.db.disks.named(project, r.name)
	}
	d, ok := s.db.disks.rows[r.id]
	if !ok || d.project != project {
		return nil, notFoundByID("disk", r.id)
	}
	return d, nil
}

// plug attaches a disk; the state of the instance is the caller's to check.
func (s *Simulator) plug(i *instance, d *disk) error {
	if d.state != diskDetached {
		return invalidRequest("cannot attach disk %q: disk is in state %q", d.name, d.state)
	}
	if len(s.disksOf(i)) >= maxDisks {
		return invalidRequest("instance already has %d disks attached", maxDisks)
	}
	d.state, d.instance = diskAttached, i.id
	return nil
}

func (d *disk) unplug() { d.state, d.instance = diskDetached, uuid.Nil }

func (s *Simulator) disksOf(i *instance) []*disk {
	var out []*disk
	for _, d := range s.db.disks.in(i.project) {
		if d.instance == i.id {
			out = append(out, d)
		}
	}
	return out
}

func (s *Simulator) diskList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.disks.in(p.id), (*disk).json), nil
}

func (s *Simulator) diskView(c *call) (any, error) {
	d, err := findInProject(c, s.db.disks, "disk", roleViewer)
	if err != nil {
		return nil, err
	}
	return d.json(), nil
}

// diskCreate answers with the state in which the disk was made, not the one it is in by then.
func (s *Simulator) diskCreate(c *call) (any, error) {
	f := c.fields()
	params := readDisk(f)
	if err := f.done(); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleLimited)
	if err != nil {
		return nil, err
	}
	d, err := s.newDisk(p, params)
	if err != nil {
		return nil, err
	}
	out := d.json()
	out.State.State = diskCreating
	return out, nil
}

func (s *Simulator) diskDelete(c *call) (any, error) {
	d, err := findInProject(c, s.db.disks, "disk", roleLimited)
	if err != nil {
		return nil, err
	}
	if d.state == diskAttached || d.state == diskImportWriting {
		return nil, invalidRequest("disk cannot be deleted in state %q", d.state)
	}
	s.db.disks.remove(d)
	return nil, nil
}

func (s *Simulator) instanceDisks(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	i, err := findInProject(c, s.db.instances, "instance", roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.disksOf(i), (*disk).json), nil
}

// diskOfInstance resolves the instance of the path and the disk of the body.
func (s *Simulator) diskOfInstance(c *call) (*instance, *disk, error) {
	f := c.fields()
	r := f.ref("disk")
	if err := f.done(); err != nil {
		return nil, nil, err
	}
	i, err := findInProject(c, s.db.instances, "instance", roleLimited)
	if err != nil {
		return nil, nil, err
	}
	d, err := findDisk(s, i.project, r)
	return i, d, err
}

func (s *Simulator) diskAttach(c *call) (any, error) {
	i, d, err := s.diskOfInstance(c)
	if err != nil {
		return nil, err
	}
	if d.instance == i.id {
		return d.json(), nil
	}
	if i.state != stopped {
		return nil, invalidRequest("cannot attach disk to instance in %q state", i.state)
	}
	if err := s.plug(i, d); err != nil {
		return nil, err
	}
	return d.json(), nil
}

func (s *Simulator) diskDetach(c *call) (any, error) {
	i, d, err := s.diskOfInstance(c)
	switch {
	case err != nil:
		return nil, err
	case d.state == diskDetached: // idempotent
		return d.json(), nil
	case d.instance != i.id:
		return nil, invalidRequest("disk is not attached to the instance")
	case i.bootDisk == d.id:
		return nil, conflict("boot disk cannot be detached")
	case i.state != stopped && i.state != failed:
		return nil, invalidRequest("cannot detach disk from instance in %q state", i.state)
	}
	d.unplug()
	return d.json(), nil
}
