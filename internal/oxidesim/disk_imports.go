// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"encoding/base64"
)

// This file is the import of a disk's content: made with source importing_blocks, the disk
// goes through bulk writes to its finalization, which may take a snapshot of it. The content
// itself is thrown away.

func (s *Simulator) importStep(c *call, from, to string) (*disk, error) {
	d, err := findInProject(c, s.db.disks, "disk", roleLimited)
	if err != nil {
		return nil, err
	}
	if d.state != from {
		return nil, invalidRequest("disk is in state %q, must be %q", d.state, from)
	}
	d.state = to
	return d, nil
}

func (s *Simulator) diskImportStart(c *call) (any, error) {
	_, err := s.importStep(c, diskImportReady, diskImportWriting)
	return nil, err
}

func (s *Simulator) diskImportStop(c *call) (any, error) {
	_, err := s.importStep(c, diskImportWriting, diskImportReady)
	return nil, err
}

func (s *Simulator) diskImportWrite(c *call) (any, error) {
	f := c.fields()
	offset, text := f.uint64("offset"), f.str("base64_encoded_data")
	if err := f.done(); err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, invalidRequest("error base64 decoding data: %v", err)
	}
	d, err := s.importStep(c, diskImportWriting, diskImportWriting)
	if err != nil {
		return nil, err
	}
	end := offset + uint64(len(data))
	if offset%uint64(d.blockSize) != 0 || end%uint64(d.blockSize) != 0 || end > d.size {
		return nil, invalidRequest("the write must be of whole blocks within the disk")
	}
	return nil, nil
}

func (s *Simulator) diskImportFinalize(c *call) (any, error) {
	f := c.fields()
	snapshotName := f.optName("snapshot_name")
	if err := f.done(); err != nil {
		return nil, err
	}
	d, err := s.importStep(c, diskImportReady, diskDetached)
	if err != nil || snapshotName == nil {
		return nil, err
	}
	if _, err := s.newSnapshot(d, *snapshotName, "snapshot of "+d.name); err != nil {
		d.state = diskImportReady
		return nil, err
	}
	return nil, nil
}
