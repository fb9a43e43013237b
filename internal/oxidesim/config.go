// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"io"
	"time"
)

// DefaultAPIVersion is the newest API version that the simulated rack speaks, unless told: that of
// release 21.
const DefaultAPIVersion = "2026061000.0.0"

// Release20APIVersion makes a rack one of the releases 20 to 20.2, which have faults that release 21
// has not: external subnets of a single address cannot be allocated side by side, and lists show
// instances as destroyed while they stop.
const Release20APIVersion = "2026060800.0.0"

// DefaultTimeScale makes what lasts a minute on a rack last three seconds.
const DefaultTimeScale = 0.05

// Config describes a simulated rack. The zero value is the built-in small rack of
// DefaultSeed, at DefaultTimeScale and without extra latency.
type Config struct {
	// Seed is what is on the rack at the start; nil means DefaultSeed.
	Seed *Seed
	// TimeScale multiplies all Timings; 0 means DefaultTimeScale.
	TimeScale float64
	// Timings are durations on a rack, before scaling; zero fields mean the default.
	Timings Timings
	// Latency is added to every API request before it is handled; it is not scaled.
	Latency time.Duration
	// APIVersion is the newest version served; requests for a newer one get 400 on every
	// path, as from an older rack. It says which release the rack has, too: one before
	// DefaultAPIVersion has the faults of release 20. Empty means DefaultAPIVersion.
	APIVersion string
	// RequestLog gets one line per API request (never a credential); nil means none.
	RequestLog io.Writer
}

// Timings are how long things take on the simulated rack, before scaling.
type Timings struct {
	Create       time.Duration // an instance is creating
	Start        time.Duration // an instance is starting
	Stop         time.Duration // from the request to stop until the virtual machine has ended
	Unlink       time.Duration // an instance is still stopping after its virtual machine has ended
	Reboot       time.Duration // an instance is rebooting
	Delete       time.Duration // from an instance's end to the release of its addresses
	Attach       time.Duration // attaching or detaching a floating IP or external subnet
	SledTimeout  time.Duration // how long a request hangs on a sled that does not answer
	Watcher      time.Duration // until lost VMMs are noticed
	AutoRestart  time.Duration // from failed to the automatic start
	Cooldown     time.Duration // least time between two automatic starts
	SagaRecovery time.Duration // until work cut off by a Nexus restart is taken up again
	NexusRestart time.Duration // connections are dropped while Nexus restarts
}

func (t Timings) withDefaults() Timings {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.Create, 2 * time.Second},
		{&t.Start, 6 * time.Second},
		{&t.Stop, 2 * time.Second},
		{&t.Unlink, 2 * time.Second},
		{&t.Reboot, 5 * time.Second},
		{&t.Delete, time.Second},
		{&t.Attach, time.Second},
		{&t.SledTimeout, 60 * time.Second},
		{&t.Watcher, 30 * time.Second},
		{&t.AutoRestart, 10 * time.Second},
		{&t.Cooldown, 5 * time.Minute},
		{&t.SagaRecovery, 10 * time.Minute},
		{&t.NexusRestart, 5 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return t
}
