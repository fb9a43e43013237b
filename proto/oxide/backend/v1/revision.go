// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backendv1

// APIRevision is the revision of this API that this package holds, as in
// GetInfoResponse.api_revision. It grows whenever fields, values or calls are added.
const APIRevision = 8
