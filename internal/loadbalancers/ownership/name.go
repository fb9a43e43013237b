// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ownership

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

const (
	// maxReadable bounds the readable part of a name: with "lb-", "-" and the 16 characters of the
	// hash it makes at most 60 of the 63 characters that Oxide allows.
	maxReadable = 40
	// maxName is how long a name may be in Oxide.
	maxName = 63
)

var hexEncoding = base32.HexEncoding.WithPadding(base32.NoPadding)

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// Name returns the name of a floating IP of a load balancer: readable, valid in Oxide, and hashed
// over all that distinguishes it. So two backends that create the same address at the same time
// collide, Oxide refuses one of them, and nobody else ever collides with it. The source is as
// markers spell it. The counter is 0, and more only while the names before it are those of
// addresses that the load balancer has released. Addresses are found by their markers, never by
// this name.
func Name(key Key, family Family, source string, counter int) string {
	fields := []string{key.Scope, key.Name, string(family), source}
	if counter > 0 {
		fields = append(fields, strconv.Itoa(counter))
	}
	hash := sha256.New()
	for _, field := range fields {
		// With its length before it, no field can run into the next one.
		fmt.Fprintf(hash, "%d:%s,", len(field), field)
	}
	sum := hexEncoding.EncodeToString(hash.Sum(nil)[:10])
	return ReadableName(key) + "-" + strings.ToLower(sum)
}

// RuleName returns the name of a firewall rule for a load balancer: readable, and hashed where that is
// not all of its name.
func RuleName(key Key) string {
	readable, text := ReadableName(key), readableText(key.Name)
	if text != "" && "lb-"+text == readable {
		return readable
	}
	sum := sha256.Sum256([]byte(key.Name))
	return readable + "-" + strings.ToLower(hexEncoding.EncodeToString(sum[:5]))
}

// RuleSource is the source in the marker of a firewall rule that is kept for a load balancer.
const RuleSource = "firewall-rule"

// KeptRuleName returns the name of a firewall rule that is kept for the addresses of one IP family of a
// load balancer. It is made as that of an address is, so nobody else's rule has it. The counter is 0,
// and more where one rule does not hold all that is to be let in.
func KeptRuleName(key Key, family Family, counter int) string {
	return Name(key, family, RuleSource, counter)
}

// ReadableName returns the readable part of the names of things that belong to a load balancer. It
// is valid in Oxide, and not unique.
func ReadableName(key Key) string {
	readable := readableText(key.Name)
	if len(readable) > maxReadable {
		readable = strings.TrimRight(readable[:maxReadable], "-")
	}
	return "lb-" + readable
}

func readableText(name string) string {
	return strings.Trim(notInName.ReplaceAllString(strings.ToLower(name), "-"), "-")
}

// LegacyName returns the name that the existing Oxide CCM gives to the address of a Service: parts
// joined without regard for what they run together to, and cut. So several Services may share one.
func LegacyName(cluster string, key Key) string {
	namespace, service, _ := strings.Cut(key.Name, "/")
	name := cluster + "-" + namespace + "-" + service
	if len(name) > maxName {
		name = name[:maxName]
	}
	return strings.TrimRight(name, "-")
}
