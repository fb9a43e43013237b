// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Which node has it, and why?
func TestAServiceIsExplained(t *testing.T) {
	s := newShop(t, 3)
	web := s.addressOf("shop/web")
	s.awaitShown("ready", "explain", "shop/web")
	s.shows([]string{
		"Service shop/web",
		"Phase ready",
		"NODE CHOSEN ADDRESSES WHY",
		"worker-1.example.com yes 2 " + web + " is there, and stays",
		"worker-2.example.com no 0 is not one that is eligible",
	}, "explain", "shop/web")
	_, stdout, _ := s.run("explain", "shop/web")
	for _, part := range []string{
		web + " (floating IP lb-shop-web", "), on worker-1.example.com\n", "firewall closed: ",
	} {
		if !strings.Contains(stdout, part) {
			t.Errorf("there is no %q in:\n%s", part, stdout)
		}
	}
	s.free()
	s.awaitShown("could carry it, but the address is on worker-1.example.com, and moves only if it has to",
		"explain", "infra/web")
	explained := inForm(s, new(backendv1.PlannedLoadBalancer), "explain", "shop/web")
	if explained.GetState().GetPhase() != backendv1.Phase_PHASE_READY || len(explained.GetVerdicts()) != 3 {
		t.Errorf("in JSON it is %v", explained)
	}

	// One that has no address says why, and which port is whose.
	late := aLoadBalancer("shop/late", 80)
	late.EligibleInstances = only(s.set, "has the label x")
	s.wants(late)
	s.awaitShown("port conflict: ", "explain", "late")
	s.shows([]string{
		"worker-1.example.com no 2 TCP 80 is held by infra/web",
		"worker-3.example.com no 0 is not one that has the label x",
	}, "explain", "late")
	if _, stdout, _ := s.run("explain", "late"); !strings.Contains(stdout, "attached nowhere\n") {
		t.Errorf("it is explained as\n%s", stdout)
	}

	for name, parts := range map[string][]string{
		"web":      {`there are 2 Services "web": give one of infra/web, shop/web`},
		"shop/wbe": {`there is no Service "shop/wbe": do you mean shop/web`},
		"lat":      {`there is no Service "lat": do you mean shop/late`},
		"billing":  {`there is no Service "billing"`, "type LoadBalancer", "infra/web,shop/late,shop/web"},
	} {
		s.refuses(2, parts, "explain", name)
	}
	s.refuses(2, []string{"give one Service, as NAMESPACE/NAME", "explain --help"}, "explain")
}

// What happens if this node is drained, or gone?
func TestAPlanShowsWhatWouldMove(t *testing.T) {
	s := newShop(t, 3)
	web, infra := s.addressOf("shop/web"), s.addressOf("infra/web")
	s.shows([]string{"Nothing would change."}, "plan")
	s.shows([]string{"Nothing would change."}, "plan", "--without", "machine-2", "--cordon=worker-3.example.com")

	// Nothing else may carry them.
	s.shows([]string{
		"No address would move.", "Without another place:", "LOAD BALANCER ADDRESS NODE WHY",
	}, "plan", "--cordon", "worker-1.example.com")
	_, stdout, _ := s.run("plan", "--cordon", "worker-1.example.com")
	for _, part := range []string{
		infra + "  worker-1.example.com  it stays: worker-", "worker-3.example.com: is not one that is eligible",
	} {
		if !strings.Contains(stdout, part) {
			t.Errorf("there is no %q in:\n%s", part, stdout)
		}
	}
	code, stdout, _ := s.run("plan", "--without", "worker-1.example.com")
	if code != 0 || !strings.Contains(stdout, "the address "+web+" stays on worker-1.example.com: no node ") {
		t.Errorf("without the only node: exit code %d:\n%s", code, stdout)
	}

	s.free()
	id := s.set.GetCandidates()[0].GetInstanceId()
	const gone, wasCordoned = "is no candidate any more", "was cordoned"
	for flag, why := range map[string]string{
		"--without=worker-1.example.com": gone, "--without=machine-1": gone, "--without=" + id: gone,
		"--cordon=machine-1": wasCordoned,
	} {
		s.awaitShown(why, "plan", flag)
		_, stdout, _ := s.run("plan", flag)
		for _, address := range []string{"infra/web      " + infra, "shop/web       " + web} {
			if !strings.Contains(stdout, address+"  worker-1.example.com  worker-") {
				t.Errorf("%s: there is no move of %s in:\n%s", flag, address, stdout)
			}
		}
		note := " gone"
		if why == wasCordoned {
			note = " 0 cordoned"
		}
		s.shows([]string{
			"NODE ADDRESSES THEN NOTE", "worker-1.example.com 2" + note,
			"worker-2.example.com 0 1", "worker-3.example.com 0 1",
		}, "plan", flag)
	}
	planned := inForm(s, new(backendv1.PlanLoadBalancersResponse), "plan", "--without", "machine-1,machine-2")
	if len(planned.GetActions()) != 4 || len(planned.GetCandidates()) != 1 {
		t.Errorf("in JSON it is %v", planned)
	}
	code, stdout, _ = s.run("plan", "--without=machine-1", "--without=machine-2", "--without=machine-3")
	if code != 0 || strings.Count(stdout, ": no node is a candidate") != 2 {
		t.Errorf("without any node: exit code %d:\n%s", code, stdout)
	}

	s.refuses(2, []string{`--without: there is no node "worker-4.example.com": do you mean worker-1.example.com or`},
		"plan", "--without", "worker-4.example.com")
	s.refuses(2, []string{`--cordon: there is no node "blue": the nodes are `, "worker-1.example.com"},
		"plan", "--cordon", "blue")
	s.refuses(2, []string{`no argument "worker-1"`, "plan --help"}, "plan", "worker-1")

	// What is due in any case is distinguished from what follows from the question.
	cordoned := proto.CloneOf(s.set.GetCandidates()[1])
	cordoned.Readiness = backendv1.Readiness_READINESS_UNKNOWN
	s.send(&backendv1.SyncLoadBalancersRequest{
		Item: &backendv1.SyncLoadBalancersRequest_Candidate{Candidate: cordoned},
	})
	s.awaitShown("is not Ready: it is silent", "explain", "shop/web")
	s.shows([]string{"worker-3.example.com 0 2"}, "plan", "--without", "machine-1")
	late := aLoadBalancer("shop/late", 80)
	late.EligibleInstances = only(s.set, "has the label x")
	s.wants(late)
	s.awaitShown("shop/late", "plan")
	s.awaitShown("in any case  the address ", "plan", "--cordon", "machine-3")
	if len(s.rack.FloatingIPs()) != 3 || s.addressOf("shop/web") != web {
		t.Error("a plan has changed something")
	}
}

