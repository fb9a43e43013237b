// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"crypto/tls"
	"crypto/x509"
)

// SetPageLimit makes pages small, so that a list has several.
func (c *Client) SetPageLimit(n int) { c.pageLimit = n }

// Trusts reports whether a host's certificate is trusted at this moment.
func (a *Authorities) Trusts(certificate *x509.Certificate, host string) bool {
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}}
	return a.verify(state, host) == nil
}
