// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package coalesce lets callers share readings of facts that cost a request. It knows nothing of what
// is read.
package coalesce
