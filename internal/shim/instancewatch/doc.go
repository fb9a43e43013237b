// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package instancewatch follows the instances of the project by the backend's stream of changes, once for
// all controllers of the process. It changes nothing, and knows no Node.
package instancewatch
