// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/collector"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// tracedTo is the environment of programs that send their spans to an endpoint, soon.
func tracedTo(endpoint string) []string {
	return []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "OTEL_BSP_SCHEDULE_DELAY=100",
		"OTEL_EXPORTER_OTLP_TIMEOUT=500",
	}
}

// spans waits until a collector was sent what a test looks for.
func (e *environment) spans(
	c *collector.Collector, what string, is func([]collector.Span) bool,
) (spans []collector.Span) {
	e.Helper()
	e.eventually(func(context.Context) (string, error) {
		if spans = c.Spans(); !is(spans) {
			return what + " among:\n" + collector.Tree(spans), nil
		}
		return "", nil
	})
	return spans
}

// about returns the only span of a name in a trace.
func (e *environment) about(spans []collector.Span, trace, name string) collector.Span {
	e.Helper()
	found := slices.DeleteFunc(collector.Named(spans, name), func(s collector.Span) bool {
		return s.Trace != trace
	})
	if len(found) != 1 {
		e.Fatalf("%d spans %q in the trace %s, want one:\n%s", len(found), name, trace, collector.Tree(spans))
	}
	return found[0]
}

func TestAServiceAndAMoveAreOneTraceEachThroughBothPrograms(t *testing.T) {
	c := collector.Start(t)
	e := newEnvironment(t, settings{env: tracedTo(c.Endpoint)})
	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80))
	address := e.served("web")
	e.ofService(c)
	e.ofMove(c, address)
	e.ofNodes(c)
	e.must(e.ccm.Stop())
	for _, never := range []string{rack.Token, e.rack.URL, "Bearer", "/v1/"} {
		if strings.Contains(c.Text(), never) {
			t.Errorf("what was sent holds %q", never)
		}
	}
}

// ofService checks the trace of a new Service: from the shim through the socket to each call of
// Oxide.
func (e *environment) ofService(c *collector.Collector) {
	e.Helper()
	const work = "reconcile load balancer"
	spans := e.spans(c, "the trace of the Service", func(spans []collector.Span) bool {
		return len(collector.Named(spans, work)) > 0 && len(collector.Named(spans, "EnsureLoadBalancer")) > 0
	})
	trace := collector.Named(spans, work)[0].Trace
	for operation, action := range map[string]string{
		"floating_ip_create": "create address", "floating_ip_attach": "attach address",
	} {
		call := e.about(spans, trace, operation)
		path := collector.Path(spans, call)
		below := []string{"oxide-backend: " + work, "oxide-backend: " + action, "oxide-backend: " + operation}
		if len(path) < 4 || !slices.Equal(path[len(path)-3:], below) ||
			path[len(path)-4] != "ccm-shim: send load balancer" {
			e.Errorf("the path to %s is %v", operation, path)
		}
		if id := call.Attributes["oxide.request_id"]; uuid.Validate(id) != nil {
			e.Errorf("%s has the request id %q", operation, id)
		}
	}
	if call := e.about(spans, trace, "EnsureLoadBalancer"); call.Service != "ccm-shim" ||
		call.Attributes["k8s.service.name"] != "web" || call.Failed {
		e.Errorf("the framework's call: %+v", call)
	}
	published := collector.Named(spans, "publish addresses")
	if len(published) > 0 && published[0].Trace != trace {
		e.Errorf("the addresses were published in another trace:\n%s", collector.Tree(spans))
	}
}

// ofMove checks the trace of a move, and its link to what was seen of the Node.
func (e *environment) ofMove(c *collector.Collector, address string) {
	e.Helper()
	before := e.nodeOf(address)
	e.ready(corev1.ConditionUnknown, before)
	e.eventually(func(context.Context) (string, error) {
		if ip, _ := e.state().FloatingIP(address); ip.AttachState != rack.Attached || ip.Instance == before {
			return "the move", nil
		}
		return "", nil
	})
	e.served("web")
	spans := e.spans(c, "the move", func(spans []collector.Span) bool {
		return len(collector.Named(spans, "move address")) > 0
	})
	move := collector.Named(spans, "move address")[0]
	for _, name := range []string{"floating_ip_detach", "floating_ip_attach"} {
		call := e.about(spans, move.Trace, name)
		if path := collector.Path(spans, call); path[0] != "oxide-backend: move address" {
			e.Errorf("the path to %s is %v", name, path)
		}
	}
	observed := slices.IndexFunc(spans, func(s collector.Span) bool {
		return s.Name == "observe node" && slices.Contains(move.Links, s.Trace)
	})
	if observed < 0 || spans[observed].Attributes["k8s.node.name"] != before ||
		spans[observed].Service != "ccm-shim" {
		e.Errorf("the move is not linked with what was seen of %s:\n%s", before, collector.Tree(spans))
	}
	if !slices.ContainsFunc(spans, func(s collector.Span) bool {
		return s.Name == "publish addresses" && s.Trace == move.Trace && s.Service == "ccm-shim"
	}) {
		e.Errorf("what is published is not in the trace of the move:\n%s", collector.Tree(spans))
	}
}

// ofNodes checks that a Node's metadata were asked for in a trace through both programs.
func (e *environment) ofNodes(c *collector.Collector) {
	e.Helper()
	spans := c.Spans()
	const call = "oxide.backend.v1.InstanceService/GetInstance"
	for _, span := range spans {
		path := collector.Path(spans, span)
		if len(path) == 4 && path[0] == "ccm-shim: InstanceMetadata" && path[1] == "ccm-shim: "+call &&
			path[2] == "oxide-backend: "+call && span.Attributes["oxide.request_id"] != "" {
			return
		}
	}
	e.Errorf("no Node was asked for in one trace through both programs:\n%s", collector.Tree(spans))
}

func TestACollectorThatIsNotThereChangesNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	e := newEnvironment(t, settings{env: tracedTo("http://" + listener.Addr().String())})
	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80))
	e.served("web")
	said := func(file string) int {
		text, err := os.ReadFile(file)
		e.must(err)
		return strings.Count(string(text), "cannot send spans to http://"+listener.Addr().String())
	}
	logs := []string{e.ccm.Backend.LogFile(), e.ccm.Shim.LogFile()}
	for _, log := range logs {
		e.eventually(func(context.Context) (string, error) {
			if said(log) == 0 {
				return "the line about it in " + log, nil
			}
			return "", nil
		})
	}
	e.create("dns", objects.UDP(53))
	e.served("dns")
	e.must(e.ccm.Stop())
	for _, log := range logs {
		if n := said(log); n != 1 {
			t.Errorf("%d lines about it in %s, want one", n, log)
		}
	}
}
