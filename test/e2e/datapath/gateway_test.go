// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// gatewayPoll is how often the gateway looks where addresses are attached.
const gatewayPoll = 20 * time.Millisecond

// gap is a move of an address: what clients send to it went to the machine that it left, and then to
// the next one. Some of it is dropped from left on, all of it from cut on, and none once it arrived.
type gap struct {
	address, from, to  string
	left, cut, arrived time.Time
}

func (g gap) lasted() time.Duration { return g.arrived.Sub(g.left) }

// way is where the gateway sends what is for an address: to a machine as it is, or, with another
// address in its place, if target is not empty.
type way struct{ machine, target string }

// ways are those of all addresses that are attached.
type ways map[string]way

// crossing does at the gateway what Oxide's network does with addresses: what clients send to one is
// sent to the instance that the simulated rack shows it attached to, and only while it does.
type crossing struct {
	world *world

	mu   sync.Mutex
	now  ways
	left map[string]gap
	gaps []gap
	// again has all routes set once more: those through a wire that was off are gone.
	again bool
}

// run follows the rack until ctx ends.
func (c *crossing) run(ctx context.Context) {
	ticker := time.NewTicker(gatewayPoll)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if state, err := c.world.rack.State(ctx); err == nil {
			if err := c.follow(ctx, c.waysOf(state)); err != nil && ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "e2e-datapath: the gateway: %v\n", err)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// waysOf returns where all addresses have to be sent.
func (c *crossing) waysOf(state rack.State) ways {
	all := ways{}
	for _, address := range state.Carried() {
		instance, found := state.Instance(address.Instance)
		if !found || address.AttachState != rack.Attached {
			continue
		}
		to := way{machine: instance.Name}
		if !address.Subnet {
			to.target = instance.PrivateIPs[address.Version()]
		}
		all[address.Addr] = to
	}
	return all
}

// follow has the gateway send everything so, and notes what has left and arrived.
func (c *crossing) follow(ctx context.Context, next ways) error {
	c.mu.Lock()
	last, again := c.now, c.again
	c.again = false
	c.mu.Unlock()
	if maps.Equal(last, next) && !again {
		return nil
	}
	before := time.Now()
	if err := c.apply(ctx, last, next); err != nil {
		return err
	}
	after := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = next
	for address, way := range last {
		if next[address] != way {
			c.left[address] = gap{address: address, from: way.machine, left: before, cut: after}
		}
	}
	for address, way := range next {
		if last[address] == way {
			continue
		}
		if g, moved := c.left[address]; moved {
			g.to, g.arrived = way.machine, after
			c.gaps = append(c.gaps, g)
			delete(c.left, address)
		}
	}
	return nil
}

// apply changes the translations and routes, and forgets the flows of what has moved: Oxide's
// network keeps none of them, either.
func (c *crossing) apply(ctx context.Context, last, next ways) error {
	for _, version := range []string{"v4", "v6"} {
		command := map[string]string{"v4": "iptables-restore", "v6": "ip6tables-restore"}[version]
		cmd := exec.CommandContext(ctx, command, "--wait")
		cmd.Stdin = strings.NewReader(translations(next, version))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(string(out)))
		}
	}
	for address, way := range last {
		if way.target == "" && next[address] != way {
			// It fails where the wire is off: the route is gone with it.
			_ = ip(ctx, "route delete "+host(address))
		}
	}
	var routes []string
	for address, way := range next {
		m, err := c.world.machine(way.machine)
		if way.target == "" && err == nil && !m.off.Load() {
			routes = append(routes, m.wire().routeTo(host(address)))
		}
	}
	if err := ip(ctx, routes...); err != nil {
		return err
	}
	for address, way := range last {
		if next[address] == way {
			continue
		}
		// It fails where there is nothing to forget.
		_ = exec.CommandContext(ctx, "conntrack", "--delete", "--orig-dst", address).Run()
	}
	return nil
}

// host is the network of one address.
func host(address string) string {
	if strings.Contains(address, ":") {
		return address + "/128"
	}
	return address + "/32"
}

// translations returns the gateway's table of those of one IP version.
func translations(of ways, version string) string {
	var rules strings.Builder
	rules.WriteString("*nat\n")
	for _, address := range slices.Sorted(maps.Keys(of)) {
		if target := of[address].target; target != "" &&
			strings.Contains(target, ":") == (version == "v6") {
			fmt.Fprintf(&rules, "-A PREROUTING -i %s -d %s -j DNAT --to-destination %s\n",
				clientNamespace, host(address), target)
		}
	}
	rules.WriteString("COMMIT\n")
	return rules.String()
}

// refresh has all routes set once more.
func (c *crossing) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.again = true
}

// sends reports whether clients reach a machine by an address now.
func (c *crossing) sends(address, machine string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now[address].machine == machine
}

// moved waits until one of some addresses has left a machine after a time, and has arrived elsewhere.
func (c *crossing) moved(
	ctx context.Context, after time.Time, addresses ...string,
) (move gap, err error) {
	err = process.Await(ctx, func(context.Context) (bool, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, g := range c.gaps {
			if slices.Contains(addresses, g.address) && g.left.After(after) {
				move = g
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		err = fmt.Errorf("none of %v has moved: %w", addresses, err)
	}
	return move, err
}
