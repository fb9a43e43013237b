// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	// promptProofs is how often a proof is tried as often as the framework asks, although nothing could
	// be concluded from the absence of an instance. After that, once in proofInterval.
	promptProofs  = 3
	proofInterval = time.Minute
)

// unprovenAbsences are the Nodes whose instance is not found while that proves nothing: each question
// costs direct reads, and the framework asks every five seconds for as long as such a Node is there. It
// may be used concurrently.
type unprovenAbsences struct {
	mu     sync.Mutex
	byNode map[types.UID]unproven
}

// unproven is why the absence of the instance of a Node proves nothing.
type unproven struct {
	// about is all that the judgement was about: once that is another, the question is, too.
	about string
	count int
	until time.Time
	err   error
}

// pending returns what was found last, if it is too early to ask again; nil: it is not.
func (d *unprovenAbsences) pending(node *v1.Node, about string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.byNode[node.UID]
	if !ok || known.about != about || !time.Now().Before(known.until) {
		return nil
	}
	return known.err
}

// note records what was found.
func (d *unprovenAbsences) note(node *v1.Node, about string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.byNode[node.UID]
	if known.about != about {
		known = unproven{about: about}
	}
	known.err = err
	if known.count++; known.count >= promptProofs {
		known.until = time.Now().Add(proofInterval)
	}
	if d.byNode == nil {
		d.byNode = make(map[types.UID]unproven)
	}
	d.byNode[node.UID] = known
}

// forget forgets a Node that is gone, or whose instance was found.
func (d *unprovenAbsences) forget(uid types.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.byNode, uid)
}

// judgedBy is all that a judgement about a Node goes by.
func judgedBy(node *v1.Node, proof *backendv1.AbsenceProof, unprovable error) string {
	return fmt.Sprint(node.Spec.ProviderID, node.Status.NodeInfo.SystemUUID, IsJoining(node),
		node.Labels[LabelSiloID], node.Labels[LabelProjectID],
		slices.Sorted(slices.Values(proof.GetWitnessInstanceIds())), unprovable)
}
