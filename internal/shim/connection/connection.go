// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package connection

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
)

// Conn is a connection to the backend that records when the backend last answered.
type Conn struct {
	*grpc.ClientConn
	*client.Activity
}

// Dial returns a connection as client.Dial does, whose calls are measured.
func Dial(socket string, options ...client.Option) (*Conn, error) {
	activity := new(client.Activity)
	conn, err := client.Dial(socket, append([]client.Option{
		client.WithUnaryObserver(observe), client.WithActivity(activity),
	}, options...)...)
	if err != nil {
		return nil, err
	}
	return &Conn{ClientConn: conn, Activity: activity}, nil
}

// observe measures a call, all its repetitions included.
func observe(method string, code codes.Code, elapsed time.Duration) {
	callDuration.WithLabelValues(method, code.String()).Observe(elapsed.Seconds())
	klog.V(4).InfoS("Called oxide-backend", "method", method, "code", code, "duration", elapsed)
}
