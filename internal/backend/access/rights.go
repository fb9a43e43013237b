// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package access

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Rights are what a client may do. Each client that has any may also make the calls that change nothing.
type Rights struct {
	// scopes are those whose load balancers and addresses the client may change.
	scopes map[string]bool

	// addresses is whether it may change addresses that belong to no scope.
	addresses bool

	// all is whether it may do everything.
	all bool
}

// The words of the flag --client.
const (
	rightRead      = "read"
	rightAddresses = "addresses"
	rightAll       = "all"
	scopePrefix    = "scope:"
)

// scopePattern is what the API takes as LoadBalancerKey.scope.
var scopePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)

// parseRights parses the rights of a client, such as "scope:edge.example.com,addresses".
func parseRights(text string) (Rights, error) {
	var rights Rights
	for word := range strings.SplitSeq(text, ",") {
		scope, isScope := strings.CutPrefix(word, scopePrefix)
		switch {
		case word == rightRead:
		case word == rightAddresses:
			rights.addresses = true
		case word == rightAll:
			rights.all = true
		case isScope && scopePattern.MatchString(scope):
			if rights.scopes == nil {
				rights.scopes = make(map[string]bool)
			}
			rights.scopes[scope] = true
		case isScope:
			return Rights{}, fmt.Errorf("%.100q is no scope: it has 1 to 63 letters, digits, \".\", \"_\" and "+
				"\"-\"", scope)
		default:
			return Rights{}, fmt.Errorf("%.100q is no right: give read, addresses, scope:SCOPE or all, "+
				"separated by commas", word)
		}
	}
	return rights, nil
}

// Clients are the rights of clients, by identity.
type Clients map[string]Rights

// ParseClients parses the values of the flag --client, each IDENTITY=RIGHT[,RIGHT…]. Its error names all
// that is wrong with them.
func ParseClients(values []string) (Clients, error) {
	clients := make(Clients, len(values))
	var errs []error
	for _, value := range values {
		if err := clients.parse(value); err != nil {
			errs = append(errs, err)
		}
	}
	return clients, errors.Join(errs...)
}

func (c Clients) parse(value string) error {
	// A URI may have "=" in its query, a right has none.
	split := strings.LastIndex(value, "=")
	if split < 1 {
		return fmt.Errorf("%.100q is not of the form IDENTITY=RIGHT[,RIGHT...], for example uid:1001=read",
			value)
	}
	identity := value[:split]
	if user, isUser := strings.CutPrefix(identity, uidPrefix); isUser && identity != anyUID {
		uid, err := strconv.ParseUint(user, 10, 32)
		if err != nil {
			return fmt.Errorf("%.100q is no user: give uid:NUMBER, or uid:* for every user of this machine",
				identity)
		}
		identity = identityOfUID(uint32(uid))[0]
	}
	if _, twice := c[identity]; twice {
		return fmt.Errorf("%.100q is given twice: list its rights at once, separated by commas", identity)
	}
	rights, err := parseRights(value[split+1:])
	if err != nil {
		return err
	}
	c[identity] = rights
	return nil
}

// of returns the rights of a client, those of all its names together, and whether it has any.
func (c Clients) of(names Identities) (Rights, bool) {
	var all Rights
	var known bool
	for _, name := range names {
		candidates := []string{name}
		if strings.HasPrefix(name, uidPrefix) {
			candidates = append(candidates, anyUID)
		}
		for _, candidate := range candidates {
			if rights, found := c[candidate]; found {
				all, known = all.union(rights), true
			}
		}
	}
	return all, known
}

func (r Rights) union(other Rights) Rights {
	scopes := make(map[string]bool, len(r.scopes)+len(other.scopes))
	for _, each := range []map[string]bool{r.scopes, other.scopes} {
		for scope := range each {
			scopes[scope] = true
		}
	}
	return Rights{
		scopes: scopes, addresses: r.addresses || other.addresses, all: r.all || other.all,
	}
}

// lacks returns which of the rights needed are missing.
func (r Rights) lacks(needed []string) (missing []string) {
	for _, right := range needed {
		scope, isScope := strings.CutPrefix(right, scopePrefix)
		if r.all || right == rightRead || isScope && r.scopes[scope] ||
			right == rightAddresses && r.addresses {
			continue
		}
		missing = append(missing, right)
	}
	return missing
}
