// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package backendv1 is the public API of oxide-backend: the gRPC services, their messages, and the
// reasons that their errors carry. It is generated from the .proto files beside it; their comments
// are the reference, good enough to write another backend or another client from.
//
// It imports nothing of this module.
package backendv1
