// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// route is one endpoint. Operation is its name in Oxide's API description; counters and
// fault rules go by it. Success is the status of the answer when the handler has no error.
type route struct {
	operation string
	method    string
	pattern   string
	success   int
	phased    bool // takes the lock itself, because it waits in between
	public    bool // needs no credential
	handle    func(*call) (any, error)
}

type routeNode struct {
	literal map[string]*routeNode
	any     *routeNode
	param   string
	methods map[string]*route
}

type router struct{ root *routeNode }

func newRouter(routes []*route) *router {
	r := &router{root: &routeNode{literal: map[string]*routeNode{}}}
	for _, rt := range routes {
		n := r.root
		for _, seg := range strings.Split(strings.Trim(rt.pattern, "/"), "/") {
			n = n.grow(seg)
		}
		if n.methods == nil {
			n.methods = make(map[string]*route)
		}
		n.methods[rt.method] = rt
	}
	return r
}

func (n *routeNode) grow(seg string) *routeNode {
	if !strings.HasPrefix(seg, "{") {
		if n.literal[seg] == nil {
			n.literal[seg] = &routeNode{literal: map[string]*routeNode{}}
		}
		return n.literal[seg]
	}
	if n.any == nil {
		n.any = &routeNode{literal: map[string]*routeNode{}}
	}
	n.any.param = strings.Trim(seg, "{}")
	return n.any
}

// find resolves a request's method and (still escaped) path. Repeated and trailing slashes
// do not count; dot segments are refused.
func (r *router) find(method, path string) (*route, map[string]string, error) {
	n, params := r.root, map[string]string{}
	for raw := range strings.SplitSeq(path, "/") {
		if raw == "" {
			continue
		}
		seg, err := url.PathUnescape(raw)
		if err != nil || seg == "." || seg == ".." {
			return nil, nil, badInput("bad path: %q is not permitted as a segment", raw)
		}
		switch next, ok := n.literal[seg]; {
		case ok:
			n = next
		case n.any != nil:
			n = n.any
			params[n.param] = seg
		default:
			return nil, nil, routeNotFound()
		}
	}
	if n.methods == nil {
		return nil, nil, routeNotFound()
	}
	rt, ok := n.methods[method]
	if !ok {
		return nil, nil, &methodError{slices.Sorted(maps.Keys(n.methods))}
	}
	return rt, params, nil
}

func get(op, pattern string, h func(*call) (any, error)) *route {
	return &route{
		operation: op, method: http.MethodGet, pattern: pattern, success: 200, handle: h,
	}
}

func post(op, pattern string, success int, h func(*call) (any, error)) *route {
	return &route{
		operation: op, method: http.MethodPost, pattern: pattern, success: success, handle: h,
	}
}

func put(op, pattern string, h func(*call) (any, error)) *route {
	return &route{
		operation: op, method: http.MethodPut, pattern: pattern, success: 200, handle: h,
	}
}

func del(op, pattern string, h func(*call) (any, error)) *route {
	return &route{
		operation: op, method: http.MethodDelete, pattern: pattern, success: 204, handle: h,
	}
}

// inPhases marks a route whose handler waits and therefore takes the lock itself.
func inPhases(r *route) *route {
	r.phased = true
	return r
}

// withoutLogin marks a route that needs no credential.
func withoutLogin(r *route) *route {
	r.public = true
	return r
}
