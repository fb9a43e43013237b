// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

const (
	// vpcSubnet is the simulated rack's, podNetwork that of the pods, and publicSubnet has its
	// floating IPs.
	vpcSubnet, podNetwork, publicSubnet = "172.30.0.0/22", "10.244.0.0/16", "198.51.100.0/24"
	// clientNamespace is the network of the clients, and clientAddress their address.
	clientNamespace, clientAddress = "client", "203.0.113.10"
)

// gateway is the address of the namespace that the tests run in: it routes between all others, and
// the control plane is there.
var gateway = netip.AddrFrom4([4]byte{172, 30, 0, 1})

// openFabric makes the gateway and the clients' network. What is sent to an address that nobody has
// is dropped without an answer, as by Oxide.
func openFabric(ctx context.Context) error {
	if err := sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	err := ip(ctx,
		"link set lo up",
		"address add "+gateway.String()+"/32 dev lo",
		"route add blackhole "+vpcSubnet,
		"route add blackhole "+podNetwork,
		"route add blackhole "+publicSubnet,
	)
	if err != nil {
		return err
	}
	if err := addNamespace(ctx, clientNamespace, clientAddress); err != nil {
		return err
	}
	return plugIn(ctx, clientNamespace, clientAddress)
}

// addNamespace makes a network namespace with one address, whose only neighbor is the gateway. The
// gateway's end of its wire has its name.
func addNamespace(ctx context.Context, name, address string) error {
	err := ip(ctx,
		"netns add "+name,
		"link add "+name+" type veth peer name eth0 netns "+name,
	)
	if err != nil {
		return err
	}
	err = ipIn(ctx, name,
		"link set lo up",
		"link set eth0 up",
		"address add "+address+"/32 dev eth0",
		"route add "+gateway.String()+" dev eth0 src "+address,
		"route add default via "+gateway.String()+" dev eth0 src "+address,
	)
	if err != nil {
		return err
	}
	return within(name, func() error { return sysctl("net/ipv4/ip_forward", "1") })
}

// plugIn connects a namespace to the gateway, which sends there what is for the address, and for
// further subnets behind it.
func plugIn(ctx context.Context, name, address string, behind ...string) error {
	commands := []string{
		"link set " + name + " up",
		"route replace " + address + " dev " + name + " src " + gateway.String(),
	}
	for _, subnet := range behind {
		commands = append(commands,
			"route replace "+subnet+" via "+address+" dev "+name+" onlink src "+gateway.String())
	}
	return ip(ctx, commands...)
}

// unplug takes the wire off: nothing comes or goes, and nobody is notified.
func unplug(ctx context.Context, name string) error { return ip(ctx, "link set "+name+" down") }

// ip runs commands of iproute2, all of them or up to the first that fails.
func ip(ctx context.Context, commands ...string) error { return batch(ctx, nil, commands) }

// ipIn does so in another network namespace.
func ipIn(ctx context.Context, namespace string, commands ...string) error {
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

// translatePoll is how often the gateway looks where floating IPs are attached.
const translatePoll = 20 * time.Millisecond

// translate does what Oxide's network does with floating IPs, until ctx ends: what clients send to
// one is sent to the instance that it is attached to, and only while it is.
func (w *world) translate(ctx context.Context) {
	ticker := time.NewTicker(translatePoll)
	defer ticker.Stop()
	last := ""
	for ctx.Err() == nil {
		state, err := w.rack.State(ctx)
		if rules := translation(state); err == nil && rules != last {
			cmd := exec.CommandContext(ctx, "iptables-restore")
			cmd.Stdin = strings.NewReader(rules)
			if out, err := cmd.CombinedOutput(); err != nil && ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "e2e-datapath: iptables-restore: %v: %s\n", err, out)
			} else {
				last = rules
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// translation returns the table of the gateway's rules.
func translation(state rack.State) string {
	var rules strings.Builder
	rules.WriteString("*nat\n")
	for _, address := range state.FloatingIPs {
		instance, found := state.Instance(address.Instance)
		if found && address.AttachState == rack.Attached {
			fmt.Fprintf(&rules, "-A PREROUTING -i %s -d %s/32 -j DNAT --to-destination %s\n",
				clientNamespace, address.IP, instance.PrivateIPs["v4"])
		}
	}
	rules.WriteString("COMMIT\n")
	return rules.String()
}
