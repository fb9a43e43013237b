// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/coalesce"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const (
	// ephemeralMaxAge bounds the age of ephemeral addresses, which only a request per instance
	// shows, from below; up to as much again is added, so that instances that came together are
	// not read again together.
	ephemeralMaxAge = 3 * time.Hour
	// ephemeralRetry is how long known ephemeral addresses are used on once they could not be
	// read again.
	ephemeralRetry = 5 * time.Minute
)

// ephemeral is what the list of external IPs of one instance says.
type ephemeral struct {
	ips []oxide.ExternalIP
	// due is when they are read again.
	due time.Time
}

// ephemeralOf returns the ephemeral addresses of an instance. They are read when it is seen for the
// first time, so no address is published without them, and then rarely. Callers that come at the
// same time share one reading, which outlives any of them.
func (i *Inventory) ephemeralOf(ctx context.Context, id string) ([]oxide.ExternalIP, error) {
	i.mu.Lock()
	known, ok := i.ephemerals[id]
	i.mu.Unlock()
	if ok && time.Now().Before(known.due) {
		return known.ips, nil
	}
	doing := "read the external IPs of instance " + id
	if ctx.Err() != nil {
		return nil, &oxide.Error{Operation: doing, Kind: oxide.KindEnded, Err: ctx.Err()}
	}
	flight := i.flights.DoChan(id, func() (any, error) {
		readCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), coalesce.Timeout)
		defer cancel()
		return i.readEphemeral(readCtx, id)
	})
	select {
	case result := <-flight:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.([]oxide.ExternalIP), nil
	case <-ctx.Done():
		return nil, &oxide.Error{Operation: doing, Kind: oxide.KindEnded, Err: ctx.Err()}
	}
}

func (i *Inventory) readEphemeral(ctx context.Context, id string) ([]oxide.ExternalIP, error) {
	began := time.Now()
	all, err := i.api.ExternalIPs(ctx, id)
	if err != nil {
		return i.keepEphemeral(id, began, err)
	}
	fresh := ephemeral{due: began.Add(ephemeralMaxAge + jitter(id))}
	for _, ip := range all {
		switch ip.Kind {
		case oxide.ExternalIPEphemeral:
			fresh.ips = append(fresh.ips, ip)
		case oxide.ExternalIPFloating, oxide.ExternalIPSNAT:
		default:
			i.tellOnce("kind "+string(ip.Kind), "Oxide lists an external IP of a kind that this "+
				"release does not know; it is left out", "kind", ip.Kind, "instance", id)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ephemerals[id] = fresh
	return fresh.ips, nil
}

// keepEphemeral goes on with the addresses that are known, if there was a reading before this one
// that failed. An instance that is not found has none to go on with.
func (i *Inventory) keepEphemeral(
	id string, began time.Time, err error,
) ([]oxide.ExternalIP, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	known, ok := i.ephemerals[id]
	if !ok || oxide.IsKind(err, oxide.KindNotFound) {
		return nil, err
	}
	slog.Warn("could not read ephemeral addresses again; those that are known stay",
		"instance", id, "error", err)
	known.due = began.Add(ephemeralRetry)
	i.ephemerals[id] = known
	return known.ips, nil
}

// knownEphemerals returns what is remembered of an instance's ephemeral addresses, and whether that
// is still fresh.
func (i *Inventory) knownEphemerals(id string) (ips []oxide.ExternalIP, known bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	e, known := i.ephemerals[id]
	return e.ips, known && time.Now().Before(e.due)
}

// countEphemerals returns how many ephemeral addresses an instance has, if they were ever read.
func (i *Inventory) countEphemerals(id string) (count int, known bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	e, known := i.ephemerals[id]
	return len(e.ips), known
}

// jitter is a fixed share of ephemeralMaxAge for each instance.
func jitter(id string) time.Duration {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(id))
	return time.Duration(float64(ephemeralMaxAge) * float64(hash.Sum32()) / (1 << 32))
}
