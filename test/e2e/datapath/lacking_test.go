// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"os"
	"os/exec"
	"strings"
)

// need is something that the tests need of the kernel, with commands that work only where it has it.
type need struct {
	what, command, input string
	// mode is that of kube-proxy that needs it; empty: the tests do.
	mode string
}

// iptablesRules and nftablesRules are of the kinds that kube-proxy writes.
const (
	iptablesRules = `*nat
:PROBE - [0:0]
-A PREROUTING -d 192.0.2.1 -p tcp -m comment --comment probe -j PROBE
-A PROBE -m statistic --mode random --probability 0.5 -j MARK --set-xmark 0x4000/0x4000
-A PROBE -p tcp -m addrtype --dst-type LOCAL -j DNAT --to-destination 192.0.2.2:80
-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully
COMMIT
*filter
-A INPUT -m conntrack --ctstate NEW -j ACCEPT
-A INPUT -j REJECT
COMMIT
`
	nftablesRules = `table ip probe {
  map services { type ipv4_addr . inet_proto . inet_service : verdict; }
  set sources { type ipv4_addr; flags interval; }
  chain endpoint { meta l4proto tcp dnat to 192.0.2.2:80; }
  chain service { numgen random mod 2 vmap { 0 : goto endpoint, 1 : goto endpoint }; }
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr . meta l4proto . th dport vmap @services
    fib daddr type local meta mark set meta mark or 0x4000
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    meta mark and 0x4000 != 0 masquerade fully-random
  }
  chain filter { type filter hook input priority filter; ct state new reject; }
}
`
)

// needs are in the order in which they are looked at.
var needs = []need{
	{what: "named network namespaces", command: "ip netns add probe"},
	{what: "pairs of virtual Ethernet devices",
		command: "ip link add probe type veth peer name eth0 netns probe"},
	{what: "IPv6", command: "ip address add fe80::1/64 dev probe nodad"},
	{what: "what kube-proxy uses of iptables", command: "iptables-restore --noflush", input: iptablesRules},
	{what: "translation of IPv6 addresses", command: "ip6tables-restore --noflush",
		input: "*nat\n-A PREROUTING -d 2001:db8::1 -j DNAT --to-destination 2001:db8::2\nCOMMIT\n"},
	{what: "a table of connections that can be changed", command: "conntrack --dump"},
	{what: "what kube-proxy uses of nftables", command: "nft --file -", input: nftablesRules,
		mode: "nftables"},
}

// lacking returns what this kernel lacks for the tests with a mode of kube-proxy, empty: nothing.
// What it makes to find out is gone when it returns.
func lacking(mode string) string {
	for _, each := range needs {
		if each.mode != "" && each.mode != mode {
			continue
		}
		args := strings.Fields(each.command)
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = strings.NewReader(each.input)
		if out, err := cmd.CombinedOutput(); err != nil {
			text, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
			return "the kernel lacks " + each.what + ": " + each.command + ": " + err.Error() + ": " + text
		}
	}
	for _, command := range []string{
		"ip netns delete probe", "iptables -t nat -F", "iptables -t nat -X PROBE", "iptables -F",
		"ip6tables -t nat -F", "nft delete table ip probe",
	} {
		args := strings.Fields(command)
		cmd := exec.Command(args[0], args[1:]...)
		if out, err := cmd.CombinedOutput(); err != nil && args[0] != "nft" {
			os.Stderr.Write(out)
		}
	}
	return ""
}
