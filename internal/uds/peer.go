// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package uds

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// PeerListener accepts only connections of processes of certain users, as the kernel shows them by
// SO_PEERCRED: the last line of defence, should the socket's mode have been changed.
type PeerListener struct {
	*net.UnixListener
	// UID is the user whose processes may connect.
	UID uint32
	// Refused, if not nil, is given each refused connection, which it must close, and the user of its
	// process, or why that is not known. It must not block. Without it they are closed.
	Refused func(conn net.Conn, uid uint32, err error)
}

// Accept implements net.Listener.
func (l *PeerListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(conn)
		if err == nil && uid == l.UID {
			return conn, nil
		}
		if l.Refused == nil {
			_ = conn.Close()
			continue
		}
		l.Refused(conn, uid, err)
	}
}

func peerUID(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("read the peer's credentials: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, fmt.Errorf("read the peer's credentials: %w", err)
	}
	if credErr != nil {
		return 0, fmt.Errorf("read the peer's credentials: %w", credErr)
	}
	return cred.Uid, nil
}
