// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"errors"

	"google.golang.org/grpc"
)

// UnknownMethod answers calls of services and methods that this backend does not have.
func UnknownMethod(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	return &unofferedError{"the call " + quote(method)}
}

// RefusePeer answers every call of a process that belongs to another user, without StreamErrors.
func RefusePeer(_ any, stream grpc.ServerStream) error {
	stream.SetTrailer(pushback(errPeerRefused))
	return toStatus(errPeerRefused).Err()
}

var errPeerRefused = errors.New("oxide-backend serves only processes of the user that it runs as: " +
	"run as that user, or start an oxide-backend as this one")
