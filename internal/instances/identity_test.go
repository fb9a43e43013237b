// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// swapped returns a UUID with the bytes of its first three fields reversed.
func swapped(id string) string {
	pairs := func(s string) string {
		var out strings.Builder
		for i := len(s) - 2; i >= 0; i -= 2 {
			out.WriteString(s[i : i+2])
		}
		return out.String()
	}
	fields := strings.SplitN(id, "-", 4)
	return strings.Join([]string{pairs(fields[0]), pairs(fields[1]), pairs(fields[2]), fields[3]}, "-")
}

// capi is how Oxide's Cluster API provider names an instance whose name would be too long: cut, with a
// hash of the whole.
const capi = "capi-team-alpha-production-workload-cluster-md-0-x7k2p-9-5f3a9c1e"

// identified says which instance a machine is, and by what; or the error.
func identified(w *world, m instances.Machine) (string, error) {
	found, err := w.finder.Identify(w.t.Context(), m, instances.Full, false)
	if err != nil {
		return "", err
	}
	said := []string{found.Name + " by " + found.By.String()}
	for _, other := range found.Others {
		said = append(said, "not "+other.Name+" by "+other.By.String())
	}
	return strings.Join(said, ", "), nil
}

func TestAMachineIsTheInstanceThatItReports(t *testing.T) {
	w := newWorld(t)
	ids := map[string]string{}
	for _, seed := range []oxidesim.InstanceSeed{
		{Name: "worker-1", Hostname: "node-a"},
		{Name: "worker-2", Hostname: "worker-1"},
		{Name: "third", Hostname: "Worker-3.Example.COM"},
		{Name: "fourth", Hostname: "node-d"},
		{Name: "node-e", Hostname: "other"},
		{Name: "six-a", Hostname: "six.a.example"},
		{Name: "six-b", Hostname: "six.b.example"},
		{Name: "seven-long", Hostname: "seven.example.com"},
		{Name: "seven-short", Hostname: "seven"},
		{Name: "eight", Hostname: "other-8"},
		{Name: "not-eight", Hostname: "eight"},
		{Name: "ten", Hostname: "10"},
		{Name: "eleven", Hostname: anID},
		{Name: capi[:63]},
	} {
		if seed.Hostname == "" {
			seed.Hostname = seed.Name
		}
		ids[seed.Name] = w.add(ourProject, seed).ID
	}
	elsewhere := w.add(secondProject, oxidesim.InstanceSeed{Name: "elsewhere"}).ID
	uuid := func(id, name string) instances.Machine {
		return instances.Machine{SystemUUID: id, Name: name}
	}
	named := func(name string) instances.Machine { return instances.Machine{Name: name} }
	for _, tc := range []struct {
		what string
		m    instances.Machine
		want string
		says string
	}{
		{"its system UUID beats its name", uuid(ids["worker-2"], "worker-1"),
			"worker-2 by system UUID, not worker-1 by name", ""},
		{"its name agrees with its system UUID", uuid(ids["worker-1"], "worker-1"),
			"worker-1 by system UUID", ""},
		{"in capitals", uuid(strings.ToUpper(ids["worker-2"]), "x"), "worker-2 by system UUID", ""},
		{"in the other order of bytes", uuid(swapped(ids["worker-2"]), "x"),
			"worker-2 by system UUID", ""},
		{"in the other order, in capitals", uuid(strings.ToUpper(swapped(ids["worker-2"])), ""),
			"worker-2 by system UUID", ""},
		{"an empty one", uuid("", "fourth"), "fourth by name", ""},
		{"zero", uuid("00000000-0000-0000-0000-000000000000", "fourth"), "fourth by name", ""},
		{"all ones", uuid("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "fourth"), "fourth by name", ""},
		{"malformed", uuid("Not Settable", "fourth"), "fourth by name", ""},
		{"without hyphens", uuid(strings.ReplaceAll(ids["worker-2"], "-", ""), "fourth"),
			"fourth by name", ""},
		{"a UUID of nothing, and no name", uuid(anID, ""), "",
			"none of its 14 has the id " + anID + " (its system UUID)"},
		{"a UUID of nothing, and the name of an instance", uuid(anID, "fourth"), "",
			"is no instance of the project demo, but its name is that of the instance fourth"},
		{"a UUID of another project", uuid(elsewhere, "fourth"), "", "may be in another project"},

		{"a name that is also another's hostname", named("worker-1"),
			"worker-1 by name, not worker-2 by hostname", ""},
		{"a hostname", named("node-d"), "fourth by hostname", ""},
		{"a hostname in capitals", named("NODE-D"), "fourth by hostname", ""},
		{"the hostname's domain is left out", named("worker-3"), "third by hostname", ""},
		{"the hostname, whatever its case", named("worker-3.example.com"), "third by hostname", ""},
		{"a domain that the hostname has not", named("node-d.example.com"), "fourth by hostname", ""},
		{"a domain that the name has not", named("node-e.example.com"), "node-e by name", ""},
		{"a hostname that Oxide would take for an id", named(anID), "eleven by hostname", ""},
		{"another domain", named("worker-3.other.com"), "", "no instance of the project demo"},
		{"exact beats short", named("seven"), "seven-short by hostname", ""},
		{"exact beats short, with a domain", named("seven.example.com"), "seven-long by hostname", ""},
		{"short for two", named("six"), "",
			"2 instances have the hostname six without regard to domains: six-a, six-b"},
		{"name and hostname of two, but for the domain", named("eight.example.com"), "",
			"2 instances have the hostname eight.example.com without regard to domains: eight, not-eight"},
		{"an address is no name with a domain", named("10.0.0.1"), "", "no instance"},
		{"Cluster API's", named(capi[:63]), capi[:63] + " by name", ""},
		{"Cluster API's, with a domain", named(capi[:63] + ".example.com"), capi[:63] + " by name", ""},
		{"nothing at all", uuid("zero", ""), "", "no name and no system UUID"},
		{"a name that cannot be one", named("Ümlaut_"), "", "as name or hostname"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			got, err := identified(w, tc.m)
			if tc.says != "" {
				checkText(t, err)
				if !strings.Contains(fmt.Sprint(err), tc.says) || errors.Is(err, instances.ErrNotFound) {
					t.Errorf("the error is %v, want %q", err, tc.says)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

// A system UUID is not authenticated: what contradicts it is an error, and the name is not tried instead.
func TestASystemUUIDCountsOnlyIfNothingContradictsIt(t *testing.T) {
	w := newWorld(t)
	one := w.add(ourProject, oxidesim.InstanceSeed{Name: "one", IP: "172.30.0.11", Ephemeral: true})
	w.add(ourProject, oxidesim.InstanceSeed{Name: "two", IP: "172.30.0.12"})
	external, err := w.client.ExternalIPs(t.Context(), one.ID)
	w.must(err)
	addrs := func(all ...string) []netip.Addr {
		parsed := make([]netip.Addr, len(all))
		for i, each := range all {
			parsed[i] = netip.MustParseAddr(each)
		}
		return parsed
	}
	claim := func(id string) []instances.Claim { return []instances.Claim{{ID: id, Claimant: "old-one"}} }
	ephemeral := ""
	for _, ip := range external {
		if ip.Kind == oxide.ExternalIPEphemeral {
			ephemeral = ip.Addr.String()
		}
	}
	for _, tc := range []struct {
		what   string
		addrs  []netip.Addr
		claims []instances.Claim
		says   string
	}{
		{"its address", addrs("172.30.0.11"), nil, ""},
		{"its address in the form of IPv6", addrs("::ffff:172.30.0.11"), nil, ""},
		{"its external address", addrs("172.30.0.11", ephemeral), nil, ""},
		{"another's address", addrs("172.30.0.12"), nil,
			"reports the address 172.30.0.12, but the instance one (" + one.ID + "), found by its"},
		{"one of two is another's", addrs("172.30.0.11", "192.0.2.1"), nil, "192.0.2.1"},
		{"others claim others", nil, claim(anID), ""},
		{"nonsense is claimed", nil, claim("nonsense"), ""},
		{"another is it", nil, claim(one.ID), "but old-one is known as that instance"},
		{"another reports its UUID", nil, claim(strings.ToUpper(swapped(one.ID))), "old-one"},
	} {
		for how, m := range map[string]instances.Machine{
			"system UUID": {SystemUUID: one.ID, Name: "two"}, "name": {Name: "one"},
		} {
			t.Run(tc.what+", by "+how, func(t *testing.T) {
				m.Addresses, m.Claims = tc.addrs, tc.claims
				for _, view := range []instances.View{instances.Basic, instances.Full} {
					found, err := w.finder.Identify(t.Context(), m, view, true)
					var conflict *instances.IdentityError
					switch {
					case tc.says == "" && (err != nil || found.ID != one.ID):
						t.Errorf("got %s, %v", found.Name, err)
					case tc.says == "":
					case !errors.As(err, &conflict) || conflict.Problem != instances.Conflict,
						!strings.Contains(err.Error(), tc.says):
						t.Errorf("got %s, %v; want %q", found.Name, err, tc.says)
					}
				}
			})
		}
	}
	// A machine whose id is known keeps it, whoever else claims it.
	if _, err := w.finder.Identify(t.Context(),
		instances.Machine{ID: one.ID, Claims: claim(one.ID)}, instances.Full, true); err != nil {
		t.Error(err)
	}
}

// Invariant 1: of a machine that reports to be an instance that exists nobody says that it is gone.
func TestInvariant1AMachineIsNotGoneWhileItReportsAnotherInstanceThatExists(t *testing.T) {
	for _, tc := range []struct {
		what  string
		uuid  func(again string) string
		spoil func(n *nodes, again string)
		gone  bool
	}{
		{"it reports nothing", func(string) string { return "" }, nil, true},
		{"it reports the id of one that exists", func(id string) string { return id }, nil, false},
		{"in the other order", swapped, nil, false},
		{"it reports one that never was", func(string) string { return anID }, nil, true},
		{"it reports one that cannot be read", func(id string) string { return id },
			func(n *nodes, _ string) {
				n.fault(oxidesim.Fault{Operation: "instance_view", Status: 503, Nth: []int{4, 5, 6, 7, 8}})
			}, false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			n := newNodes(t)
			n.must(n.rack.RemoveInstance(n.id))
			again := n.node("again").ID
			if tc.spoil != nil {
				tc.spoil(n, again)
			}
			m := instances.Machine{ID: n.id, SystemUUID: tc.uuid(again)}
			found, err := n.finder.ProveMachineAbsent(t.Context(), m, n.proof, instances.Basic)
			if err == nil || errors.Is(err, instances.ErrNotFound) != tc.gone {
				t.Fatalf("got %s, %v", found.ID, err)
			}
			var replaced *instances.IdentityError
			if !tc.gone && tc.spoil == nil &&
				(!errors.As(err, &replaced) || replaced.Problem != instances.Replaced) {
				t.Errorf("got %v, want that it was replaced", err)
			}
		})
	}
	t.Run("its instance exists as well", func(t *testing.T) {
		n := newNodes(t)
		again := n.node("again").ID
		found, err := n.finder.Identify(t.Context(),
			instances.Machine{ID: n.id, SystemUUID: again}, instances.Basic, false)
		if err != nil || found.ID != n.id || len(found.Others) != 1 || found.Others[0].ID != again {
			t.Errorf("got %+v, %v", found, err)
		}
	})
}

// Machines that are no instances ask for ever, each again and again.
func TestAThousandMachinesThatAreNoInstancesShareTwelveListsAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.node("node-0")
		w.requests()
		const minutes = 10
		end := time.Now().Add(minutes * time.Minute)
		calls := 0
		for time.Now().Before(end) {
			for i := range 1000 {
				m := instances.Machine{Name: fmt.Sprint("stranger-", i)}
				for _, direct := range []bool{true, false} {
					var none *instances.IdentityError
					_, err := w.finder.Identify(t.Context(), m, instances.Basic, direct)
					if !errors.As(err, &none) || none.Problem != instances.NotIdentified {
						t.Fatal(err)
					}
					calls++
				}
			}
			time.Sleep(5 * time.Second)
		}
		all := w.requests()
		total := 0
		for _, n := range all {
			total += n
		}
		t.Logf("%d calls a minute made %d requests a minute: %v", calls/minutes, total/minutes, all)
		if total/minutes > 12 {
			t.Errorf("%d requests a minute, want at most 12: %v", total/minutes, all)
		}
	})
}

// A list may miss the instance that a machine reports to be: another's name does not count then.
func TestASystemUUIDThatTheListMissesIsReadBeforeANameCounts(t *testing.T) {
	w := newWorld(t)
	own := w.node("own").ID
	w.fault(oxidesim.Fault{Operation: "instance_list", Omit: 1})
	for _, direct := range []bool{false, true} {
		found, err := w.finder.Identify(t.Context(),
			instances.Machine{SystemUUID: own, Name: "another"}, instances.Basic, direct)
		if err != nil || found.ID != own || found.By != instances.BySystemUUID {
			t.Errorf("direct %v: got %+v, %v", direct, found, err)
		}
	}
	// In the other order of bytes, too, and not for an instance of another project.
	if found, err := w.finder.Identify(t.Context(), instances.Machine{SystemUUID: swapped(own)},
		instances.Basic, false); err != nil || found.ID != own {
		t.Errorf("swapped: got %+v, %v", found, err)
	}
	elsewhere := w.add(secondProject, oxidesim.InstanceSeed{Name: "elsewhere"}).ID
	if found, err := w.finder.Identify(t.Context(), instances.Machine{SystemUUID: elsewhere},
		instances.Basic, false); err == nil {
		t.Errorf("it is %+v of another project", found)
	}
	w.fault(oxidesim.Fault{Operation: "instance_view", Status: 503})
	var unmatched *instances.IdentityError
	if _, err := w.finder.Identify(t.Context(), instances.Machine{SystemUUID: anID},
		instances.Basic, false); err == nil || errors.As(err, &unmatched) {
		t.Errorf("an id that cannot be read is no instance: %v", err)
	}
}

func TestMachinesThatReportIDsOfNothingAreReadDirectlyTwelveTimesAMinuteAtMost(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.node("node-0")
		w.requests()
		const minutes = 10
		for range minutes * 12 {
			for i := range 1000 {
				m := instances.Machine{SystemUUID: fmt.Sprintf("%08d-1111-4111-8111-111111111111", i)}
				var none *instances.IdentityError
				if _, err := w.finder.Identify(t.Context(), m, instances.Basic, false); !errors.As(err, &none) {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Second)
		}
		if reads := w.requests()["instance_view"]; reads > 20+12*minutes {
			t.Errorf("%d direct reads in %d minutes", reads, minutes)
		}
		one := instances.Machine{SystemUUID: anID}
		time.Sleep(time.Hour)
		w.requests()
		for range 60 {
			_, _ = w.finder.Identify(t.Context(), one, instances.Basic, false)
			time.Sleep(5 * time.Second)
		}
		if reads := w.requests()["instance_view"]; reads != 2 {
			t.Errorf("%d direct reads for one machine in five minutes, want one for each order", reads)
		}
	})
}
