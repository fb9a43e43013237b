// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command vip has one address follow the healthy member of a group of virtual machines:
//
//	vip --group web --port 443 --check 'nc -z -w 1 "$ADDRESS" 443'
//
// The members are the instances of an anti-affinity group; the check says by its exit code whether one
// answers. The backend reserves the address, decides where it is, and moves it. It stays when vip ends.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

var (
	socket   = flag.String("socket", "/run/oxide/backend/backend.sock", "the backend's unix socket")
	group    = flag.String("group", "", "the anti-affinity group whose instances are the members")
	port     = flag.Int("port", 443, "the TCP port that they serve")
	check    = flag.String("check", "true", "exits 0 if the member $NAME at $ADDRESS answers")
	interval = flag.Duration("interval", time.Second, "how often each member is checked")
)

func main() {
	flag.Parse()
	if *group == "" || *interval <= 0 {
		log.Fatal("vip: name the anti-affinity group of the members with --group; --interval is above 0")
	}
	conn, err := client.Dial(*socket)
	if err != nil {
		log.Fatal("vip: ", err)
	}
	// One scope for each group: of several processes the newest one acts.
	key := &backendv1.LoadBalancerKey{Scope: "vip-" + *group, Name: *group}
	session := client.NewSession(client.SessionConfig{
		Conn: conn, Open: &backendv1.OpenSession{Scope: key.GetScope()},
		Handler: client.Handler{
			Action: func(a *backendv1.Action) { log.Print(a.GetSummary()) },
			State: func(s *backendv1.LoadBalancerState) {
				log.Print(s.GetPhase(), ": ", s.GetExplanation(), s.GetProblem().GetMessage(), s.GetConditions())
			},
			Disconnected: func(err error) { log.Print(err) },
		},
	})
	session.SetLoadBalancer(&backendv1.DesiredLoadBalancer{
		Key: key, OwnerUid: "vip", NoPublication: true,
		Ports: []*backendv1.Port{{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: int32(*port)}},
		Addresses: []*backendv1.DesiredAddress{{
			Family: backendv1.IpFamily_IP_FAMILY_IPV4,
			Source: &backendv1.DesiredAddress_FloatingIp{FloatingIp: new(backendv1.FloatingIpSource)},
		}},
	})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		defer stop()
		members := make(map[string]member)
		for tick := time.Tick(*interval); ctx.Err() == nil; <-tick {
			observe(ctx, backendv1.NewInstanceServiceClient(conn), session, members)
		}
	}()
	if err := session.Run(ctx); err != nil {
		log.Fatal("vip: ", err) // another process has the scope now
	}
}

type member struct {
	answers bool
	since   time.Time // when it began to answer, or not to
}

// observe checks all members and reports what it saw; what follows from that is for the backend to say.
func observe(ctx context.Context, instances backendv1.InstanceServiceClient, session *client.Session,
	members map[string]member,
) {
	request := &backendv1.ListInstancesRequest{AntiAffinityGroups: []string{*group}, PageSize: 1000}
	list, err := instances.ListInstances(ctx, request)
	if err != nil {
		log.Print(err) // nothing is known, so nothing is reported
		return
	}
	var checks sync.WaitGroup
	var up atomic.Int32
	answers, now := make(map[string]*atomic.Bool), time.Now()
	for _, instance := range list.GetInstances() {
		answer := new(atomic.Bool)
		answers[instance.GetId()] = answer
		checks.Go(func() {
			if passes(ctx, instance) {
				answer.Store(true)
				up.Add(1)
			}
		})
	}
	if checks.Wait(); ctx.Err() != nil {
		return // they failed because vip ends
	}
	for id := range members {
		if answers[id] == nil {
			delete(members, id)
			session.RemoveCandidate(id)
		}
	}
	for id, answer := range answers {
		m, known := members[id]
		if !known || m.answers != answer.Load() {
			m = member{answers: answer.Load(), since: now}
			members[id] = m
		}
		seen := &backendv1.Candidate{InstanceId: id, Readiness: backendv1.Readiness_READINESS_READY}
		switch {
		case m.answers:
			seen.Reachability = backendv1.Reachability_REACHABILITY_REACHABLE
		case m.since.Equal(now): // the first check that failed
			seen.Reachability = backendv1.Reachability_REACHABILITY_SILENT
		default: // where most others are silent too, the fault may be here
			seen.Reachability = backendv1.Reachability_REACHABILITY_UNREACHABLE
			seen.ReachabilityInDoubt = 2*int(up.Load()) < len(answers)-1
		}
		session.SetCandidate(seen, time.Time{}, m.since)
	}
	session.MarkSynced()
}

// passes runs the check of one member.
func passes(ctx context.Context, instance *backendv1.Instance) bool {
	ctx, cancel := context.WithTimeout(ctx, *interval)
	defer cancel()
	command := exec.CommandContext(ctx, "sh", "-c", *check)
	command.Env = append(os.Environ(), "NAME="+instance.GetName())
	for _, nic := range instance.GetNetworkInterfaces() {
		if addresses := nic.GetAddresses(); nic.GetPrimary() && len(addresses) > 0 {
			command.Env = append(command.Env, "ADDRESS="+addresses[0])
		}
	}
	return command.Run() == nil
}
