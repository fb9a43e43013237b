// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package plugins tests the plugins in this folder, which are no Go code.
//
//	kubectl-oxide  the plugin of kubectl that asks the leader's oxide-backend
//
// It imports nothing of this module.
package plugins
