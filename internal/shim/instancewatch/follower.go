// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instancewatch

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	// firstRetry and lastRetry bound the pauses between attempts to follow the instances.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// Follower knows the instances as the backend's stream tells them. What it does not know may well
// exist: nobody may delete anything on that.
type Follower struct {
	client backendv1.InstanceServiceClient

	// racks tells whether their racks are wanted.
	racks bool

	// changed are called with the id of each instance that is new, changed, or not listed any more.
	changed []func(id string)

	running sync.Mutex

	mu    sync.RWMutex
	known map[string]*backendv1.Instance
	// complete: all instances were listed at least once.
	complete bool
}

// New returns a Follower, which follows nothing before it is run.
func New(client backendv1.InstanceServiceClient, racks bool) *Follower {
	registerMetrics()
	return &Follower{client: client, racks: racks, known: make(map[string]*backendv1.Instance)}
}

// Subscribe makes a function be called with the id of each instance that is new, changed, or not
// listed any more, and with none whenever all are known anew: at first, and when a backend is back
// that may know nothing any more. It must not block, and is given before the first run.
func (f *Follower) Subscribe(changed func(id string)) { f.changed = append(f.changed, changed) }

// Instance returns an instance as it was last told, nil if it is not known.
func (f *Follower) Instance(id string) *backendv1.Instance {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.known[id]
}

// Complete reports whether all instances are known, as they were last listed: one that is not known
// is not listed, then.
func (f *Follower) Complete() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.complete
}

// Run follows the instances until ctx ends, over as many streams as it takes. What was known stays
// known while there is none. Where it runs already, it returns at once.
func (f *Follower) Run(ctx context.Context) {
	if !f.running.TryLock() {
		return
	}
	defer f.running.Unlock()
	pauses, said := newPauses(), ""
	for ctx.Err() == nil {
		complete, err := f.follow(ctx)
		following.Set(0)
		if ctx.Err() != nil {
			return
		}
		if complete {
			pauses = newPauses()
		}
		if text := status.Convert(err).Message(); complete || text != said {
			said = text
			klog.InfoS("The stream of changes of instances ended, it is opened again",
				"reason", said)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pauses.Step()):
		}
	}
}

// newPauses returns growing pauses, which stay at the last.
func newPauses() wait.Backoff {
	return wait.Backoff{Duration: firstRetry, Factor: 2, Jitter: 0.2, Steps: 10, Cap: lastRetry}
}

// follow follows one stream to its end, and tells whether its snapshot was complete.
func (f *Follower) follow(ctx context.Context) (complete bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.client.WatchInstances(ctx, &backendv1.WatchInstancesRequest{IncludeRack: f.racks})
	if err != nil {
		return false, err
	}
	snapshot := make(map[string]bool)
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			err = errors.New("oxide-backend ended it")
		}
		if err != nil {
			return complete, err
		}
		switch event := response.GetEvent().(type) {
		case *backendv1.WatchInstancesResponse_Instance:
			id := event.Instance.GetId()
			if id == "" {
				return complete, errors.New("an instance has no id: please report it")
			}
			if !complete {
				snapshot[id] = true
			}
			f.learn(event.Instance)
		case *backendv1.WatchInstancesResponse_SnapshotComplete:
			f.keepOnly(snapshot)
			complete, snapshot = true, nil
			following.Set(1)
		case *backendv1.WatchInstancesResponse_NoLongerListedId:
			f.unlearn(event.NoLongerListedId)
		}
	}
}

func (f *Follower) learn(instance *backendv1.Instance) {
	f.mu.Lock()
	f.known[instance.GetId()] = instance
	f.mu.Unlock()
	f.tell(instance.GetId())
}

func (f *Follower) unlearn(id string) {
	f.mu.Lock()
	delete(f.known, id)
	f.mu.Unlock()
	f.tell(id)
}

// keepOnly forgets what is not in the set.
func (f *Follower) keepOnly(ids map[string]bool) {
	var lost []string
	f.mu.Lock()
	for id := range f.known {
		if !ids[id] {
			delete(f.known, id)
			lost = append(lost, id)
		}
	}
	f.complete = true
	f.mu.Unlock()
	for _, id := range lost {
		f.tell(id)
	}
	f.tell("")
}

func (f *Follower) tell(id string) {
	for _, changed := range f.changed {
		changed(id)
	}
}
