// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package access

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// serverCredentials authenticate the clients of all listeners of one server: at a unix socket by
// the user of the process at the other end, which the kernel knows; at a TCP address by a
// certificate.
type serverCredentials struct {
	// tls serves TCP connections. Nil: there is no listener for such.
	tls credentials.TransportCredentials

	// policy logs and counts clients that have no right. A few of their connections are kept, so that each
	// of their calls is refused with a reason.
	policy *Policy

	// open are the connections, and calls the calls of clients that are not the own user.
	open, calls counts

	// handshakes are those that are under way over TCP, of no client yet.
	handshakes counts

	// tooMany is the error of a call of a client that has too many.
	tooMany error
}

// processInfo is what is known of a client of a unix socket.
type processInfo struct {
	credentials.CommonAuthInfo
	uid uint32
}

// AuthType implements credentials.AuthInfo.
func (processInfo) AuthType() string { return "process" }

// certificateInfo is what is known of a client with a certificate.
type certificateInfo struct {
	credentials.CommonAuthInfo
	names Identities
}

// AuthType implements credentials.AuthInfo.
func (certificateInfo) AuthType() string { return "certificate" }

// ServerHandshake implements credentials.TransportCredentials.
func (c *serverCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if socket, isUnix := conn.(*net.UnixConn); isUnix {
		uid, err := peerUID(socket)
		if err != nil {
			return nil, nil, err
		}
		common := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
		if uid == c.policy.UID {
			return conn, processInfo{common, uid}, nil
		}
		kept, err := c.keep(conn, identityOfUID(uid))
		return kept, processInfo{common, uid}, err
	}
	if c.tls == nil {
		return nil, nil, errors.New("a connection over TCP takes a certificate, and none is configured")
	}
	return c.serveTLS(conn)
}

func (c *serverCredentials) serveTLS(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	ended, ok := c.handshakes.take("", maxHandshakes)
	if !ok {
		return nil, nil, fmt.Errorf("%d handshakes are under way, the most at a time", maxHandshakes)
	}
	defer ended()
	conn, info, err := c.tls.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	tlsInfo, ok := info.(credentials.TLSInfo)
	if !ok || len(tlsInfo.State.VerifiedChains) == 0 {
		_ = conn.Close()
		return nil, nil, errors.New("the client has no certificate that its authority has signed")
	}
	names := identitiesOfCertificate(tlsInfo.State.PeerCertificates[0])
	kept, err := c.keep(conn, names)
	if err != nil {
		_ = conn.Close()
	}
	return kept, certificateInfo{tlsInfo.CommonAuthInfo, names}, err
}

// ClientHandshake implements credentials.TransportCredentials. These are for servers.
func (c *serverCredentials) ClientHandshake(
	context.Context, string, net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for servers")
}

// Info implements credentials.TransportCredentials.
func (c *serverCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "process or tls"}
}

// Clone implements credentials.TransportCredentials.
func (c *serverCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (c *serverCredentials) OverrideServerName(string) error { return nil }

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
