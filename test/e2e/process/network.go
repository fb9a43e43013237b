// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	// startAttempts bounds the tries to start a program on free ports: between the choice of a
	// port and its use another program may take it.
	startAttempts = 3
	// readyLimit is how long a program may take until it is ready; the slowest takes seconds.
	readyLimit = time.Minute
)

// Run starts a program and waits until check finds it ready. One that is not ready within a minute
// is killed, and the error holds check's last reason.
func (g *Group) Run(
	ctx context.Context, spec Spec, check func(context.Context) error,
) (*Process, error) {
	p, err := g.start(spec)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, readyLimit,
		fmt.Errorf("waited %s", readyLimit))
	defer cancel()
	if err := p.Ready(limited, check); err != nil {
		p.Kill()
		g.forget(p)
		return nil, err
	}
	go g.watch(p)
	return p, nil
}

// WithFreePorts calls start with n ports that were free a moment ago, again with others if the
// program that it started says that one of them was taken meanwhile.
func WithFreePorts(n int, start func(attempt int, ports []int) error) error {
	for attempt := 1; ; attempt++ {
		ports, err := freePorts(n)
		if err != nil {
			return err
		}
		err = start(attempt, ports)
		var exit *ExitError
		if errors.As(err, &exit) && attempt < startAttempts &&
			strings.Contains(strings.Join(exit.Tail, "\n"), "address already in use") {
			continue
		}
		return err
	}
}

// freePorts returns n different TCP ports of the loopback address that nobody listens on.
func freePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("no free port on 127.0.0.1: %w", err)
		}
		defer listener.Close()
		addr, ok := listener.Addr().(*net.TCPAddr)
		if !ok {
			return nil, fmt.Errorf("no TCP port: %v", listener.Addr())
		}
		ports = append(ports, addr.Port)
	}
	return ports, nil
}

// HTTPGet returns a check that succeeds once url answers 200 within two seconds.
func HTTPGet(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			text, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
			return fmt.Errorf("GET %s: %s: %s", url, response.Status, text)
		}
		return nil
	}
}
