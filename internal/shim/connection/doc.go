// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package connection is the shim's one gRPC connection to oxide-backend: that of proto/client, with
// the metrics of its calls, and the watch that notices for how long the backend has not answered.
//
// It knows no message of the API, and imports nothing of Kubernetes but its logging and its metrics
// registry.
package connection
