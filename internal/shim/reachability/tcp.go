// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"context"
	"net/netip"
)

// TCP asks by TCP: any segment of the host is an answer, also one that refuses the connection.
type TCP struct{}

// NewTCP returns an Asker for kubelets.
func NewTCP() *TCP { return &TCP{} }

// Ask implements Asker.
func (t *TCP) Ask(context.Context, netip.AddrPort) Answer { return Inconclusive }

// Forget implements Asker.
func (t *TCP) Forget(netip.AddrPort) {}
