// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package backendtest is what the tests of the shim's packages have in common: a backend on a socket,
// put together by a test, the errors that it answers, and the events that are sent.
package backendtest

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/connection"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Serve serves what is registered on a socket until the test ends, and returns a connection to it such
// as the shim has.
func Serve(t *testing.T, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	dir, err := os.MkdirTemp("", "backend")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "b.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := connection.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.ClientConn
}

// RequestID is the id of the Oxide request in every error of Fail.
const RequestID = "req-1"

// Fail makes an error as the backend does.
func Fail(
	code codes.Code, reason backendv1.ErrorReason, message string, more ...protoadapt.MessageV1,
) error {
	s, err := status.New(code, message).WithDetails(append([]protoadapt.MessageV1{
		&errdetails.ErrorInfo{
			Domain: "oxide.computer", Reason: strings.TrimPrefix(reason.String(), "ERROR_REASON_"),
			Metadata: map[string]string{"request_id": RequestID},
		},
	}, more...)...)
	if err != nil {
		panic(err)
	}
	return s.Err()
}

// Events keeps the events that are sent.
type Events struct {
	record.EventRecorder
	mu   sync.Mutex
	sent []string
}

// Event implements record.EventRecorder.
func (e *Events) Event(object runtime.Object, kind, reason, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	about := object.(*v1.ObjectReference)
	name := about.Name
	if about.Namespace != "" {
		name = about.Kind + " " + about.Namespace + "/" + name
	}
	e.sent = append(e.sent, strings.Join([]string{name, kind, reason, message}, " "))
}

// Sent returns the events that were sent so far.
func (e *Events) Sent() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.sent)
}

// Take returns the events that were sent since the last time.
func (e *Events) Take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	sent := e.sent
	e.sent = nil
	return sent
}
