// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxy stands between a backend and the rack, and counts what is asked for. It may hold one request.
type proxy struct {
	*httptest.Server
	rack   string
	client *http.Client
	routes []route

	mu sync.Mutex
	// counts is how often each operation was asked for since the proxy was armed, calls the operations in
	// order, and lists how often addresses were listed in all.
	counts map[string]int
	calls  []string
	lists  int
	trap   *trap
}

// route is an operation of the rack's API.
type route struct {
	operation, method string
	path              *regexp.Regexp
}

// trap waits for the nth request of an operation.
type trap struct {
	operation string
	nth       int
	// spring is called instead of forwarding the request, with what forwards it. If it returns nil, the
	// connection is dropped.
	spring func(forward func() *answer) *answer
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// listing is the operation by which the programs look at what there is.
const listing = "floating_ip_list"

func newProxy(t *testing.T, rack string) *proxy {
	t.Helper()
	p := &proxy{
		rack: rack, client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{}},
		counts: make(map[string]int),
	}
	var err error
	if p.routes, err = p.operations(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Server = httptest.NewServer(p)
	return p
}

func (p *proxy) end() {
	p.CloseClientConnections()
	p.Close()
	p.client.CloseIdleConnections()
}

// operations returns those that the rack knows.
func (p *proxy) operations(ctx context.Context) ([]route, error) {
	got, err := p.send(ctx, http.MethodGet, "/_sim/operations", nil, nil)
	if err != nil {
		return nil, err
	}
	var known []struct {
		Operation string `json:"id"`
		Method    string `json:"method"`
		Path      string `json:"path"`
	}
	if err := json.Unmarshal(got.body, &known); err != nil {
		return nil, fmt.Errorf("the rack's list of operations: %w", err)
	}
	parameter := regexp.MustCompile(`\\\{[a-z_]+\\\}`)
	var routes []route
	for _, k := range known {
		pattern := parameter.ReplaceAllString(regexp.QuoteMeta(k.Path), "[^/]+")
		routes = append(routes, route{k.Operation, k.Method, regexp.MustCompile("^" + pattern + "$")})
	}
	return routes, nil
}

func (p *proxy) operation(r *http.Request) string {
	for _, each := range p.routes {
		if each.method == r.Method && each.path.MatchString(r.URL.Path) {
			return each.operation
		}
	}
	return r.Method + " " + r.URL.Path
}

// changes reports whether an operation changes something.
func (p *proxy) changes(operation string) bool {
	for _, each := range p.routes {
		if each.operation == operation {
			return each.method != http.MethodGet
		}
	}
	return false
}

// ServeHTTP forwards a request, unless it is the one that is waited for.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the backend is gone
	}
	operation := p.operation(r)
	forward := func() *answer {
		// What has reached a rack is done there, whoever is gone.
		got, err := p.send(context.WithoutCancel(r.Context()), r.Method, r.URL.RequestURI(), r.Header, body)
		if err != nil {
			return nil
		}
		return got
	}
	respond := forward
	if sprung := p.note(operation); sprung != nil {
		respond = func() *answer { return sprung.spring(forward) }
	}
	got := respond()
	if operation == listing && got != nil {
		p.mu.Lock()
		p.lists++
		p.mu.Unlock()
	}
	if got == nil {
		panic(http.ErrAbortHandler)
	}
	for name, values := range got.header {
		w.Header()[name] = values
	}
	w.WriteHeader(got.status)
	_, _ = w.Write(got.body)
}

// note counts a request, and returns the trap if the request is the one that it waits for.
func (p *proxy) note(operation string) *trap {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[operation]++
	p.calls = append(p.calls, operation)
	if t := p.trap; t != nil && t.operation == operation && p.counts[operation] == t.nth {
		p.trap = nil
		return t
	}
	return nil
}

func (p *proxy) send(
	ctx context.Context, method, uri string, header http.Header, body []byte,
) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, p.rack+uri, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		if !strings.EqualFold(name, "Connection") {
			request.Header[name] = values
		}
	}
	response, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return &answer{response.StatusCode, response.Header, text}, err
}

// arm begins to count from now on, and waits for one request; nil: for none.
func (p *proxy) arm(t *trap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts, p.calls, p.trap = make(map[string]int), nil, t
}

// disarm ends the wait, and returns the operations that were asked for since it began.
func (p *proxy) disarm() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap = nil
	return p.calls
}

// listed returns how often addresses were listed through this proxy.
func (p *proxy) listed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lists
}
