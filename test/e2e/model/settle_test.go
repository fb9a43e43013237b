// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// settle waits until everything is as it has to be, and stays so when the programs look again. It
// returns what is then.
func (w *world) settle(ctx context.Context) (snapshot, problems, error) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	var s snapshot
	var missing problems
	nudgedAt := time.Now()
	for ctx.Err() == nil {
		if err := w.alive(ctx); err != nil {
			return s, nil, err
		}
		now, err := w.look(ctx)
		if err != nil {
			break
		}
		s = now
		var always problems
		w.checkAlways(&always, s)
		if len(always) > 0 {
			return s, always, nil
		}
		if missing = w.unsettled(s); len(missing) == 0 {
			if err := w.awaitLook(ctx); err != nil {
				return s, nil, err
			}
			again, err := w.look(ctx)
			if err != nil {
				break
			}
			s = again
			if missing = w.unsettled(s); len(missing) == 0 &&
				slices.Equal(w.steady(now), w.steady(again)) {
				return s, nil, nil
			}
			continue
		}
		if time.Since(nudgedAt) > nudgeInterval {
			nudgedAt = time.Now()
			_ = w.nudge(ctx)
			_ = w.detachLeft(ctx, s)
			w.writeForeignAgain(ctx, s)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return s, append(missing, problem{converges, "it did not within " + settleLimit.String()}), nil
}

// detachLeft does what the event AddressLeftAttached advises, as the owner of an address would: one that
// an ending Service had borrowed and could not return is known to nobody once the programs were killed
// meanwhile, for it has no marker.
func (w *world) detachLeft(ctx context.Context, s snapshot) error {
	events, err := w.cluster.Client.CoreV1().Events(metav1.NamespaceAll).List(ctx,
		metav1.ListOptions{FieldSelector: "reason=AddressLeftAttached"})
	if err != nil {
		return err
	}
	for _, event := range events.Items {
		v := w.services[event.InvolvedObject.Name]
		if v == nil || isLive(v) {
			continue
		}
		for _, name := range append(v.returns, v.borrows) {
			ip, there := s.named(name)
			if there && ip.AttachState == rack.Attached && !w.isBorrowed(s, name) &&
				strings.Contains(event.Message, "the floating IP "+name+" ") {
				err = errors.Join(err, w.rack.Detach(ctx, rack.FloatingIP{Name: name}))
			}
		}
	}
	return err
}

// alive begins programs again that have lost their lease, as a kubelet would.
func (w *world) alive(ctx context.Context) error {
	var exit *process.ExitError
	if !errors.As(w.ccm.Shim.Err(), &exit) {
		return errors.Join(w.ccm.Backend.Err())
	}
	if !strings.Contains(strings.Join(exit.Tail, "\n"), "lost") {
		return exit
	}
	w.ended++
	w.forgetCordons()
	return w.ccm.StartShim(ctx)
}

// nudge makes the programs look again, and try once more to release what Services leave: where that
// has failed the framework waits longer and longer.
func (w *world) nudge(ctx context.Context) error {
	w.nudges++
	patches := map[string]map[string]string{nudged: nudgeAnnotations(w.nudges)}
	for name, v := range w.services {
		if !isLive(v) {
			patches[name] = map[string]string{"nudge": strconv.Itoa(w.nudges)}
		}
	}
	var nudgedErr error
	for name, annotations := range patches {
		err := w.patch(ctx, name, map[string]any{
			"metadata": map[string]any{"annotations": annotations},
		})
		if name == nudged {
			nudgedErr = err
		}
	}
	return nudgedErr
}

// nudgeAnnotations have a Service ask for a floating IP and an external subnet that there are not,
// others each time.
func nudgeAnnotations(count int) map[string]string {
	name := fmt.Sprint("nudge-", count)
	return map[string]string{
		sourceAnnotation:   floatingIP + "," + externalSubnet,
		existingAnnotation: name, "oxide.computer/existing-external-subnet": name,
	}
}

// awaitLook waits until the programs have read all addresses again, twice: a look that had begun
// before may be the first.
func (w *world) awaitLook(ctx context.Context) error {
	for range 2 {
		before, err := w.people.lists(ctx)
		if err != nil {
			return err
		}
		nudgedAt := time.Time{}
		err = process.Await(ctx, func(ctx context.Context) (bool, error) {
			if time.Since(nudgedAt) > nudgeInterval {
				nudgedAt = time.Now()
				if err := w.nudge(ctx); err != nil {
					return false, err
				}
			}
			now, err := w.people.lists(ctx)
			return now[0] > before[0] && now[1] > before[1], err
		})
		if err != nil {
			return fmt.Errorf("nobody looks: %w", err)
		}
	}
	return nil
}

// awaitRest waits until each address that is stuck was seen at rest, between two attempts to take
// it off. One whose detachment was cut off by a restart of Nexus is not, until Nexus takes that up
// half a minute later and finishes it, whoever is there.
func (w *world) awaitRest(ctx context.Context) error {
	rested := make(map[string]bool)
	return process.Await(ctx, func(ctx context.Context) (bool, error) {
		state, err := w.rack.State(ctx)
		all := true
		for _, ip := range state.Carried() {
			rested[ip.ID] = rested[ip.ID] || ip.AttachState == rack.Attached
			all = all && (rested[ip.ID] || !w.isStuck(snapshot{rack: state}, ip))
		}
		return all, err
	})
}
