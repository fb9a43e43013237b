// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package health

import (
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// Why a candidate is not healthy, where the client or Oxide's run state does not say it.
const (
	whyGone         = "has an instance that does not exist"
	whyState        = "has an instance that is "
	whyNotReady     = "is not Ready"
	whySilent       = "is not Ready: it is silent"
	whyUnreachable  = "does not answer, and its other sign of life is overdue"
	whyNoAnswer     = "does not answer"
	whyShuttingDown = "is shutting down"
	whyCordoned     = "was cordoned"
)

// finding is what one candidate is found to be by itself.
type finding struct {
	Health
	// since is when the client first observed the cause; zero where it does not say so.
	since time.Time
	// damped: it counts only once it has lasted for a while.
	damped bool
	// turned: only the client finds it not ready; Oxide does not show that its instance is off. If
	// many turn at once, the client may be what fails.
	turned bool
}

// find applies the rules in the order in which they win.
func find(o *Observation, instance Instance) finding {
	if o.Exclusion != "" {
		return excluded(o, instance)
	}
	if f, decided := byInstance(instance); decided {
		return f
	}
	serves := o.Readiness == Ready && !o.isUnreachable()
	switch {
	case o.OutOfService != "" && serves:
		return leaving(o.OutOfService)
	case o.OutOfService != "":
		return servesNothing(o.OutOfService)
	case o.Readiness == Unknown:
		f := servesNothing(whySilent)
		f.since, f.turned = begun(o, o.ReadinessFor), !o.ShuttingDown
		return f
	case o.isUnreachable():
		f := servesNothing(whyUnreachable)
		f.since, f.turned = begun(o, o.UnreachableFor), !o.ShuttingDown
		f.MayRecover = true
		return f
	case o.Readiness == NotReady && o.ShuttingDown:
		return leaving(whyShuttingDown)
	case o.Readiness == NotReady:
		f := servesNothing(whyNotReady)
		f.since, f.turned, f.damped = begun(o, o.ReadinessFor), true, true
		return f
	case o.Unreachable: // in doubt
		f := suspect(whyUnreachable)
		f.since, f.Suspended = begun(o, o.UnreachableFor), ProbesInDoubt
		return f
	case o.Silent:
		return suspect(whyNoAnswer)
	case o.Cordoned && o.CordonObserved:
		return finding{Health: Health{Health: plan.Draining, Why: whyCordoned, Planned: true}}
	}
	return finding{}
}

// excluded is about a candidate that must carry no address, whatever else is true of it; that its
// instance is off still decides how its addresses leave.
func excluded(o *Observation, instance Instance) finding {
	f := finding{Health: Health{Health: plan.Unhealthy}}
	if o.Readiness != Ready || o.isUnreachable() {
		f.ServesNothing = true
	}
	if of, decided := byInstance(instance); decided && of.ServesNothing {
		f.ServesNothing, f.Off = true, of.Off
	}
	f.Why = o.Exclusion
	return f
}

// byInstance applies what Oxide shows of the instance, which wins over what the client observes. A
// running instance, and one that is not known yet, decides nothing.
func byInstance(instance Instance) (f finding, decided bool) {
	if instance.Gone {
		f = servesNothing(whyGone)
		f.Off = true
		return f, true
	}
	switch instance.RunState {
	case oxide.RunStateStopped:
		f = servesNothing(whyState + instance.RunState)
		f.Off = true
	case oxide.RunStateFailed:
		// Oxide refuses to detach until it has restarted it.
		f = servesNothing(whyState + instance.RunState)
	case oxide.RunStateStopping, oxide.RunStateDestroyed:
		// Some racks show "destroyed" for a moment while an instance stops. What follows is "stopped" or
		// nothing at all, so the next place can be prepared.
		f = suspect(whyState + instance.RunState)
		f.PlanNext = true
	case oxide.RunStateCreating, oxide.RunStateStarting, oxide.RunStateRebooting,
		oxide.RunStateMigrating, oxide.RunStateRepairing:
		f = suspect(whyState + instance.RunState)
	default:
		return finding{}, false
	}
	return f, true
}

func suspect(why string) finding {
	return finding{Health: Health{Health: plan.Suspect, Why: why}}
}

func leaving(why string) finding {
	return finding{Health: Health{Health: plan.Leaving, Why: why, Planned: true}}
}

func servesNothing(why string) finding {
	return finding{Health: Health{Health: plan.Unhealthy, Why: why, ServesNothing: true}}
}

// begun is when what a client has observed for that long began.
func begun(o *Observation, observedFor time.Duration) time.Time {
	return o.ReceivedAt.Add(-max(0, observedFor))
}
