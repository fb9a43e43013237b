// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"net"
	"sync"
)

// server serves TCP in a network namespace, as a process there would.
type server struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// listen starts a server, which has each connection handled and then closes it.
func listen(namespace, address string, handle func(net.Conn)) (*server, error) {
	s := &server{conns: map[net.Conn]bool{}}
	err := within(namespace, func() (err error) {
		s.listener, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.serving.Go(func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.serving.Go(func() {
				s.note(conn, true)
				defer s.note(conn, false)
				handle(conn)
			})
		}
	})
	return s, nil
}

// note keeps an open connection, or closes it.
func (s *server) note(conn net.Conn, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if open && s.conns != nil {
		s.conns[conn] = true
		return
	}
	delete(s.conns, conn)
	conn.Close()
}

// close ends it with all its connections, as the end of a process does.
func (s *server) close() {
	s.listener.Close()
	s.mu.Lock()
	for conn := range s.conns {
		conn.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.serving.Wait()
}
