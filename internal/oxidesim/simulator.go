// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Simulator is one simulated rack. Its methods may be used from any goroutine.
type Simulator struct {
	cfg     Config
	timings Timings
	clock   *clock
	router  *router
	admin   http.Handler
	rackID  uuid.UUID
	nexusID uuid.UUID
	born    time.Time
	log     *requestLog
	count   *counters

	mu      sync.RWMutex
	db      *store
	server  *Server // nil unless served
	version apiVersion

	showDestroyed bool // see ShowDestroyed
	jumboFrames   bool // instances may use them, by the operator's setting

	nexus  nexus
	faults faults
}

// New builds a rack from the configuration. An error names what is wrong in the seed or the
// configuration. Close it when done.
func New(cfg Config) (*Simulator, error) {
	if cfg.TimeScale == 0 {
		cfg.TimeScale = DefaultTimeScale
	}
	if cfg.TimeScale < 0 {
		return nil, fmt.Errorf("time scale %v: must not be negative", cfg.TimeScale)
	}
	if cfg.APIVersion == "" {
		cfg.APIVersion = DefaultAPIVersion
	}
	s := &Simulator{
		cfg:     cfg,
		timings: cfg.Timings.withDefaults(),
		clock:   newClock(cfg.TimeScale),
		rackID:  uuid.New(),
		nexusID: uuid.New(),
		log:     newRequestLog(cfg.RequestLog),
		count:   newCounters(),
		db:      newStore(),
		born:    time.Now().UTC(),
		nexus:   nexus{generation: make(chan struct{})},
	}
	if err := s.SetAPIVersion(cfg.APIVersion); err != nil {
		s.Close()
		return nil, err
	}
	s.router = newRouter(s.routes())
	s.admin = s.newAdmin()
	seed := cfg.Seed
	if seed == nil {
		d := DefaultSeed()
		seed = &d
	}
	if err := s.Apply(*seed); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Handler serves the Oxide API and, below AdminPrefix, the simulator's own.
func (s *Simulator) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Close ends every wait and every pending change of the rack. Requests still in flight have
// their connections dropped. It is safe to call it twice.
func (s *Simulator) Close() { s.clock.close() }
