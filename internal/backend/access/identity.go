// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package access

import (
	"crypto/x509"
	"strconv"
	"strings"
)

// Identities are the names that a client has, none of them empty. A client of a unix socket has one, the
// user of its process; a client with a certificate has the names in that.
type Identities []string

// String returns all names, for people.
func (names Identities) String() string {
	if len(names) == 0 {
		return "a certificate without a name"
	}
	return strings.Join(names, ", ")
}

// uidPrefix begins the identity of a process of this machine, for example "uid:1001".
const uidPrefix = "uid:"

// anyUID is the identity of every process of this machine.
const anyUID = uidPrefix + "*"

func identityOfUID(uid uint32) Identities {
	return Identities{uidPrefix + strconv.FormatUint(uint64(uid), 10)}
}

// identitiesOfCertificate returns the URIs and DNS names of a certificate, and where it has neither its
// common name. One that looks like a user of this machine does not count: no authority gives that.
func identitiesOfCertificate(certificate *x509.Certificate) Identities {
	var names Identities
	for _, uri := range certificate.URIs {
		names = append(names, uri.String())
	}
	names = append(names, certificate.DNSNames...)
	if len(names) == 0 {
		names = Identities{certificate.Subject.CommonName}
	}
	kept := names[:0]
	for _, name := range names {
		if name != "" && !strings.HasPrefix(name, uidPrefix) {
			kept = append(kept, name)
		}
	}
	return kept
}
