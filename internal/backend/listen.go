// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"fmt"
	"net"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/uds"
)

// listeners are the sockets that the program serves. They are all opened before anything is served,
// so that a port in use ends the start at once.
type listeners struct {
	rpc             []net.Listener
	health, metrics net.Listener
}

func (l *listeners) open(cfg Config) error {
	socket, err := uds.Listen(cfg.SocketPath)
	if err != nil {
		return fmt.Errorf("--listen: cannot serve on %s: %w", cfg.SocketPath, err)
	}
	l.rpc = append(l.rpc, socket)
	if cfg.SharedSocketPath != "" {
		shared, err := uds.ListenShared(cfg.SharedSocketPath)
		if err != nil {
			return fmt.Errorf("--shared-listen: cannot serve on %s: %w", cfg.SharedSocketPath, err)
		}
		l.rpc = append(l.rpc, shared)
	}
	remote, err := listenTCP("--tls-listen", cfg.TLSListen)
	if err != nil {
		return err
	}
	if remote != nil {
		l.rpc = append(l.rpc, remote)
	}
	if l.health, err = listenTCP("--health-listen", cfg.HealthListen); err != nil {
		return err
	}
	l.metrics, err = listenTCP("--metrics-listen", cfg.MetricsListen)
	return err
}

// Close closes what is open. Closing twice does no harm.
func (l *listeners) Close() {
	for _, listener := range append(l.rpc, l.health, l.metrics) {
		if listener != nil {
			_ = listener.Close()
		}
	}
}

func listenTCP(setting, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil //nolint:nilnil // no listener is wanted
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot serve on %s: %w", setting, address, err)
	}
	return listener, nil
}
