// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"errors"
	"fmt"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// Proof is what must hold besides Oxide's 404 before an instance counts as gone for somebody who
// would destroy something on it.
type Proof struct {
	// SiloID and ProjectID are where the instance was seen while it existed.
	SiloID, ProjectID string
	// Witnesses are ids of other instances that should exist. One of them must be visible.
	Witnesses []string
}

// maxWitnesses bounds the reads of a proof.
const maxWitnesses = 5

// NotProvenError means that an instance was not found, but that this proves nothing.
type NotProvenError struct {
	// Why names the part of the proof that failed, in one line.
	Why string
}

// Error implements error.
func (e *NotProvenError) Error() string {
	return "the instance was not found, but that is no proof that it is gone: " + e.Why
}

// absence makes of Oxide's 404 for an instance what it is worth. Oxide answers 404 for everything
// that the token may not read, so the project is read first: only if that succeeds, the instance is
// not there.
func (f *Finder) absence(
	ctx context.Context, identity oxide.Identity, instance string, err error,
) error {
	if !oxide.IsKind(err, oxide.KindNotFound) {
		return err
	}
	if err := f.api.ProjectReadable(ctx, identity.ProjectID); err != nil {
		return err
	}
	return fmt.Errorf("instance %s %w", instance, ErrNotFound)
}

// ProveAbsent looks for an instance by id and returns ErrNotFound only if it is gone beyond doubt:
// the credentials belong to the silo and the backend works in the project that the instance was seen
// in; another instance is still visible; Oxide answers 404 ObjectNotFound to a direct read by id; and
// after that the project can be read by id. If the instance exists it is returned; whatever else
// happens is another error.
//
// The instance is looked up first, because it exists as a rule, and read at the end: a 404 counts only
// between two successful reads of the project, so that a token that is replaced meanwhile cannot
// make evidence of two halves.
func (f *Finder) ProveAbsent(
	ctx context.Context, id string, proof Proof, view View,
) (Instance, error) {
	found, err := f.ByID(ctx, id, view)
	if !errors.Is(err, ErrNotFound) {
		return found, err
	}
	identity, err := f.api.ReadIdentity(ctx)
	switch {
	case oxide.IsKind(err, oxide.KindProjectNotFound):
		return Instance{}, &NotProvenError{"the project cannot be read either"}
	case err != nil:
		return Instance{}, err
	case identity.SiloID != proof.SiloID:
		return Instance{}, &NotProvenError{fmt.Sprintf(
			"it was seen in the silo %s, but the token belongs to the silo %s (%s)",
			proof.SiloID, identity.SiloID, identity.SiloName)}
	case identity.ProjectID != proof.ProjectID:
		return Instance{}, &NotProvenError{fmt.Sprintf(
			"it was seen in the project %s, but oxide-project names the project %s (%s)",
			proof.ProjectID, identity.ProjectID, identity.ProjectName)}
	}
	if err := f.witnessed(ctx, id, proof); err != nil {
		return Instance{}, err
	}
	return f.readByID(ctx, identity, id, view)
}

// witnessed returns nil if one of the witnesses is visible in the project.
func (f *Finder) witnessed(ctx context.Context, id string, proof Proof) error {
	asked := 0
	for _, witness := range proof.Witnesses {
		if witness == id || asked == maxWitnesses {
			continue
		}
		asked++
		other, err := f.api.InstanceByID(ctx, witness)
		switch {
		case err == nil && other.ProjectID == proof.ProjectID:
			return nil
		case err != nil && !oxide.IsKind(err, oxide.KindNotFound):
			return err
		}
	}
	if asked == 0 {
		return &NotProvenError{"no other instance was named that could bear witness"}
	}
	return &NotProvenError{fmt.Sprintf("none of %d other instances is visible either", asked)}
}
