// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"crypto/x509"
	"time"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// The calls that have no parameters, so that they show whether the rack is older than this client.
const (
	opPing = "ping"
	opUser = "current_user_view"
)

// Contact is what an answer of the API shows before any credential counts.
type Contact struct {
	// Certificate is the API's own; nil if the connection is not encrypted.
	Certificate *x509.Certificate
}

// Contact asks the API for a sign of life. It proves that the host is reached, that its certificate
// is trusted, and that the rack speaks this API version; the token does not matter.
func (c *Client) Contact(ctx context.Context) (Contact, error) {
	contact, err := read(ctx, c, objectCall(opPing, "get a sign of life"), c.ping)
	return contact, asVersionError(err)
}

func (c *Client) ping(ctx context.Context) (Contact, error) {
	pong, err := c.api.Ping(ctx)
	if err != nil {
		return Contact{}, err
	}
	if pong.Status != api.PingStatusOk {
		return Contact{}, errNoSign
	}
	var contact Contact
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	if x != nil && x.tls != nil && len(x.tls.PeerCertificates) > 0 {
		contact.Certificate = x.tls.PeerCertificates[0]
	}
	return contact, nil
}

// User is whom the token belongs to.
type User struct {
	ID, Name         string
	SiloID, SiloName string
	// FleetViewer: the user has a role on the fleet, and may read what its operators do.
	FleetViewer bool
}

// User reads whom the token belongs to. It is the cheapest proof that the token is valid.
func (c *Client) User(ctx context.Context) (User, error) {
	user, err := read(ctx, c, objectCall(opUser, "read who the token belongs to"),
		func(ctx context.Context) (User, error) {
			v, err := c.api.CurrentUserView(ctx)
			if err != nil {
				return User{}, err
			}
			if v.SiloId == "" {
				return User{}, errNoID
			}
			return User{
				ID: v.Id, Name: v.DisplayName, SiloID: v.SiloId, SiloName: string(v.SiloName),
				FleetViewer: v.FleetViewer != nil && *v.FleetViewer,
			}, nil
		})
	return user, asVersionError(err)
}

// AccessToken is one of the tokens of a user, without its secret.
type AccessToken struct {
	ID string
	// Expires is when it ends; zero: never.
	Expires time.Time
}

// AccessTokens lists the tokens of the token's user. Nothing tells which of them is in use.
func (c *Client) AccessTokens(ctx context.Context) ([]AccessToken, error) {
	op := objectCall("current_user_access_token_list", "list the tokens of the token's user")
	return readAll(ctx, c, op,
		func(ctx context.Context, limit *int, token string) (page[AccessToken], error) {
			v, err := c.api.CurrentUserAccessTokenList(ctx, api.CurrentUserAccessTokenListParams{
				Limit: limit, PageToken: token, SortBy: api.IdSortModeIdAscending,
			})
			if err != nil {
				return page[AccessToken]{}, err
			}
			return toPage(v.Items, v.NextPage, func(v api.DeviceAccessToken) (AccessToken, error) {
				id, err := withID(v.Id)
				return AccessToken{ID: id, Expires: orZero(v.TimeExpires)}, err
			})
		})
}
