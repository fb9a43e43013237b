// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// vpcSubnet is the simulated rack's, podNetwork and podNetwork6 those of the pods.
	vpcSubnet, podNetwork, podNetwork6 = "172.30.0.0/22", "10.244.0.0/16", "fd00:10:244::/48"
	// These are what the rack gives to Services: floating IPs and external subnets.
	publicSubnet, publicSubnet6 = "198.51.100.0/24", "2001:db8:51::/64"
	routedSubnet, routedSubnet6 = "198.18.0.0/24", "2001:db8:18::/120"
	// clientNamespace is the network of the clients, with the addresses that they have there.
	clientNamespace                             = "client"
	clientAddress, clientAddress6, otherAddress = "203.0.113.10", "2001:db8:c::10", "203.0.113.99"
	// nearLink and farLink are the addresses of a wire's ends, by which IPv6 is routed: the gateway's,
	// or that of the machine that a pod is on, and the other one.
	nearLink, farLink = "fe80::1", "fe80::2"
)

// gateway is the address of the namespace that the tests run in: it routes between all others, and
// the control plane is there.
var gateway = netip.AddrFrom4([4]byte{172, 30, 0, 1})

// wire is how a network namespace is connected with another one, its only neighbor.
type wire struct {
	// name is that of the namespace, and of the neighbor's end. from is the neighbor, empty for the
	// gateway, with the address via.
	name, from, via string
	// v4 and v6 are the addresses of the namespace; v6 may be empty.
	v4, v6 string
	// behind are further networks that it is the way to.
	behind []string
}

// openFabric makes the gateway and the clients' network. What is sent to an address that nobody has
// is dropped without an answer, as by Oxide.
func openFabric(ctx context.Context) error {
	if err := forward(); err != nil {
		return err
	}
	commands := []string{"link set lo up", "address add " + gateway.String() + "/32 dev lo"}
	for _, network := range []string{
		vpcSubnet, podNetwork, publicSubnet, routedSubnet, "fd00::/8", publicSubnet6, routedSubnet6,
	} {
		commands = append(commands, "route add blackhole "+network)
	}
	if err := ip(ctx, commands...); err != nil {
		return err
	}
	clients := wire{
		name: clientNamespace, via: gateway.String(), v4: clientAddress, v6: clientAddress6,
		behind: []string{otherAddress},
	}
	if err := clients.build(ctx); err != nil {
		return err
	}
	return ipIn(ctx, clientNamespace, "address add "+otherAddress+"/32 dev eth0")
}

// forward lets this network namespace route.
func forward() error {
	return errors.Join(
		sysctl("net/ipv4/ip_forward", "1"), sysctl("net/ipv6/conf/all/forwarding", "1"))
}

// build makes a network namespace, and connects it.
func (w wire) build(ctx context.Context) error {
	if err := ip(ctx, "netns add "+w.name); err != nil {
		return err
	}
	err := ipIn(ctx, w.from, "link add "+w.name+" type veth peer name eth0 netns "+w.name)
	if err != nil {
		return err
	}
	err = ipIn(ctx, w.name,
		"link set lo up",
		"link set eth0 up",
		"address add "+w.v4+"/32 dev eth0",
		"address add "+farLink+"/64 dev eth0 nodad",
		"route add "+w.via+" dev eth0 src "+w.v4,
		"route add default via "+w.via+" dev eth0 src "+w.v4,
	)
	if err != nil {
		return err
	}
	if err := within(w.name, forward); err != nil {
		return err
	}
	if err := w.addIPv6(ctx); err != nil {
		return err
	}
	return w.plugIn(ctx)
}

// addIPv6 gives the namespace its IPv6 address, if it has one by now.
func (w wire) addIPv6(ctx context.Context) error {
	if w.v6 == "" {
		return nil
	}
	return ipIn(ctx, w.name,
		"address add "+w.v6+"/128 dev eth0 nodad",
		"route add default via "+nearLink+" dev eth0 src "+w.v6,
	)
}

// plugIn connects the namespace with its neighbor, which sends there what is for its addresses and
// for the networks behind it.
func (w wire) plugIn(ctx context.Context) error {
	commands := []string{
		"link set " + w.name + " up",
		"address replace " + nearLink + "/64 dev " + w.name + " nodad",
		"route replace " + w.v4 + " dev " + w.name + " src " + w.via,
	}
	if w.v6 != "" {
		commands = append(commands, "route replace "+w.v6+" via "+farLink+" dev "+w.name)
	}
	for _, network := range w.behind {
		commands = append(commands, w.routeTo(network))
	}
	return ipIn(ctx, w.from, commands...)
}

// routeTo is the command by which the neighbor sends there what is for a network.
func (w wire) routeTo(network string) string {
	if strings.Contains(network, ":") {
		return "route replace " + network + " via " + farLink + " dev " + w.name
	}
	return "route replace " + network + " via " + w.v4 + " dev " + w.name + " onlink src " + w.via
}

// unplug takes the wire off: nothing comes or goes, and nobody is notified.
func unplug(ctx context.Context, name string) error { return ip(ctx, "link set "+name+" down") }

// ip runs commands of iproute2, all of them or up to the first that fails.
func ip(ctx context.Context, commands ...string) error { return batch(ctx, nil, commands) }

// ipIn does so in another network namespace; empty: in this one.
func ipIn(ctx context.Context, namespace string, commands ...string) error {
	if namespace == "" {
		return ip(ctx, commands...)
	}
	return batch(ctx, []string{"-netns", namespace}, commands)
}

func batch(ctx context.Context, options, commands []string) error {
	cmd := exec.CommandContext(ctx, "ip", append(options, "-batch", "-")...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// within calls do in another network namespace. Sockets that are made there stay in it.
func within(name string, do func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread, which is in the other namespace, ends with the goroutine.
		runtime.LockOSThread()
		done <- enter(name, do)
	}()
	return <-done
}

// enter calls do after it has moved this thread into another network namespace.
func enter(name string, do func() error) error {
	file, err := os.Open(filepath.Join("/run/netns", name))
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("cannot enter the network namespace %s: %w", name, err)
	}
	return do()
}

// run runs a program that says nothing unless it fails.
func run(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func sysctl(key, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644)
}
