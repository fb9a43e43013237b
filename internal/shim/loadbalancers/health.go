// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	// notReadyPatience is how long a Node may say itself that it is not ready before its addresses
	// move: a kubelet that restarts says so for a moment. One that is silent (Ready=Unknown) has been
	// so for a while already.
	notReadyPatience = 20 * time.Second

	// massWindow and massHold are about many Nodes that turn not ready within a short time while
	// their instances run: then the control plane may be what fails, and nothing is moved for a while.
	massWindow = time.Minute
	massHold   = 2 * time.Minute
)

// Instances tells what is known of instances.
type Instances interface {
	Instance(id string) *backendv1.Instance
	Complete() bool
	Subscribe(changed func(id string))
}

// verdict is what a Node may be used for.
type verdict struct {
	health backendv1.CandidateHealth
	// why is said of the Node where it is not healthy, for example "is not Ready".
	why string
	// dead: nothing is served there, so an address that is moved away loses nothing.
	dead bool
	// since is when what is wrong was first seen.
	since time.Time
	// held: the Node would be unhealthy, if not so many others were, too.
	held bool
	// silenced: only the Node is not ready; Oxide shows its instance running.
	silenced bool
}

func healthy() verdict {
	return verdict{health: backendv1.CandidateHealth_CANDIDATE_HEALTH_HEALTHY}
}

func suspect(why string) verdict {
	return verdict{health: backendv1.CandidateHealth_CANDIDATE_HEALTH_SUSPECT, why: why}
}

func unhealthy(why string, dead bool) verdict {
	return verdict{health: backendv1.CandidateHealth_CANDIDATE_HEALTH_UNHEALTHY, why: why, dead: dead}
}

// healthJudge judges Nodes by what they say and by what Oxide says of their instances, with damping.
type healthJudge struct {
	instances Instances
	// timeScale multiplies the durations above; 0 means 1.
	timeScale float64

	mu sync.Mutex
	// wrong is since when the same has been wrong with each Node, by name.
	wrong map[string]wrong
	// holdFrom and holdUntil bound the hold; Nodes that turned not ready before it are not held.
	holdFrom, holdUntil time.Time
}

type wrong struct {
	why   string
	since time.Time
}

// judge returns a verdict for each Node, by name, and when it may be another one although nothing is
// changed; zero: never.
func (j *healthJudge) judge(nodes []*v1.Node) (map[string]verdict, time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	patience, window := scaled(notReadyPatience, j.timeScale), scaled(massWindow, j.timeScale)
	verdicts := make(map[string]verdict, len(nodes))
	seen := make(map[string]wrong, len(nodes))
	var next time.Time
	soonest := func(at time.Time) {
		if at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	var turned []string
	candidates, turnedLately := 0, 0
	for _, node := range nodes {
		v, candidate := j.first(node)
		if v.why != "" {
			v.since = now
			if before := j.wrong[node.Name]; before.why == v.why {
				v.since = before.since
			} else if at, known := turnedAt(node); v.silenced && known && at.Before(now) {
				v.since = at
			}
			seen[node.Name] = wrong{v.why, v.since}
		}
		if candidate {
			candidates++
		}
		if v.silenced {
			turned = append(turned, node.Name)
			if since := now.Sub(v.since); since < window {
				turnedLately++
			}
			if v.why == notReady && now.Sub(v.since) < patience {
				v.health = backendv1.CandidateHealth_CANDIDATE_HEALTH_SUSPECT
				soonest(v.since.Add(patience))
			}
		}
		verdicts[node.Name] = v
	}
	j.wrong = seen
	if turnedLately*2 > candidates && !now.Before(j.holdUntil) {
		j.holdFrom, j.holdUntil = now.Add(-window), now.Add(scaled(massHold, j.timeScale))
	}
	if len(turned)*2 <= candidates {
		j.holdUntil = time.Time{}
	}
	if now.Before(j.holdUntil) {
		soonest(j.holdUntil)
		for _, name := range turned {
			if v := verdicts[name]; v.since.After(j.holdFrom) {
				v.health, v.held = backendv1.CandidateHealth_CANDIDATE_HEALTH_SUSPECT, true
				verdicts[name] = v
			}
		}
	}
	return verdicts, next
}

const (
	notReady = "is not Ready"
	silent   = "is not Ready: its kubelet is silent"
)

// first judges a Node by what it is now, and tells whether it is one that may carry addresses at all.
func (j *healthJudge) first(node *v1.Node) (v verdict, candidate bool) {
	if why := unfit(node); why != "" {
		return unhealthy(why, false), false
	}
	id, _ := provider.InstanceID(node)
	v, running := j.ofInstance(id)
	if v.health == backendv1.CandidateHealth_CANDIDATE_HEALTH_UNHEALTHY {
		return v, true
	}
	switch readiness(node) {
	case v1.ConditionTrue:
		return v, true
	case v1.ConditionFalse:
		v = unhealthy(notReady, true)
	default:
		v = unhealthy(silent, true)
	}
	v.silenced = running
	return v, true
}

// ofInstance judges by the state of the instance, and tells whether that is running, as far as is
// known.
func (j *healthJudge) ofInstance(id string) (v verdict, running bool) {
	instance := j.instances.Instance(id)
	switch {
	case instance == nil && j.instances.Complete():
		return unhealthy("has an instance that Oxide does not list", true), false
	case instance == nil:
		return healthy(), true
	}
	switch instance.GetRunState() {
	case backendv1.RunState_RUN_STATE_STOPPED, backendv1.RunState_RUN_STATE_FAILED,
		backendv1.RunState_RUN_STATE_DESTROYED:
		return unhealthy("has an instance that is "+instance.GetRunStateText(), true), false
	case backendv1.RunState_RUN_STATE_CREATING, backendv1.RunState_RUN_STATE_STARTING,
		backendv1.RunState_RUN_STATE_STOPPING, backendv1.RunState_RUN_STATE_REBOOTING,
		backendv1.RunState_RUN_STATE_MIGRATING, backendv1.RunState_RUN_STATE_REPAIRING:
		return suspect("has an instance that is " + instance.GetRunStateText()), false
	}
	return healthy(), true
}

// readiness is what a Node, or the control plane for it, says of its readiness.
func readiness(node *v1.Node) v1.ConditionStatus {
	if i := slices.IndexFunc(node.Status.Conditions, isReadyCondition); i >= 0 {
		return node.Status.Conditions[i].Status
	}
	return v1.ConditionUnknown
}

func isReadyCondition(c v1.NodeCondition) bool { return c.Type == v1.NodeReady }

// turnedAt is when the readiness of a Node became what it is.
func turnedAt(node *v1.Node) (time.Time, bool) {
	i := slices.IndexFunc(node.Status.Conditions, isReadyCondition)
	if i < 0 {
		return time.Time{}, false
	}
	return node.Status.Conditions[i].LastTransitionTime.Time, true
}
