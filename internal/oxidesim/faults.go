// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Fault is a rule that spoils some requests. A request is spoiled by the first rule whose
// Operation matches and whose Nth and Probability say so.
type Fault struct {
	// ID names the rule; RemoveFault takes it. Chosen by AddFault when empty.
	ID string `json:"id,omitempty"`
	// Operation is an operation id ("floating_ip_attach"), or a pattern with * and ? in it
	// ("floating_ip_*"); empty means every operation. The path of an endpoint
	// ("POST /v1/floating-ips/{floating_ip}/attach") is understood as well.
	Operation string `json:"operation,omitempty"`
	// Nth lists which matching requests are spoiled, counted from 1 since the rule was
	// added. Empty means all of them.
	Nth []int `json:"nth,omitempty"`
	// Probability, if not 0, spoils a request by chance, the same ones for the same Seed.
	Probability float64 `json:"probability,omitempty"`
	Seed        uint64  `json:"seed,omitempty"`
	// Times ends the rule after so many spoiled requests; 0 means never.
	Times int `json:"times,omitempty"`

	// Status answers with this status and ErrorCode; the request is not carried out unless
	// Execute is set (then the work is done and only the answer is lost).
	Status    int    `json:"status,omitempty"`
	ErrorCode string `json:"error_code,omitempty"`
	Message   string `json:"message,omitempty"`
	Execute   bool   `json:"execute,omitempty"`
	// Latency is waited before the request is carried out, in milliseconds.
	LatencyMS int `json:"latency_ms,omitempty"`
	// Reset drops the connection: before anything is done; or with Execute after the work
	// was done; or, with Truncate, in the middle of the body.
	Reset bool `json:"reset,omitempty"`
	// Truncate sends only so many bytes of the body: as a complete answer that is no JSON,
	// or (with Reset) announcing the whole length and then dropping the connection.
	Truncate int `json:"truncate,omitempty"`
	// Body replaces the body, for example by what a proxy in between would send.
	Body string `json:"body,omitempty"`
	// ContentType replaces the content type.
	ContentType string `json:"content_type,omitempty"`
	// PageCap makes pages of lists hold at most so many items, as a rack with a lower limit than
	// the usual 10,000 would; 0 means that limit.
	PageCap int `json:"page_cap,omitempty"`
	// Omit leaves each item of a page of a list out with this probability, as if it did not exist.
	// What page follows does not depend on it.
	Omit float64 `json:"omit,omitempty"`
}

// validate says what is wrong with a rule.
func (f *Fault) validate() error {
	var errs []error
	if _, err := path.Match(f.Operation, ""); err != nil {
		errs = append(errs, fmt.Errorf("operation %q: not a valid pattern", f.Operation))
	}
	if f.Probability < 0 || f.Probability > 1 {
		errs = append(errs, fmt.Errorf("probability %v: must be between 0 and 1", f.Probability))
	}
	if f.Omit < 0 || f.Omit > 1 {
		errs = append(errs, fmt.Errorf("omit %v: must be between 0 and 1", f.Omit))
	}
	if f.Status != 0 && (f.Status < 200 || f.Status > 599) {
		errs = append(errs, fmt.Errorf("status %d: must be between 200 and 599", f.Status))
	}
	for _, n := range f.Nth {
		if n < 1 {
			errs = append(errs, fmt.Errorf("nth %d: the first request is 1", n))
		}
	}
	if f.LatencyMS < 0 || f.Truncate < 0 || f.Times < 0 || f.PageCap < 0 {
		errs = append(errs,
			errors.New("latency_ms, truncate, times and page_cap: must not be negative"))
	}
	if !f.spoils() {
		errs = append(errs, errors.New("the rule spoils nothing: give status, latency_ms, "+
			"reset, truncate, body, content_type, page_cap or omit"))
	}
	return errors.Join(errs...)
}

// spoils reports whether the rule does anything to a request.
func (f *Fault) spoils() bool {
	return f.Status != 0 || f.LatencyMS != 0 || f.Reset || f.Truncate != 0 || f.Body != "" ||
		f.ContentType != "" || f.PageCap != 0 || f.Omit != 0
}

