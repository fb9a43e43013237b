// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestAddressesSaysWhereEachIsAndWhose(t *testing.T) {
	y := newYard(t)
	for name, description := range map[string]string{
		"other":  "oxide-ccm/v1 scope=c2 name=shop/web uid=u family=v4 source=floating-ip",
		"kept":   "oxide-ccm/v1 scope=c1 name=shop/old uid=u family=v4 source=floating-ip retained",
		"edited": "oxide-ccm/v1 scope=c1 name=shop/web uid=",
	} {
		ip := map[string]string{
			"other": "198.51.100.103", "kept": "198.51.100.104", "edited": "198.51.100.105",
		}[name]
		if _, err := y.rack.AddFloatingIP("demo", oxidesim.FloatingIPSeed{
			Name: name, IP: ip, Description: description,
		}); err != nil {
			t.Fatal(err)
		}
	}
	reserved, err := backendv1.NewAddressServiceClient(y.conn).ReserveAddress(t.Context(),
		&backendv1.ReserveAddressRequest{
			Name: "vip", Source: backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
			Selector: &backendv1.ReserveAddressRequest_Address{Address: "198.51.100.102"},
		})
	if err != nil {
		t.Fatal(reserved, err)
	}
	const noSession = `ADDRESS KIND NAME POOL ATTACHED TO WHOSE
198.18.0.8/29 external subnet pods subnets foreign
198.51.100.100 floating IP lb-gone default machine-1 load balancer shop/gone of c1
198.51.100.101 floating IP by-hand default bastion foreign
198.51.100.102 floating IP vip default reserved
198.51.100.103 floating IP other default load balancer shop/web of c2
198.51.100.104 floating IP kept default retained for shop/old of c1
198.51.100.105 floating IP edited default foreign: its marker was edited

No session runs here: which of them are orphans, the replica that leads knows.
`
	y.shows(noSession, "addresses")

	y.set.LoadBalancers[0].Addresses[0].Source = &backendv1.DesiredAddress_FloatingIp{
		FloatingIp: &backendv1.FloatingIpSource{
			Selector: &backendv1.FloatingIpSource_Existing{Existing: "vip"},
		},
	}
	y.lead()
	y.shows(`ADDRESS KIND NAME POOL ATTACHED TO WHOSE
198.18.0.8/29 external subnet pods subnets foreign
198.51.100.12 floating IP lb-shop-ssh-HASH default load balancer shop/ssh
198.51.100.100 floating IP lb-gone default worker-1.example.com orphan of shop/gone
198.51.100.101 floating IP by-hand default bastion foreign
198.51.100.102 floating IP vip default worker-1.example.com reserved, used by infra/ssh
198.51.100.103 floating IP other default load balancer shop/web of c2
198.51.100.104 floating IP kept default retained for shop/old
198.51.100.105 floating IP edited default foreign: its marker was edited
`, "addresses")
	for _, name := range []string{"worker-1.example.com", y.set.GetCandidates()[0].GetInstanceId()} {
		y.shows(`ADDRESS KIND NAME POOL ATTACHED TO WHOSE
198.51.100.100 floating IP lb-gone default worker-1.example.com orphan of shop/gone
198.51.100.102 floating IP vip default worker-1.example.com reserved, used by infra/ssh
`, "addresses", "--instance", name)
	}
	y.shows(`ADDRESS KIND NAME POOL WHOSE
198.51.100.103 floating IP other default load balancer shop/web
`, "addresses", "--scope", "c2")
	for attached, want := range map[string]int{"--attached": 3, "--attached=false": 5} {
		if _, stdout, _ := y.run("addresses", attached); strings.Count(stdout, "\n") != 1+want {
			t.Errorf("%s, want %d:\n%s", attached, want, stdout)
		}
	}
	orphan := y.inJSON("addresses", "--instance", "machine-1")["addresses"].([]any)[0].(map[string]any)
	for key, want := range map[string]any{
		"address": "198.51.100.100", "orphaned": true, "instanceName": "worker-1.example.com",
		"poolName": "default", "usedBy": "", "ownership": "ADDRESS_OWNERSHIP_LOAD_BALANCER",
	} {
		if orphan[key] != want {
			t.Errorf("%s: %v, want %v", key, orphan[key], want)
		}
	}
}

// More than the API returns at a time.
func TestAllAddressesAreShownHoweverManyThereAre(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	const many = 1100
	for i := range many {
		if _, err := rack.AddFloatingIP("demo", oxidesim.FloatingIPSeed{
			Name: fmt.Sprintf("ip-%04d", i), Pool: "default-v6",
		}); err != nil {
			t.Fatal(err)
		}
	}
	y := &yard{process: start(t, rack.URL)}
	y.awaitReady()
	_, stdout, stderr := y.run("addresses")
	if got := strings.Count(stdout, " floating IP ip-"); got != many {
		t.Errorf("%d addresses are shown: %s", got, stderr)
	}
	if got := y.inJSON("addresses")["addresses"].([]any); len(got) != many {
		t.Errorf("%d addresses in JSON", len(got))
	}
	if _, stdout, _ := y.run("status"); !strings.Contains(stdout, "1100 addresses (1100 foreign)") {
		t.Errorf("the status is\n%s", stdout)
	}

	// As with head, which reads what it wants and goes.
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	said := new(logBuffer)
	cmd := command(said, nil, "addresses", "--socket", y.socket)
	cmd.Stdout = writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	_ = reader.Close()
	_ = cmd.Wait()
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signal() != syscall.SIGPIPE || said.String() != "" {
		t.Errorf("without a reader: %v, %s", cmd.ProcessState, said)
	}
}

