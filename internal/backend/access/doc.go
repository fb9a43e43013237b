// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package access decides which client of the backend may make which call.
//
//	identity.go     who the client is: the user of its process, or a name in its certificate
//	rights.go       what the flag --client gives to whom
//	policy.go       which right a call takes, and the refusal of one that lacks it
//	credentials.go  where the identity comes from: the kernel at a unix socket, TLS at a TCP address
//	connections.go  how many connections a client may have
//	certificates.go the files of the TLS listener, read again when they change
//
// It knows the calls of the API, and nothing of Oxide, of instances or of load balancers.
package access
