// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package health

import (
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

// Readiness is whether a candidate can serve, as a client observes it.
type Readiness int

// The readinesses of a candidate.
const (
	Unknown Readiness = iota
	Ready
	NotReady
)

// Observation is what a client observes of a candidate, and when that was received.
type Observation struct {
	InstanceID string
	// Name is the name by which people know it.
	Name      string
	Readiness Readiness
	// ReadinessFor is for how long the client had observed it when the observation was received.
	ReadinessFor time.Duration
	// Unreachable: the client's own probe does not reach it, and a second sign of life is overdue.
	// InDoubt: its own network may be what fails, so nothing follows from that.
	Unreachable, InDoubt bool
	UnreachableFor       time.Duration
	// Silent: it has ceased to answer that probe, and the second sign of life is not overdue yet.
	Silent bool
	// Exclusion and OutOfService say why it must carry no address, and why it is being taken out of
	// service, in words that follow its name; empty: no.
	Exclusion, OutOfService  string
	Cordoned, CordonObserved bool
	ShuttingDown             bool
	LeastPreferred           bool
	Used                     []plan.UsedPort
	// ReceivedAt is when it was received.
	ReceivedAt time.Time
}

// isUnreachable reports whether something follows from the client's probe.
func (o *Observation) isUnreachable() bool { return o.Unreachable && !o.InDoubt }

// Instance is what Oxide shows of a candidate's instance.
type Instance struct {
	// RunState is the run state in Oxide's words; empty: it is not known yet.
	RunState string
	// Gone: a direct read has found that there is no such instance.
	Gone bool
}

// Health is what a candidate may be used for, and why.
type Health struct {
	plan.Health
	// Why is why it is not healthy, in words that follow its name; empty if it is.
	Why string
	// Since is when the cause was first observed; zero if it is healthy.
	Since time.Time
	// ServesNothing: nothing is served there, so an address that is detached loses nothing, and the pause
	// between two moves does not apply, unless MayRecover: it may serve again within seconds.
	ServesNothing, MayRecover bool
	// Off: its instance is stopped or gone: publication and detachment need not wait for each other.
	Off bool
	// Planned: it is taken out of service while it lives: its addresses leave one at a time.
	Planned bool
	// PlanNext: its instance is stopping: the next place of its addresses is published already.
	PlanNext bool
	// Suspended is why it is not unhealthy, as it would be otherwise.
	Suspended Suspension
}

// Suspension is why failover off a candidate is suspended.
type Suspension int

// The reasons for which failover is suspended.
const (
	NotSuspended Suspension = iota
	// MassFailure: more than half of the candidates turned not ready within a minute.
	MassFailure
	// ProbesInDoubt: the client's own network may be what fails.
	ProbesInDoubt
)