func (f *Fault) matches(rt *route) bool {
	if f.Operation == "" || f.Operation == rt.method+" "+rt.pattern {
		return true
	}
	ok, err := path.Match(f.Operation, rt.operation)
	return err == nil && ok
}

type faultRule struct {
	Fault
	seen, fired int
	rand        *rand.Rand
}

type faults struct {
	mu    sync.Mutex
	next  int
	rules []*faultRule
}

// AddFault adds a rule and gives its id. An error names what makes no sense in it.
func (s *Simulator) AddFault(f Fault) (string, error) {
	if err := f.validate(); err != nil {
		return "", err
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	if f.ID == "" {
		s.faults.next++
		f.ID = "fault-" + strconv.Itoa(s.faults.next)
	}
	s.faults.rules = append(s.faults.rules, &faultRule{
		Fault: f, rand: rand.New(rand.NewPCG(f.Seed, 0)),
	})
	return f.ID, nil
}

// RemoveFault removes a rule and says whether there was one.
func (s *Simulator) RemoveFault(id string) bool {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	before := len(s.faults.rules)
	s.faults.rules = slices.DeleteFunc(s.faults.rules, func(r *faultRule) bool {
		return r.ID == id
	})
	return len(s.faults.rules) < before
}

// ClearFaults removes all rules.
func (s *Simulator) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.rules = nil
}

// Faults lists the rules in force, in the order in which they are tried.
func (s *Simulator) Faults() []Fault {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	out := make([]Fault, 0, len(s.faults.rules))
	for _, r := range s.faults.rules {
		out = append(out, r.Fault)
	}
	return out
}

// faultEffect is what a rule does to one request.
type faultEffect struct {
	Fault
	latency time.Duration
	skip    bool // the request is not carried out
	// rand decides which items are left out.
	rand *rand.Rand
}

// capped returns how many items a page may hold.
func (e *faultEffect) capped(limit int) int {
	if e == nil || e.PageCap == 0 {
		return limit
	}
	return min(limit, e.PageCap)
}

// omits decides whether the next item of a page is left out.
func (e *faultEffect) omits() bool {
	return e != nil && e.Omit > 0 && e.rand.Float64() < e.Omit
}

func (fs *faults) match(rt *route) *faultEffect {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, r := range fs.rules {
		if !r.matches(rt) || r.Times > 0 && r.fired >= r.Times {
			continue
		}
		r.seen++
		if len(r.Nth) > 0 && !slices.Contains(r.Nth, r.seen) {
			continue
		}
		if r.Probability > 0 && r.rand.Float64() >= r.Probability {
			continue
		}
		r.fired++
		silent := r.Status != 0 || r.Reset && r.Truncate == 0
		return &faultEffect{
			Fault: r.Fault, latency: time.Duration(r.LatencyMS) * time.Millisecond,
			skip: silent && !r.Execute, rand: rand.New(rand.NewPCG(r.rand.Uint64(), 0)),
		}
	}
	return nil
}

// dropsAll says that the connection is dropped without any answer.
func (e *faultEffect) dropsAll() bool { return e.Reset && e.Truncate == 0 }

// err is the answer of a rule with a status.
func (e *faultEffect) err() error {
	if e.Status == 0 {
		return errConnectionLost
	}
	msg := e.Message
	if msg == "" {
		msg = http.StatusText(e.Status)
	}
	return &apiError{e.Status, e.ErrorCode, msg}
}

// distort sends the reply as the rule has it.
func (e *faultEffect) distort(w http.ResponseWriter, out *reply) {
	body := out.body
	if e.Body != "" {
		body = []byte(e.Body)
	}
	h := w.Header()
	h.Set("Content-Type", out.contentType)
	if e.ContentType != "" {
		h.Set("Content-Type", e.ContentType)
	}
	whole := len(body)
	if e.Truncate > 0 {
		body = body[:min(e.Truncate, whole)]
	}
	if e.Reset {
		h.Set("Content-Length", strconv.Itoa(max(whole, len(body)+1)))
	}
	w.WriteHeader(out.status)
	_, _ = w.Write(body) // the client may be gone
	if e.Reset {
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
}
