// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package preflight

import (
	"context"
	"fmt"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// expirySoon is how long before its end a token or certificate is warned of.
const expirySoon = 14 * 24 * time.Hour

// api checks that the API is reached, by a trusted certificate, in a version that is spoken.
func (p *preflight) api(ctx context.Context) bool {
	contact, err := p.client.Contact(ctx)
	if err != nil {
		return p.fail(nameAPI, err, "see that the address in --oxide-host or OXIDE_HOST is the "+
			"silo's, that this network leads there, and that the silo's list of allowed networks, "+
			"if it has one, includes this one")
	}
	p.add(nameAPI, OK, "it answers, and speaks the version "+oxide.APIVersion, "")
	if contact.Certificate == nil {
		p.add(nameCertificate, Note, "none: the connection is not encrypted, on loopback", "")
		return true
	}
	end := contact.Certificate.NotAfter
	detail := fmt.Sprintf("trusted, issued by %q, valid until %s",
		contact.Certificate.Issuer.String(), stamp(end))
	if end.Sub(p.opts.Now) < expirySoon {
		p.add(nameCertificate, Warning, detail, "have the rack's operator renew it")
		return true
	}
	p.add(nameCertificate, OK, detail, "")
	return true
}

// token checks that the token is accepted, and how long it will be.
func (p *preflight) token(ctx context.Context) bool {
	user, err := p.client.User(ctx)
	if err != nil {
		p.fail(nameToken, err, "")
		p.noteToken()
		return false
	}
	p.user = user
	p.add(nameToken, OK, fmt.Sprintf("accepted, of the user %s in the silo %s",
		user.Name, user.SiloName), "")
	p.noteToken()

	tokens, err := p.client.AccessTokens(ctx)
	if err != nil {
		// It is no condition for anything.
		p.add(nameExpiry, Note, err.Error(), "")
		return true
	}
	p.add(nameExpiry, OK, "none of the user's tokens expires", "")
	last := &p.checks[len(p.checks)-1]
	soonest := soonestExpiry(tokens, p.opts.Now)
	if soonest.IsZero() {
		return true
	}
	which := fmt.Sprintf("the first of the user's %d tokens to expire, perhaps this one, does so on",
		len(tokens))
	if len(tokens) == 1 {
		which = "the token expires on"
	}
	last.Detail = which + " " + stamp(soonest)
	if soonest.Sub(p.opts.Now) < expirySoon {
		last.Result = Warning
		last.Remedy = "make a new token and put it into the token file or Secret, where it is used " +
			"without a restart"
	}
	return true
}

// noteToken adds what is to be known of where the token comes from.
func (p *preflight) noteToken() {
	if note := p.opts.TokenNote; note != "" {
		p.checks[len(p.checks)-1].Detail += "; " + note
	}
}

// soonestExpiry returns when the first of the tokens ends that have not ended yet; zero if none does.
func soonestExpiry(tokens []oxide.AccessToken, now time.Time) time.Time {
	var soonest time.Time
	for _, token := range tokens {
		if !token.Expires.After(now) {
			continue
		}
		if soonest.IsZero() || token.Expires.Before(soonest) {
			soonest = token.Expires
		}
	}
	return soonest
}

// project checks that the project can be read, with which role, and that instances are in it.
func (p *preflight) project(ctx context.Context) bool {
	identity, err := p.client.ReadIdentity(ctx)
	if err != nil {
		remedy := ""
		if oxide.IsKind(err, oxide.KindProjectNotFound) {
			remedy = fmt.Sprintf("correct the name, or have an administrator give the user %s the role "+
				"viewer on the project, or limited_collaborator if there are to be Services of type "+
				"LoadBalancer", p.user.Name)
		}
		return p.fail(nameProject, err, remedy)
	}
	p.add(nameProject, OK, fmt.Sprintf("%s (%s) can be read",
		identity.ProjectName, identity.ProjectID), "")
	p.role(ctx)

	p.instances, err = p.client.Instances(ctx)
	switch {
	case err != nil:
		return p.fail(nameInstances, err, "")
	case len(p.instances) == 0:
		p.add(nameInstances, Warning, "the project has none, and so the cluster has no node in it",
			"name the project in which the nodes of the cluster are instances")
	default:
		p.add(nameInstances, OK, fmt.Sprintf("%d in the project", len(p.instances)), "")
	}
	return true
}

// role tells what the policies show. Only a change would prove a right to change, so none is tried.
func (p *preflight) role(ctx context.Context) {
	role := oxide.RoleLimitedCollaborator
	if p.opts.ManageFirewall {
		role = oxide.RoleCollaborator
	}
	remedy := "nodes need no more; for Services of type LoadBalancer have an administrator give the user " +
		"the role " + role.String() + " on the project"
	reading, err := p.client.ProjectRole(ctx, p.user)
	switch {
	case err != nil:
		p.add(nameRole, Note, "the project can be read, which takes the role viewer; whether there "+
			"is more is not known: "+err.Error(), "")
	case reading.Role == oxide.RoleLimitedCollaborator && p.opts.ManageFirewall:
		const enough = "limited_collaborator on the project%s: enough for addresses, not for the firewall " +
			"rules of --manage-firewall"
		hidden := ""
		if !reading.Whole {
			hidden = ", unless the silo's policy, which this user may not read, says more"
		}
		p.add(nameRole, Failed, fmt.Sprintf(enough, hidden), "have an administrator give the user the role "+
			"collaborator on the project, or leave --manage-firewall off")
	case reading.Role >= oxide.RoleLimitedCollaborator:
		p.add(nameRole, OK, fmt.Sprintf("%s on the project: enough for all", reading.Role), "")
	case reading.Whole:
		p.add(nameRole, Warning, "viewer on the project: enough for nodes, not for Services", remedy)
	default:
		p.add(nameRole, Warning, "viewer on the project, unless the silo's policy, which this user "+
			"may not read, says more: enough for nodes, not for Services", remedy)
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.DateTime + " MST") }
