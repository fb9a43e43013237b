// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

// networkingSettingsJSON is what an operator allows to the whole rack.
type networkingSettingsJSON struct {
	JumboFrames bool `json:"external_jumbo_frames_opt_in_enabled"`
}

func (s *Simulator) networkingSettingsView(c *call) (any, error) {
	if err := c.requireFleet(roleViewer); err != nil {
		return nil, err
	}
	return networkingSettingsJSON{s.jumboFrames}, nil
}

// networkingSettingsUpdate replaces the settings: what is left out is off.
func (s *Simulator) networkingSettingsUpdate(c *call) (any, error) {
	f := c.fields()
	jumbo := f.boolOr("external_jumbo_frames_opt_in_enabled", false)
	if err := f.done(); err != nil {
		return nil, err
	}
	if err := c.requireFleet(roleAdmin); err != nil {
		return nil, err
	}
	s.jumboFrames = jumbo
	return networkingSettingsJSON{s.jumboFrames}, nil
}