// Moves interrupt connections, so they are made only when somebody has seen them and says so.
func TestARebalanceIsShownBeforeItIsMade(t *testing.T) {
	s := newShop(t, 2)
	s.shows([]string{"Nothing would change: the addresses are spread as evenly as they can be."}, "rebalance")
	on := func() (n int) {
		for _, ip := range s.rack.FloatingIPs() {
			if ip.InstanceID == s.set.GetCandidates()[0].GetInstanceId() {
				n++
			}
		}
		return n
	}
	s.free()
	s.awaitShown("This is a dry run: nothing was changed.", "rebalance", "--dry-run")
	s.shows([]string{"LOAD BALANCER ADDRESS FROM TO WHY"}, "rebalance", "--dry-run")
	planned := inForm(s, new(backendv1.RebalanceLoadBalancersResponse), "rebalance", "--dry-run")
	if len(planned.GetActions()) != 2 {
		t.Errorf("in JSON it is %v", planned)
	}
	code, stdout, stderr := s.run("rebalance")
	if code != 2 || !strings.Contains(stdout, " worker-2.example.com ") || !strings.Contains(stderr, "--yes") {
		t.Errorf("without a terminal: exit code %d: %s%s", code, stdout, stderr)
	}
	if strings.Contains(s.log.String(), "RebalanceLoadBalancers") {
		t.Error("it moves without a word")
	}
	code, stdout, stderr = s.run("rebalance", "--yes")
	if code != 0 || !strings.Contains(stdout, "reason=AddressMoved") || stderr != "" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	s.await("the move", func() bool { return on() == 1 })
}

// Without a session there is nothing to plan, and scripts go by the exit code.
func TestPlansAreAskedForWhereTheSessionIs(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	s := &shop{process: start(t, rack.URL)}
	s.awaitReady()
	for _, args := range [][]string{{"plan"}, {"explain", "shop/web"}, {"rebalance", "--yes"}} {
		s.refuses(3, []string{"no session runs in this oxide-backend", "the replica that leads"}, args...)
		s.refuses(3, []string{"c1"}, append(args, "--scope=c1")...)
	}
}

// The samples of plans in the guide are of this cluster.
func TestSamplesOfPlansInTheGuideAreWhatTheCommandsPrint(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	set := aCluster(t, rack, 3, func(i int) string { return fmt.Sprintf("worker-%d", i) })
	set.GetCandidates()[2].ExclusionReason = "has the label node.kubernetes.io/exclude-from-external-load-balancers"
	s := &shop{process: start(t, rack.URL, "--manage-firewall"), rack: rack.Simulator, set: set}
	s.awaitReady()
	s.stream = openSession(t, backendv1.NewLoadBalancerServiceClient(s.conn), set)
	for i, name := range []string{"infra/dns", "infra/gateway", "shop/api", "shop/web"} {
		lb := aLoadBalancer(name, []int32{53, 443, 8443, 80}[i])
		lb.OpenFirewall, lb.EligibleInstances = true, only(set, "")
		s.wants(lb)
		set.LoadBalancers = append(set.LoadBalancers, lb)
		s.attached(i + 1)
	}
	late := aLoadBalancer("shop/late", 443)
	late.OpenFirewall, late.EligibleInstances = true, only(set, "has the label zone=a")
	s.wants(late)
	s.awaitShown("198.51.100.15", "explain", "late")
	s.free()
	s.awaitShown("moves only if it has to", "explain", "shop/web")
	s.awaitShown("Phase      ready", "explain", "shop/web")
	s.awaitShown("No address would move.", "plan")

	text, err := os.ReadFile("../../docs/guides/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	samples := regexp.MustCompile("(?s)```console\n\\$ oxide-backend ([a-z]+ [^\n]+)\n(.*?)```").
		FindAllStringSubmatch(string(text), -1)
	for _, sample := range samples {
		var lines []string
		for line := range strings.Lines(sample[2]) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		s.shows(lines, strings.Fields(sample[1])...)
	}
	if len(samples) != 4 {
		t.Errorf("found %d samples", len(samples))
	}
}
