// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// MaxDescription is the longest description that Oxide stores, in characters. It answers a longer
// one with 500.
const MaxDescription = 512

// createListed is mutate for a call that makes an item of a list in the order of ids, whose end it
// keeps up with.
func createListed[T any](
	ctx context.Context, c *Client, op operation, list string, id func(T) string,
	call func(context.Context) (T, error),
) (T, error) {
	created, err := mutate(ctx, c, op, call)
	if err != nil {
		c.ends.mayGrow(list) // its answer may be lost
		var none T
		return none, err
	}
	c.ends.grows(list, id(created))
	return created, nil
}

// deleteListed is mutate for a call that removes the item with this id from such a list.
func deleteListed(
	ctx context.Context, c *Client, op operation, list, id string, call func(context.Context) error,
) error {
	_, err := mutate(ctx, c, op, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, call(ctx)
	})
	if err == nil {
		c.ends.shrinks(list, id)
	}
	return err
}

// describe replaces the description of the object whose path has {{.id}}, also by an empty one: oxide.go
// would leave that out, and Oxide then keep the old one.
func (c *Client) describe(ctx context.Context, path, id, description string, into any) error {
	body, err := json.Marshal(map[string]string{"description": description})
	if err != nil {
		return err
	}
	return c.rawCall(ctx, api.Request{
		Method: http.MethodPut, Path: path, Params: map[string]string{"id": id},
		Body: bytes.NewReader(body),
	}, into)
}

// toPoolSelector selects the pool of a name or id, or else the silo's default pool of a family.
func toPoolSelector(pool string, defaultPool6 bool) api.PoolSelector {
	switch {
	case pool != "":
		return api.PoolSelector{Value: &api.PoolSelectorExplicit{Pool: api.NameOrId(pool)}}
	case defaultPool6:
		return api.PoolSelector{Value: &api.PoolSelectorAuto{IpVersion: api.IpVersionV6}}
	}
	return api.PoolSelector{Value: &api.PoolSelectorAuto{IpVersion: api.IpVersionV4}}
}

// orError converts what a call of oxide.go returned, unless it failed.
func orError[A, T any](v *A, err error, convert func(A) (T, error)) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return convert(*v)
}
