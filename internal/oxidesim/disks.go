// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

// diskAttachment is a disk that a new instance shall have.
type diskAttachment struct{}

func readDiskAttachment(*fields) diskAttachment { return diskAttachment{} }

func (s *Simulator) equipMore(*instance, *user, instanceParams) error { return nil }

func (s *Simulator) releaseMore(*instance) {}
