// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// apiVersion is a version of the API as its header carries it: major.minor.patch.
type apiVersion [3]uint64

func parseVersion(s string) (apiVersion, bool) {
	var v apiVersion
	parts := strings.Split(s, ".")
	if len(parts) != len(v) {
		return v, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 64)
		if err != nil || len(p) > 1 && p[0] == '0' {
			return v, false
		}
		v[i] = n
	}
	return v, true
}

// SetAPIVersion gives the rack another newest API version, and with it the release, as an update does.
func (s *Simulator) SetAPIVersion(newest string) error {
	version, ok := parseVersion(newest)
	if !ok {
		return fmt.Errorf("API version %q: must be of the form %s", newest, DefaultAPIVersion)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.cfg.APIVersion = version, newest
	s.showDestroyed = s.before21()
	return nil
}

// before21 reports whether the rack has a release before 21, with the faults that those have.
func (s *Simulator) before21() bool {
	release21, _ := parseVersion(DefaultAPIVersion)
	return slices.Compare(s.version[:], release21[:]) < 0
}

// checkVersion refuses what the rack cannot speak, on every path alike. No header means the
// newest version; older ones are served.
func (s *Simulator) checkVersion(h http.Header) error {
	values := h.Values("API-Version")
	if len(values) == 0 {
		return nil
	}
	v, ok := parseVersion(values[0])
	if !ok {
		return badInput("bad value for header \"api-version\": not a version: %q", values[0])
	}
	s.mu.RLock()
	newest := s.version
	s.mu.RUnlock()
	if slices.Compare(v[:], newest[:]) > 0 {
		return badInput("server does not support this API version: %q", values[0])
	}
	return nil
}
