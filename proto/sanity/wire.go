// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// frame is a message as gRPC has it on the wire.
func frame(message proto.Message) ([]byte, error) {
	content, err := proto.Marshal(message)
	if err != nil {
		return nil, err
	}
	header := make([]byte, 5)
	binary.BigEndian.PutUint32(header[1:], uint32(len(content)))
	return append(header, content...), nil
}

// endedByServer makes a call with one request and with a deadline that this side does not keep, and
// returns the status with which the server has ended it. The transport of a gRPC client ends such a
// call itself, and never sees what the server says.
func (w *world) endedByServer(
	ctx context.Context, method string, deadline time.Duration, request proto.Message,
) (*status.Status, error) {
	body, err := frame(request)
	if err != nil {
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return w.options.Dial(ctx)
		},
	}
	defer transport.CloseIdleConnections()
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://backend"+method,
		bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	post.Header.Set("Content-Type", "application/grpc")
	post.Header.Set("Te", "trailers")
	post.Header.Set("Grpc-Timeout", strconv.FormatInt(deadline.Milliseconds(), 10)+"m")
	w.seen.method(method)
	response, err := transport.RoundTrip(post)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return nil, err
	}
	trailer := response.Trailer
	if trailer.Get("Grpc-Status") == "" {
		trailer = response.Header
	}
	st, err := statusOf(trailer)
	if err == nil {
		w.seen.reason(reasonOf(st.Err()))
	}
	return st, err
}

// statusOf reads a status from the trailer of a call.
func statusOf(trailer http.Header) (*status.Status, error) {
	code, err := strconv.ParseInt(trailer.Get("Grpc-Status"), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("no status in the trailer %v", trailer)
	}
	message := &spb.Status{Code: int32(code), Message: trailer.Get("Grpc-Message")}
	if text := trailer.Get("Grpc-Status-Details-Bin"); text != "" {
		encoding := base64.RawStdEncoding
		if len(text)%4 == 0 {
			encoding = base64.StdEncoding
		}
		content, err := encoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("the details of the status: %w", err)
		}
		message = new(spb.Status)
		if err := proto.Unmarshal(content, message); err != nil {
			return nil, fmt.Errorf("the details of the status: %w", err)
		}
	}
	return status.FromProto(message), nil
}
