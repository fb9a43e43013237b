// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"regexp"
	"strings"
)

// maxReadable bounds the readable part of a name: with "lb-", "-" and the 16 characters of the hash
// it makes at most 60 of the 63 characters that Oxide allows.
const maxReadable = 40

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// nameOf returns the name of the floating IP of a load balancer: readable, valid in Oxide, and
// hashed over all that tells it apart. So two backends that create the same address at the same
// time collide, one of them is told so, and nobody else ever collides with it. Addresses are found
// by their markers, never by this name.
func nameOf(key Key, want Wanted) string {
	return nameFrom(key, want.Family, want.Source.String())
}

// nameFrom is nameOf for a source as markers spell it.
func nameFrom(key Key, family Family, source string) string {
	hash := sha256.New()
	for _, field := range []string{key.Scope, key.Name, string(family), source} {
		// With its length before it, no field can run into the next one.
		fmt.Fprintf(hash, "%d:%s,", len(field), field)
	}
	sum := base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(hash.Sum(nil)[:10])
	return readableName(key) + "-" + strings.ToLower(sum)
}

// readableName returns the readable part of the names of things that belong to a load balancer. It
// is valid in Oxide, and not unique.
func readableName(key Key) string {
	readable := strings.Trim(notInName.ReplaceAllString(strings.ToLower(key.Name), "-"), "-")
	if len(readable) > maxReadable {
		readable = strings.TrimRight(readable[:maxReadable], "-")
	}
	return "lb-" + readable
}

// maxName is how long a name may be in Oxide.
const maxName = 63

// legacyName returns the name that the existing Oxide CCM gives to the address of a Service: parts
// joined without regard for what they run together to, and cut. So several Services may share one.
func legacyName(cluster string, key Key) string {
	namespace, service, _ := strings.Cut(key.Name, "/")
	name := cluster + "-" + namespace + "-" + service
	if len(name) > maxName {
		name = name[:maxName]
	}
	return strings.TrimRight(name, "-")
}
