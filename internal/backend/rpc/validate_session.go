// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// The bounds of what a client may send, as the comments of the messages say them.
const (
	maxAdoptedScopes   = 16
	maxDisplayName     = 253
	maxReason          = 256
	maxHolder          = 512
	maxDescription     = 400
	maxServes          = 1_000
	maxUsedPorts       = 1_000
	maxReservedPorts   = 10_000
	maxPorts           = 1_000
	maxPerFamily       = 8
	maxPublished       = 64
	maxSourceRanges    = 1_000
	maxCandidates      = 20_000
	maxLoadBalancers   = 20_000
	maxPlannedBalancer = 10_000
	maxWhatIf          = 1_000
	maxExplained       = 100
)

func validateOpen(at string, open *backendv1.OpenSession) error {
	if open == nil {
		return invalidf(at, "is required")
	}
	if err := validateToken(at+".scope", open.GetScope()); err != nil {
		return err
	}
	adopted := open.GetAdoptedScopes()
	if err := atMost(at+".adopted_scopes", len(adopted), maxAdoptedScopes); err != nil {
		return err
	}
	for i, scope := range adopted {
		if err := validateToken(fmt.Sprintf("%s.adopted_scopes[%d]", at, i), scope); err != nil {
			return err
		}
	}
	if legacy := open.GetLegacyName(); legacy != "" && !legacyNamePattern.MatchString(legacy) {
		return invalidf(at+".legacy_name", "%s cannot begin the name of a floating IP", quote(legacy))
	}
	return nil
}

func validateCandidate(at string, c *backendv1.Candidate) error {
	if err := validateID(at+".instance_id", c.GetInstanceId()); err != nil {
		return err
	}
	for _, text := range []struct {
		field, value string
		limit        int
	}{
		{"display_name", c.GetDisplayName(), maxDisplayName},
		{"exclusion_reason", c.GetExclusionReason(), maxReason},
		{"out_of_service_reason", c.GetOutOfServiceReason(), maxReason},
	} {
		if err := validateText(at+"."+text.field, text.value, text.limit); err != nil {
			return err
		}
	}
	if _, known := readinesses[c.GetReadiness()]; !known {
		return invalidf(at+".readiness", "%d is not known", c.GetReadiness())
	}
	if _, known := backendv1.Reachability_name[int32(c.GetReachability())]; !known {
		return invalidf(at+".reachability", "%d is not known", c.GetReachability())
	}
	if err := validateDuration(at+".readiness_duration", c.GetReadinessDuration()); err != nil {
		return err
	}
	if err := validateDuration(at+".reachability_duration", c.GetReachabilityDuration()); err != nil {
		return err
	}
	return validateUsedPorts(at+".used_ports", c.GetUsedPorts())
}

func validateUsedPorts(at string, ports []*backendv1.UsedPort) error {
	if err := atMost(at, len(ports), maxUsedPorts); err != nil {
		return err
	}
	for i, used := range ports {
		field := fmt.Sprintf("%s[%d]", at, i)
		if err := validatePort(field, used.GetProtocol(), used.GetPort()); err != nil {
			return err
		}
		if err := validateText(field+".holder", used.GetHolder(), maxHolder); err != nil {
			return err
		}
		if err := validateServes(field, used.GetServes()); err != nil {
			return err
		}
		if err := validateOptionalAddress(field+".address", used.GetAddress()); err != nil {
			return err
		}
	}
	return nil
}

func validateServes(at string, names []string) error {
	if err := atMost(at+".serves", len(names), maxServes); err != nil {
		return err
	}
	for i, name := range names {
		if err := validateKeyName(fmt.Sprintf("%s.serves[%d]", at, i), name); err != nil {
			return err
		}
	}
	return nil
}

func validateReservedPorts(at string, ranges []*backendv1.ReservedPorts) error {
	if err := atMost(at, len(ranges), maxReservedPorts); err != nil {
		return err
	}
	for i, r := range ranges {
		field := fmt.Sprintf("%s[%d]", at, i)
		if _, known := backendv1.Protocol_name[int32(r.GetProtocol())]; !known {
			return invalidf(field+".protocol", "%d is not known", r.GetProtocol())
		}
		first, last := r.GetFirstPort(), r.GetLastPort()
		if first < 1 || first > maxPort {
			return invalidf(field+".first_port", "%d is not from 1 to %d", first, maxPort)
		}
		if last != 0 && (last < first || last > maxPort) {
			return invalidf(field+".last_port", "%d is not from %d to %d", last, first, maxPort)
		}
		if err := validateText(field+".purpose", r.GetPurpose(), maxHolder); err != nil {
			return err
		}
		if err := validateServes(field, r.GetServes()); err != nil {
			return err
		}
		if err := validateOptionalAddress(field+".address", r.GetAddress()); err != nil {
			return err
		}
	}
	return nil
}

// validateKeyIn accepts a key of this scope only.
func validateKeyIn(at, scope string, key *backendv1.LoadBalancerKey) error {
	if err := validateKey(at, key); err != nil {
		return err
	}
	if key.GetScope() != scope {
		return invalidf(at+".scope", "%s is not the session's scope %s", quote(key.GetScope()),
			quote(scope))
	}
	return nil
}

func validateRemoved(at, scope string, removed *backendv1.LoadBalancerRemoved) error {
	if err := validateKeyIn(at+".key", scope, removed.GetKey()); err != nil {
		return err
	}
	return validateToken(at+".owner_uid", removed.GetOwnerUid())
}

func atMost(field string, n, limit int) error {
	if n > limit {
		return invalidf(field, "has %d entries, more than %d", n, limit)
	}
	return nil
}

func validateText(field, text string, limit int) error {
	if len(text) > limit {
		return invalidf(field, "%s is longer than %d bytes", quote(text), limit)
	}
	return nil
}

func validateDuration(field string, d *durationpb.Duration) error {
	if d != nil && (!d.IsValid() || d.AsDuration() < 0) {
		return invalidf(field, "is not a duration of 0 or more")
	}
	return nil
}

// The years that a time may be in: any other could not be written as nanoseconds since 1970.
const firstYear, lastYear = 1700, 2200

func validateTime(field string, t *timestamppb.Timestamp) error {
	if t == nil {
		return nil
	}
	if year := t.AsTime().Year(); !t.IsValid() || year < firstYear || year > lastYear {
		return invalidf(field, "is not a time from %d to %d", firstYear, lastYear)
	}
	return nil
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
