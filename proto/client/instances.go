// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// firstWatchRetry and lastWatchRetry bound the pauses between streams of instances. Nothing that is
// urgent depends on them.
const (
	firstWatchRetry = time.Second
	lastWatchRetry  = 30 * time.Second
)

// InstanceWatchConfig is what an InstanceWatch is made of. Its functions are called by the goroutine
// of Run, one at a time, and are optional.
type InstanceWatchConfig struct {
	// Service is the backend's. REQUIRED.
	Service backendv1.InstanceServiceClient

	// IncludeRack asks for the racks of the instances, too.
	IncludeRack bool

	// Changed is called with the id of each instance that is new, changed, or not listed any more.
	Changed func(id string)

	// Synced is called when all instances are known as a stream has listed them.
	Synced func()

	// Disconnected is called when a stream has ended or could not be opened, unless the context of
	// Run ended it.
	Disconnected func(error)
}

// InstanceWatch keeps the instances of the project as InstanceService.WatchInstances reports them,
// over as many streams as it takes. An instance that it does not know may well exist: nothing may
// be deleted because of that. Its methods may be called by any goroutine.
type InstanceWatch struct {
	config InstanceWatchConfig

	mu    sync.RWMutex
	known map[string]*backendv1.Instance
}

// NewInstanceWatch returns an InstanceWatch that Run has yet to start.
func NewInstanceWatch(config InstanceWatchConfig) *InstanceWatch {
	return &InstanceWatch{config: config, known: make(map[string]*backendv1.Instance)}
}

// Instance returns an instance as it was reported last; nil: it is not known. It must not be
// changed.
func (w *InstanceWatch) Instance(id string) *backendv1.Instance {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.known[id]
}

// Instances returns all instances as they were reported last, ordered by id. They must not be changed.
func (w *InstanceWatch) Instances() []*backendv1.Instance {
	w.mu.RLock()
	defer w.mu.RUnlock()
	all := make([]*backendv1.Instance, 0, len(w.known))
	for _, id := range slices.Sorted(maps.Keys(w.known)) {
		all = append(all, w.known[id])
	}
	return all
}

// Run watches until the context ends. What is known stays known while there is no stream. It must
// be called at most once.
func (w *InstanceWatch) Run(ctx context.Context) {
	pause := firstWatchRetry
	for {
		synced, err := w.hold(ctx)
		if ctx.Err() != nil {
			return
		}
		call(w.config.Disconnected, AsError(err))
		if synced {
			pause = firstWatchRetry
		}
		if !sleep(ctx, jitter(pause)) {
			return
		}
		pause = min(2*pause, lastWatchRetry)
	}
}

// hold opens a stream and returns why it ended, and whether its snapshot was complete.
func (w *InstanceWatch) hold(ctx context.Context) (synced bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := w.config.Service.WatchInstances(ctx,
		&backendv1.WatchInstancesRequest{IncludeRack: w.config.IncludeRack})
	if err != nil {
		return false, err
	}
	snapshot := make(map[string]bool)
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			err = errors.New("oxide-backend ended the stream")
		}
		if err != nil {
			return synced, err
		}
		switch event := response.GetEvent().(type) {
		case *backendv1.WatchInstancesResponse_Instance:
			id := event.Instance.GetId()
			if id == "" {
				return synced, errors.New("an instance has no id: please report it")
			}
			if !synced {
				snapshot[id] = true
			}
			w.keep(id, event.Instance)
		case *backendv1.WatchInstancesResponse_SnapshotComplete:
			w.keepOnly(snapshot)
			synced, snapshot = true, nil
			if w.config.Synced != nil {
				w.config.Synced()
			}
		case *backendv1.WatchInstancesResponse_NoLongerListedId:
			w.keep(event.NoLongerListedId, nil)
		}
	}
}

// keep keeps an instance as it is now; nil: it is not listed any more.
func (w *InstanceWatch) keep(id string, instance *backendv1.Instance) {
	w.mu.Lock()
	if instance != nil {
		w.known[id] = instance
	} else {
		delete(w.known, id)
	}
	w.mu.Unlock()
	call(w.config.Changed, id)
}

// keepOnly forgets what is not in the snapshot. Nothing else writes meanwhile.
func (w *InstanceWatch) keepOnly(snapshot map[string]bool) {
	var lost []string
	w.mu.RLock()
	for id := range w.known {
		if !snapshot[id] {
			lost = append(lost, id)
		}
	}
	w.mu.RUnlock()
	for _, id := range lost {
		w.keep(id, nil)
	}
}