func TestInstancesShowsStatesAndAddresses(t *testing.T) {
	y := newYard(t)
	const header = "INSTANCE STATE SINCE PRIVATE EXTERNAL ATTACHED\n"
	const (
		bastion = "bastion stopped SINCE 172.30.0.7 198.51.100.101\n"
		second  = "machine-2 running SINCE 172.30.0.6\n"
	)
	y.shows(header+bastion+"machine-1 running SINCE 172.30.0.5 198.51.100.100\n"+second, "instances")
	y.shows("INSTANCE STATE SINCE PRIVATE EXTERNAL\n"+bastion+second, "instances", "machine-2", "bastion")
	y.shows("There is no such instance.\n", "instances", "--group", "nobody")
	y.lead()
	const first = "machine-1 worker-1.example.com running SINCE 172.30.0.5 198.51.100.11,198.51.100.100\n"
	id := y.set.GetCandidates()[0].GetInstanceId()
	for _, name := range []string{"worker-1.example.com", "machine-1", id} {
		y.shows("INSTANCE NODE STATE SINCE PRIVATE ATTACHED\n"+first, "instances", name, name)
	}
	_, stdout, _ := y.raw("instances", "-o", "json")
	var message backendv1.ListInstancesResponse
	err := protojson.Unmarshal([]byte(stdout), &message)
	if err != nil || len(message.GetInstances()) != 3 {
		t.Errorf("in JSON: %v, %s", err, stdout)
	}
	_ = y.inJSON("instances")
}

func TestOrphansAreDeletedAfterTheyWereShown(t *testing.T) {
	y := newYard(t)
	if _, err := y.rack.AddFloatingIP("demo", oxidesim.FloatingIPSeed{
		Name: "lb-old", IP: "198.51.100.110",
		Description: "oxide-ccm/v1 scope=c1 name=shop/old uid=u family=v4 source=floating-ip",
	}); err != nil {
		t.Fatal(err)
	}
	y.lead()
	const (
		header = "ADDRESS KIND NAME ATTACHED TO LOAD BALANCER ID\n"
		gone   = "198.51.100.100 floating IP lb-gone worker-1.example.com shop/gone ID\n"
		old    = "198.51.100.110 floating IP lb-old shop/old ID\n"
	)
	y.await("both orphans", func() bool {
		_, stdout, _ := y.run("orphans")
		return strings.Contains(stdout, "old")
	})
	y.shows(header+gone+old, "orphans")
	_, stdout, _ := y.raw("orphans", "-o", "json")
	if !strings.Contains(stdout, `"orphans"`) {
		t.Errorf("in JSON: %s", stdout)
	}

	left := func(name string) string {
		for _, ip := range y.rack.FloatingIPs() {
			if ip.Name == name {
				return ip.ID
			}
		}
		return ""
	}
	code, stdout, stderr := y.run("orphans", "delete", "lb-gone")
	if code != 2 || stdout != header+gone || !strings.Contains(stderr, "--yes") || left("lb-gone") == "" {
		t.Errorf("without a terminal: exit code %d: %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = y.run("orphans", "delete", "lb-gnoe", "--yes")
	if code != 2 || stdout != "" || !strings.Contains(stderr, `do you mean lb-gone`) {
		t.Errorf("by a name that none has: exit code %d: %s%s", code, stdout, stderr)
	}
	code, _, stderr = y.run("orphans", "delete", "lb-gone", left("by-hand"), "--yes")
	if code != 1 || !strings.Contains(stderr, "is no orphan of the scope c1") || left("lb-gone") == "" {
		t.Errorf("with one that is none: exit code %d: %s", code, stderr)
	}
	y.shows(header+gone+"Deleted 1 address.\n", "orphans", "delete", "198.51.100.100", "lb-gone", "--yes")
	if left("lb-gone") != "" || left("lb-old") == "" {
		t.Error("it was not this one that was deleted")
	}
	y.shows("There is no such orphan: nothing was changed.\n", "orphans", "delete", "--yes",
		"00000000-0000-4000-8000-000000000000")
	id := left("lb-old")
	code, stdout, stderr = y.raw("orphans", "delete", "--all", "--yes", "-o", "json")
	var message backendv1.DeleteOrphanedAddressResponse
	if err := protojson.Unmarshal([]byte(stdout), &message); err != nil || code != 0 ||
		len(message.GetActions()) != 1 || !strings.Contains(columns(stderr), old) {
		t.Errorf("in JSON: exit code %d, %v: %s%s", code, err, stdout, stderr)
	}
	y.shows("There is no such orphan: nothing was changed.\n", "orphans", "delete", "--yes", id)
	y.shows("There is no such orphan: nothing was changed.\n", "orphans", "delete", "--yes", "--all")
	y.shows("There is no orphaned address.\n", "orphans")
	if left("by-hand") == "" || len(y.rack.FloatingIPs()) != 3 {
		t.Errorf("left are %v", y.rack.FloatingIPs())
	}
}

// A sample that is made up, or old, teaches what nobody will see.
func TestSamplesInTheGuideAreWhatTheCommandsPrint(t *testing.T) {
	text, err := os.ReadFile("../../docs/guides/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	y := newYard(t)
	y.lead()
	samples := regexp.MustCompile("(?s)```console\n\\$ oxide-backend ([a-z]+)\n(.*?)```").
		FindAllStringSubmatch(string(text), -1)
	for _, sample := range samples {
		if command := sample[1]; command != "watch" { // its lines are held by the tests of watch
			y.shows(columns(sample[2]), command)
		}
	}
	if len(samples) != 5 {
		t.Errorf("found %d samples", len(samples))
	}
}
