// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
)

// pod serves one port by TCP and UDP. By TCP it greets, and then sends back each line. By UDP it
// answers each packet with the greeting and what the packet had.
type pod struct {
	tcp     *server
	udp     net.PacketConn
	serving sync.WaitGroup
}

// greeting says which pod serves, and whom it sees.
type greeting struct{ Machine, Port, Client string }

func (g greeting) String() string { return g.Machine + " " + g.Port + " " + g.Client }

// parseGreeting returns what a pod said, and the rest of the line.
func parseGreeting(line string) (g greeting, rest string, err error) {
	fields := strings.Fields(line)
	if len(fields) < 3 {
		return g, "", fmt.Errorf("no greeting: %q", line)
	}
	return greeting{fields[0], fields[1], fields[2]}, strings.Join(fields[3:], " "), nil
}

// startPod starts a pod of a machine.
func startPod(m *machine, address string) (*pod, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	greet := func(client net.Addr) greeting {
		host, _, _ := net.SplitHostPort(client.String())
		return greeting{m.name, port, host}
	}
	p := &pod{}
	p.tcp, err = listen(m.podNamespace, address, func(conn net.Conn) {
		fmt.Fprintln(conn, greet(conn.RemoteAddr()))
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			if _, err := fmt.Fprintln(conn, lines.Text()); err != nil {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	err = within(m.podNamespace, func() (err error) {
		p.udp, err = net.ListenPacket("udp", address)
		return err
	})
	if err != nil {
		p.tcp.close()
		return nil, err
	}
	p.serving.Go(func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := p.udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			fmt.Fprintf(writerTo{p.udp, from}, "%s %s", greet(from), buffer[:n])
		}
	})
	return p, nil
}

// writerTo sends packets to one address.
type writerTo struct {
	conn net.PacketConn
	to   net.Addr
}

func (w writerTo) Write(packet []byte) (int, error) { return w.conn.WriteTo(packet, w.to) }

func (p *pod) close() {
	p.udp.Close()
	p.serving.Wait()
	p.tcp.close()
}
