// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// sort puts what has a problem first.
func (s *overview) sort() {
	slices.SortStableFunc(s.loadBalancers, func(a, b *backendv1.LoadBalancer) int {
		return cmp.Or(trouble(a)-trouble(b), compareKeys(a.GetKey(), b.GetKey()))
	})
}

// rowsOfInstances returns the instances of the project, and candidates that are none any more. Those
// that take no addresses come first, and those that are no candidates last.
func (s *overview) rowsOfInstances() []*backendv1.Instance {
	rows := slices.Clone(s.instances)
	for id := range s.candidates {
		if !slices.ContainsFunc(s.instances, func(i *backendv1.Instance) bool { return i.GetId() == id }) {
			rows = append(rows, &backendv1.Instance{Id: id})
		}
	}
	rank := func(i *backendv1.Instance) int {
		switch candidate := s.candidates[i.GetId()]; {
		case candidate == nil:
			return 3
		case candidate.GetReason() != "":
			return 0
		case candidate.GetLastChoice():
			return 1
		}
		return 2
	}
	slices.SortFunc(rows, func(a, b *backendv1.Instance) int {
		return cmp.Or(rank(a)-rank(b), cmp.Compare(s.names.instance(a.GetId()), s.names.instance(b.GetId())))
	})
	return rows
}

// table prints a status for people.
func (s *overview) table(w io.Writer) error {
	for _, problem := range s.problems {
		fmt.Fprintln(w, "Problem: "+problem)
	}
	head := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range s.head() {
		fmt.Fprintf(head, "%s\t%s\n", line[0], line[1])
	}
	if err := head.Flush(); err != nil {
		return err
	}
	if len(s.loadBalancers) > 0 {
		fmt.Fprintln(w)
		if err := printTable(w, loadBalancerHeader, s.loadBalancerRows()); err != nil {
			return err
		}
	}
	rows := s.instanceRows()
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return printTable(w, statusInstanceHeader, rows)
}

// head is what is said once.
func (s *overview) head() [][2]string {
	reached := "reached"
	if !s.reached {
		reached = "NOT REACHED, or it refuses the token or the project: see the backend's log, or run " +
			"oxide-backend check"
	}
	mode := "changes Oxide where a session desires it"
	if s.info.GetReadOnly() {
		mode = "read-only: it changes nothing in Oxide"
	}
	features := make([]string, len(s.info.GetFeatures()))
	for i, feature := range s.info.GetFeatures() {
		features[i] = cmp.Or(word(feature, "FEATURE_"), "unspecified")
	}
	slices.Sort(features)
	return [][2]string{
		{"Backend", fmt.Sprintf("%s, API revision %d", s.info.GetVersion(), s.info.GetApiRevision())},
		{"Oxide", fmt.Sprintf("%s (API %s)", reached, s.info.GetOxideApiVersion())},
		{"Silo", s.info.GetSilo().GetName()},
		{"Project", s.info.GetProject().GetName()},
		{"Mode", mode},
		{"Features", strings.Join(features, ", ")},
		{"Session", s.session()},
		{"Counts", s.counts()},
	}
}

// session says whose session is here.
func (s *overview) session() string {
	switch {
	case len(s.scopes) > 0 && s.inSync:
		return "of " + strings.Join(s.scopes, ", ")
	case len(s.scopes) > 0:
		return "of " + strings.Join(s.scopes, ", ") + ", not in sync yet"
	case s.asked != "" && len(s.info.GetActingScopes()) > 0:
		return "none of " + s.asked + " here, but of " + strings.Join(s.info.GetActingScopes(), ", ")
	}
	return "none here, since its client stands by or is not connected: the replica that leads knows more"
}

