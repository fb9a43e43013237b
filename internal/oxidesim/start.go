// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

// TB is what Start needs of a *testing.T.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// TestTimeScale is the time scale of Start, unless told: a minute lasts 60 ms.
const TestTimeScale = 0.001

// Start builds a rack and makes it listen on loopback until the test ends.
func Start(t TB, cfg Config) *Server {
	t.Helper()
	return StartWith(t, cfg, ServeOptions{})
}

// StartWith is Start with a say in where and how the rack listens.
func StartWith(t TB, cfg Config, o ServeOptions) *Server {
	t.Helper()
	if cfg.TimeScale == 0 {
		cfg.TimeScale = TestTimeScale
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatalf("oxidesim: %v", err)
	}
	srv, err := s.Serve(o)
	if err != nil {
		s.Close()
		t.Fatalf("oxidesim: %v", err)
	}
	t.Cleanup(srv.Close)
	return srv
}
