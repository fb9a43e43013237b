// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

type instanceStream = grpc.ServerStreamingClient[backendv1.WatchInstancesResponse]

func (p *process) watch() instanceStream {
	p.t.Helper()
	stream, err := backendv1.NewInstanceServiceClient(p.conn).
		WatchInstances(p.t.Context(), &backendv1.WatchInstancesRequest{})
	if err != nil {
		p.t.Fatal(err)
	}
	return stream
}

// snapshot receives up to the marker.
func snapshot(t *testing.T, stream instanceStream) []*backendv1.Instance {
	t.Helper()
	var found []*backendv1.Instance
	for {
		event, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if marker := event.GetSnapshotComplete(); marker != nil {
			if age := time.Since(marker.GetReadTime().AsTime()); age < 0 || age > time.Minute {
				t.Errorf("the snapshot was read %v ago", age)
			}
			return found
		}
		found = append(found, event.GetInstance())
	}
}

func TestWatchInstancesOverTheSocket(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	var ids []string
	for i := range 3 {
		added, err := rack.AddInstance("demo", oxidesim.InstanceSeed{
			Name: fmt.Sprintf("node-%d", i), NIC: "v4",
		})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, added.ID)
	}
	metrics := freeAddress(t)
	p := start(t, rack.URL, "--metrics-listen", metrics)
	p.awaitReady()
	info, err := backendv1.NewBackendServiceClient(p.conn).
		GetInfo(t.Context(), &backendv1.GetInfoRequest{})
	if err != nil || !slices.Contains(info.GetFeatures(),
		backendv1.Feature_FEATURE_WATCH_INSTANCES) {
		t.Errorf("GetInfo tells of no such feature: %v, %v", info, err)
	}

	stream := p.watch()
	found := snapshot(t, stream)
	if len(found) != 3 {
		t.Fatalf("the snapshot is %v", found)
	}
	for _, instance := range found {
		if instance.GetRunState() != backendv1.RunState_RUN_STATE_RUNNING ||
			instance.GetSiloId() != info.GetSilo().GetId() ||
			len(instance.GetNetworkInterfaces()) != 1 {
			t.Errorf("got %v", instance)
		}
	}
	if err := rack.SetRunState(ids[1], "stopped"); err != nil {
		t.Fatal(err)
	}
	event, err := stream.Recv()
	if got := event.GetInstance(); err != nil || got.GetId() != ids[1] || !got.GetShutDown() {
		t.Errorf("after it stopped: %v, %v", event, err)
	}
	if err := rack.RemoveInstance(ids[2]); err != nil {
		t.Fatal(err)
	}
	if event, err := stream.Recv(); err != nil || event.GetNoLongerListedId() != ids[2] {
		t.Errorf("after it was deleted: %v, %v", event, err)
	}

	text := read(t, "http://"+metrics+"/metrics")
	for _, name := range []string{
		"oxide_backend_watch_lag_seconds_count", "oxide_backend_inventory_age_seconds",
	} {
		if !strings.Contains(text, "\n"+name+" ") {
			t.Errorf("no metric %s", name)
		}
	}
}

// A watcher would hold its stream for ever; it must not hold up the end of the program.
func TestSIGTERMEndsTheStreamsOfWatchers(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	p := start(t, rack.URL)
	p.awaitReady()
	stream := p.watch()
	snapshot(t, stream)
	health, err := healthv1.NewHealthClient(p.conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := health.Recv(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d; its log:\n%s", code, p.log)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	for name, receive := range map[string]func() error{
		"instances": func() error { _, err := stream.Recv(); return err },
		"health":    func() error { return lastHealth(health) },
	} {
		err := receive()
		if status.Code(err) != codes.Unavailable || reasonOf(err) != "BACKEND_STOPPING" {
			t.Errorf("the stream of %s ended with %v, reason %q", name, err, reasonOf(err))
		}
	}
}

// lastHealth reads a stream of healths to its end.
func lastHealth(stream grpc.ServerStreamingClient[healthv1.HealthCheckResponse]) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}
