// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build unix

package oxidesim

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// holdAddress binds a TCP address without listening on it: connections are refused, and
// nobody else can listen there until it is released. It answers with the bound address.
func holdAddress(addr string) (bound string, release func(), err error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return "", nil, err
	}
	family, sa := sockaddr(a.AddrPort())
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err != nil {
		return "", nil, err
	}
	syscall.CloseOnExec(fd)
	release = func() { _ = syscall.Close(fd) }
	if err := syscall.Bind(fd, sa); err != nil {
		release()
		return "", nil, err
	}
	got, err := syscall.Getsockname(fd)
	if err != nil {
		release()
		return "", nil, err
	}
	switch got := got.(type) {
	case *syscall.SockaddrInet4:
		bound = netip.AddrPortFrom(netip.AddrFrom4(got.Addr), uint16(got.Port)).String()
	case *syscall.SockaddrInet6:
		bound = netip.AddrPortFrom(netip.AddrFrom16(got.Addr), uint16(got.Port)).String()
	default:
		release()
		return "", nil, errors.New("unexpected kind of address")
	}
	return bound, release, nil
}

func sockaddr(a netip.AddrPort) (family int, sa syscall.Sockaddr) {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		return syscall.AF_INET, &syscall.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	return syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
}