func (s *overview) counts() string {
	leftOver := countIf(s.loadBalancers, func(lb *backendv1.LoadBalancer) bool {
		return s.leftOver(lb) != ""
	})
	loadBalancers := counted(len(s.loadBalancers)-leftOver, "load balancer", "load balancers")
	if n := countIf(s.loadBalancers, hasTrouble); n > 0 {
		loadBalancers += fmt.Sprintf(" (%d with a problem)", n)
	}
	rows := s.rowsOfInstances()
	instances := counted(len(rows), "instance", "instances")
	if n := countIf(rows, func(i *backendv1.Instance) bool {
		return s.candidates[i.GetId()].GetReason() != ""
	}); n > 0 {
		instances += fmt.Sprintf(" (%d of them can carry no address)", n)
	}
	addresses := counted(len(s.addresses), "address", "addresses")
	var groups []string
	for _, group := range []string{ofLoadBalancers, ofOrphans, ofRetained, ofReservations, ofOthers} {
		if n := countIf(s.addresses, func(a *backendv1.Address) bool {
			return s.owners.group(a) == group
		}); n > 0 {
			groups = append(groups, fmt.Sprintf("%d %s", n, group))
		}
	}
	if len(groups) > 0 {
		addresses += " (" + strings.Join(groups, ", ") + ")"
	}
	return strings.Join([]string{
		s.atLeast(theLoadBalancers) + loadBalancers, s.atLeast(theInstances) + instances,
		s.atLeast(theAddresses) + addresses,
	}, "; ")
}

// atLeast stands before a number that is not known to be all.
func (s *overview) atLeast(what string) string {
	if s.listed[what] {
		return ""
	}
	return "at least "
}

func countIf[T any](all []T, is func(T) bool) (n int) {
	for _, one := range all {
		if is(one) {
			n++
		}
	}
	return n
}

var loadBalancerHeader = []string{"LOAD BALANCER", "STATE", "ADDRESS", "ON", "NOTE"}

func (s *overview) loadBalancerRows() [][]string {
	rows := make([][]string, len(s.loadBalancers))
	for i, lb := range s.loadBalancers {
		var addresses, places []string
		for _, address := range lb.GetAddresses() {
			addresses = append(addresses, addressText(address))
			places = append(places, s.names.place(address))
		}
		rows[i] = []string{
			s.names.loadBalancer(lb.GetKey()), s.state(lb), shortList(addresses), shortList(places),
			shortened(note(lb)),
		}
	}
	return rows
}

// state is how far a load balancer is; of one that is gone, what its addresses are.
func (s *overview) state(lb *backendv1.LoadBalancer) string {
	return cmp.Or(word(lb.GetPhase(), "PHASE_"), s.leftOver(lb))
}

// leftOver says what the addresses of a load balancer are that is gone; empty: it is not known to be.
func (s *overview) leftOver(lb *backendv1.LoadBalancer) string {
	for _, address := range lb.GetAddresses() {
		switch {
		case lb.GetPhase() != backendv1.Phase_PHASE_UNSPECIFIED:
		case address.GetRetained():
			return ofRetained
		case s.owners.orphans[address.GetResourceId()]:
			return ofOrphans
		}
	}
	return ""
}

var statusInstanceHeader = []string{"INSTANCE", "STATE", "HEALTHY", "CARRIES", "NOTE"}

func (s *overview) instanceRows() [][]string {
	carried := carriedBy(s.addresses)
	instances := s.rowsOfInstances()
	rows := make([][]string, len(instances))
	for i, instance := range instances {
		id := instance.GetId()
		candidate := s.candidates[id]
		healthy, why := "yes", candidate.GetReason()
		switch {
		case len(s.candidates) == 0:
			healthy = ""
		case candidate == nil:
			healthy, why = "-", "no node of the session"
		case why != "":
			healthy = "no"
		case candidate.GetLastChoice():
			why = "cordoned: it is the last choice"
		}
		state := runState(instance)
		if state == "" && s.listed[theInstances] {
			state = "gone"
		}
		rows[i] = []string{s.names.instance(id), state, healthy, shortList(carried[id]), why}
	}
	return rows
}
