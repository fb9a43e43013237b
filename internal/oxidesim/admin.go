// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// AdminPrefix is the path below which the simulator's own API is, which no rack has. It needs
// no credential: the simulator is for loopback.
const AdminPrefix = "/_sim/"

func (s *Simulator) newAdmin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_sim/state", func(w http.ResponseWriter, _ *http.Request) {
		adminJSON(w, s.State())
	})
	mux.HandleFunc("GET /_sim/operations", func(w http.ResponseWriter, _ *http.Request) {
		adminJSON(w, s.Operations())
	})
	mux.HandleFunc("GET /_sim/counters", func(w http.ResponseWriter, _ *http.Request) {
		adminJSON(w, s.Counters())
	})
	mux.HandleFunc("DELETE /_sim/counters", func(w http.ResponseWriter, _ *http.Request) {
		s.ResetCounters()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /_sim/seed", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<20))
		var seed Seed
		if err == nil {
			seed, err = ParseSeed(body)
		}
		if err == nil {
			err = s.Apply(seed)
		}
		adminDone(w, err)
	})
	mux.HandleFunc("GET /_sim/faults", func(w http.ResponseWriter, _ *http.Request) {
		adminJSON(w, s.Faults())
	})
	mux.HandleFunc("POST /_sim/faults", func(w http.ResponseWriter, r *http.Request) {
		var f Fault
		if err := adminBody(r, &f); err != nil {
			adminDone(w, err)
			return
		}
		id, err := s.AddFault(f)
		if err != nil {
			adminDone(w, err)
			return
		}
		adminJSON(w, map[string]string{"id": id})
	})
	mux.HandleFunc("DELETE /_sim/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /_sim/faults/{id}", func(w http.ResponseWriter, r *http.Request) {
		if !s.RemoveFault(r.PathValue("id")) {
			http.Error(w, "no such fault", http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /_sim/stories/{story}", func(w http.ResponseWriter, r *http.Request) {
		var args StoryArgs
		if err := adminBody(r, &args); err != nil {
			adminDone(w, err)
			return
		}
		adminDone(w, s.Play(r.PathValue("story"), args))
	})
	return mux
}

// StoryArgs are the arguments of a story; each uses those that it needs.
type StoryArgs struct {
	Instance   string `json:"instance,omitempty"`
	Sled       string `json:"sled,omitempty"`
	State      string `json:"state,omitempty"`
	FloatingIP string `json:"floating_ip,omitempty"`
	Pool       string `json:"pool,omitempty"`
	User       string `json:"user,omitempty"`
	Project    string `json:"project,omitempty"`
	Role       string `json:"role,omitempty"`
	Token      string `json:"token,omitempty"`
	Address    string `json:"address,omitempty"`

	ExternalSubnet string `json:"external_subnet,omitempty"`
	SubnetPool     string `json:"subnet_pool,omitempty"`
	APIVersion     string `json:"api_version,omitempty"`
}

var stories = map[string]func(*Simulator, StoryArgs) error{
	"crash-vm": func(s *Simulator, a StoryArgs) error { return s.CrashVM(a.Instance) },
	"set-run-state": func(s *Simulator, a StoryArgs) error {
		return s.SetRunState(a.Instance, a.State)
	},
	"show-destroyed": func(s *Simulator, _ StoryArgs) error {
		s.ShowDestroyed(true)
		return nil
	},
	"hide-destroyed": func(s *Simulator, _ StoryArgs) error {
		s.ShowDestroyed(false)
		return nil
	},
	"set-api-version": func(s *Simulator, a StoryArgs) error { return s.SetAPIVersion(a.APIVersion) },
	"remove-instance": func(s *Simulator, a StoryArgs) error { return s.RemoveInstance(a.Instance) },
	"power-off-sled":  func(s *Simulator, a StoryArgs) error { return s.PowerOffSled(a.Sled) },
	"lose-sled":       func(s *Simulator, a StoryArgs) error { return s.LoseSled(a.Sled) },
	"expunge-sled":    func(s *Simulator, a StoryArgs) error { return s.ExpungeSled(a.Sled) },
	"recover-sled":    func(s *Simulator, a StoryArgs) error { return s.RecoverSled(a.Sled) },
	"fill-pool": func(s *Simulator, a StoryArgs) error {
		if a.SubnetPool != "" {
			return s.FillSubnetPool(a.SubnetPool)
		}
		return s.FillPool(a.Pool)
	},
	"drain-pool": func(s *Simulator, a StoryArgs) error {
		if a.SubnetPool != "" {
			return s.DrainSubnetPool(a.SubnetPool)
		}
		return s.DrainPool(a.Pool)
	},
	"set-attach-state": func(s *Simulator, a StoryArgs) error {
		if a.ExternalSubnet != "" {
			return s.SetSubnetAttachState(a.ExternalSubnet, a.State, a.Instance)
		}
		return s.SetAttachState(a.FloatingIP, a.State, a.Instance)
	},
	"restart-nexus": func(s *Simulator, _ StoryArgs) error {
		s.RestartNexus()
		return nil
	},
	"restart-nexus-during-next-transition": func(s *Simulator, _ StoryArgs) error {
		s.RestartNexusDuringNextTransition()
		return nil
	},
	"add-token": func(s *Simulator, a StoryArgs) error {
		if a.Token == "" {
			return errors.New("token: the secret to add must be given")
		}
		_, err := s.AddToken(a.User, a.Token)
		return err
	},
	"revoke-token": func(s *Simulator, a StoryArgs) error {
		if !s.RevokeToken(a.Token) {
			return errors.New("token: not known")
		}
		return nil
	},
	"set-project-role": func(s *Simulator, a StoryArgs) error {
		return s.SetProjectRole(a.Project, a.User, a.Role)
	},
	"stop-listening": func(s *Simulator, a StoryArgs) error {
		return s.onServer(func(srv *Server) error { return srv.StopListening(a.Address) })
	},
	"resume-listening": func(s *Simulator, a StoryArgs) error {
		return s.onServer(func(srv *Server) error { return srv.ResumeListening(a.Address) })
	},
	"set-silo-role": func(s *Simulator, a StoryArgs) error { return s.SetSiloRole(a.User, a.Role) },
}

// Stories are the names that Play understands, sorted.
func Stories() []string {
	var names []string
	for name := range stories {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Play plays a story by name, as the admin API does.
func (s *Simulator) Play(story string, args StoryArgs) error {
	play, ok := stories[story]
	if !ok {
		return fmt.Errorf("no story %q: there are %s", story, strings.Join(Stories(), ", "))
	}
	return play(s, args)
}

func (s *Simulator) onServer(f func(*Server) error) error {
	s.mu.RLock()
	srv := s.server
	s.mu.RUnlock()
	if srv == nil {
		return errors.New("the rack does not listen by itself")
	}
	return f(srv)
}

func adminBody(r *http.Request, into any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("body: %w", err)
	}
	return nil
}

func adminJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(mustJSON(v), '\n'))
}

func adminDone(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
