// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

// SetPageLimit makes pages small, so that a list has several.
func (c *Client) SetPageLimit(n int) { c.pageLimit = n }
