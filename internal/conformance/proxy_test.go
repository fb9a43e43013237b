// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// wrong is one way in which a backend does not keep to the contract: what passes between the suite and the
// real backend is changed. Hooks that are nil change nothing. They may be called at the same time.
type wrong struct {
	// request changes a message of the client; nil as the answer: the backend never gets it.
	request func(c *call, m proto.Message) proto.Message

	// response changes a message of the backend into those that the client gets.
	response func(c *call, m proto.Message) []proto.Message

	// end changes the status with which a call ends.
	end func(c *call, err error) error

	// hold reports whether a call that the backend has ended so stays open for the client.
	hold func(err error) bool

	// halfClosed is what the call ends with as soon as the client has closed its side; nil: it goes on.
	halfClosed func(c *call) error
}

// errEnd is the end of a call with OK.
var errEnd = errors.New("OK")

// call is a call that passes through the proxy.
type call struct {
	method string

	mu sync.Mutex
	// notes are what hooks remember of the call.
	notes map[string]int
	// toClient has messages that hooks send to the client by themselves.
	toClient chan proto.Message
	// last is the request that the client sent last.
	last proto.Message
}

// is reports whether the call is one of a method.
func (c *call) is(method string) bool { return c.method == method }

// note adds to what is remembered, and returns the sum.
func (c *call) note(what string, n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes[what] += n
	return c.notes[what]
}

// frame is a message as it is on the wire.
type frame struct{ content []byte }

type frameCodec struct{}

func (frameCodec) Marshal(v any) ([]byte, error) { return v.(*frame).content, nil }

func (frameCodec) Unmarshal(data []byte, v any) error {
	v.(*frame).content = append([]byte(nil), data...)
	return nil
}

func (frameCodec) Name() string { return "proto" }

// startProxy serves at a socket what is at another one, changed as `w` says.
func startProxy(r *rig, backend string, w wrong) (socket string) {
	r.t.Helper()
	socket = filepath.Join(r.dir, "proxy-"+filepath.Base(filepath.Dir(backend))+".sock")
	listener, err := net.Listen("unix", socket)
	r.must(err)
	upstream, err := grpc.NewClient("unix://"+backend,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(frameCodec{}), grpc.WaitForReady(true),
			grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
	r.must(err)
	server := grpc.NewServer(grpc.ForceServerCodec(frameCodec{}), grpc.MaxRecvMsgSize(64<<20),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			return w.pass(stream, upstream)
		}))
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	r.t.Cleanup(func() {
		server.Stop()
		_ = upstream.Close()
		<-served
	})
	return socket
}

// pass passes a call on.
func (w *wrong) pass(client grpc.ServerStream, upstream *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(client.Context())
	defer cancel()
	if incoming, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, incoming)
	}
	method, _ := grpc.MethodFromServerStream(client)
	c := &call{method: method, notes: make(map[string]int), toClient: make(chan proto.Message, 100)}
	backend, err := upstream.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	in, out := typesOf(method)
	ended := make(chan error, 2)
	var sending sync.Mutex
	send := func(f *frame) error {
		sending.Lock()
		defer sending.Unlock()
		return client.SendMsg(f)
	}
	go func() {
		if err := w.up(c, client, backend, in); err != nil {
			ended <- err
			return
		}
		if w.halfClosed != nil {
			if err := w.halfClosed(c); err != nil {
				ended <- err
			}
		}
	}()
	go func() { ended <- w.down(c, backend, out, send) }()
	for {
		select {
		case m := <-c.toClient:
			_ = send(framed(m))
		case err := <-ended:
			if w.hold != nil && w.hold(err) {
				<-ctx.Done()
				return ctx.Err()
			}
			trailer := backend.Trailer().Copy()
			trailer.Delete("grpc-status-details-bin") // the status has them
			client.SetTrailer(trailer)
			if errors.Is(err, io.EOF) || errors.Is(err, errEnd) {
				err = nil
			}
			if w.end != nil {
				err = w.end(c, err)
			}
			for {
				select {
				case m := <-c.toClient:
					_ = send(framed(m))
					continue
				default:
				}
				return err
			}
		}
	}
}

// up passes the client's messages on.
func (w *wrong) up(
	c *call, client grpc.ServerStream, backend grpc.ClientStream, kind protoreflect.MessageType,
) error {
	for {
		var f frame
		err := client.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			return backend.CloseSend()
		}
		if err != nil {
			return err
		}
		if w.request != nil && kind != nil {
			if m := kind.New().Interface(); proto.Unmarshal(f.content, m) == nil {
				c.mu.Lock()
				c.last = proto.Clone(m)
				c.mu.Unlock()
				if m = w.request(c, m); m == nil {
					continue
				}
				if f.content, err = proto.Marshal(m); err != nil {
					return err
				}
			}
		}
		_ = backend.SendMsg(&f) // down returns why it failed
	}
}

// down passes the backend's messages on.
func (w *wrong) down(c *call, backend grpc.ClientStream, kind protoreflect.MessageType,
	send func(*frame) error,
) error {
	for {
		var f frame
		if err := backend.RecvMsg(&f); err != nil {
			return err
		}
		frames := []*frame{&f}
		if w.response != nil && kind != nil {
			if m := kind.New().Interface(); proto.Unmarshal(f.content, m) == nil {
				frames = nil
				for _, changed := range w.response(c, m) {
					frames = append(frames, framed(changed))
				}
			}
		}
		for _, f := range frames {
			if err := send(f); err != nil {
				return err
			}
		}
	}
}

func framed(m proto.Message) *frame {
	content, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return &frame{content}
}

// typesOf returns the types of the messages of a method; nil if it is not known.
func typesOf(method string) (in, out protoreflect.MessageType) {
	name := protoreflect.FullName(replaceSlash(method))
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, nil
	}
	m := descriptor.(protoreflect.MethodDescriptor)
	in, _ = protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
	out, _ = protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	return in, out
}

func replaceSlash(method string) string {
	out := []byte(method[1:])
	for i := range out {
		if out[i] == '/' {
			out[i] = '.'
		}
	}
	return string(out)
}

// failing is a status with exactly these details.
func failing(code codes.Code, message string, details ...proto.Message) error {
	st := &spb.Status{Code: int32(code), Message: message}
	for _, detail := range details {
		st.Details = append(st.Details, toAny(detail))
	}
	return status.FromProto(st).Err()
}
