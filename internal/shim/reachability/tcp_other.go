// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build !linux

package reachability

import (
	"context"
	"net"
)

// keepAlive is off: connections are closed at once.
var keepAlive = net.KeepAliveConfig{}

// keptLimit is how many connections are kept.
func keptLimit() int { return 0 }

// askKept has nothing to do, as no connection is kept.
func askKept(context.Context, []*question, func(*question, Answer)) {}
