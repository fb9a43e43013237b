// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"sync/atomic"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// Identity is what the credentials give access to.
type Identity struct {
	SiloID, SiloName       string
	ProjectID, ProjectName string
}

// identityCache keeps the identity that was last read. Projects can be renamed, so after the first
// time the project is read by id.
type identityCache struct{ last atomic.Pointer[Identity] }

// Identity returns the silo and project, reading them if they are not known yet. Callers that come
// at the same time share one read, which outlives any of them; one whose context has ended starts
// none.
func (c *Client) Identity(ctx context.Context) (Identity, error) {
	if known := c.identity.last.Load(); known != nil {
		return *known, nil
	}
	const doing = "read the project"
	if ctx.Err() != nil {
		return Identity{}, &Error{Operation: doing, Kind: KindEnded, Err: ctx.Err()}
	}
	// The shared read must not end with the first caller's context; its reads are bounded.
	flight := c.flights.DoChan("identity", func() (any, error) {
		// Another flight may have landed since it was looked at above.
		if known := c.identity.last.Load(); known != nil {
			return *known, nil
		}
		return c.ReadIdentity(context.WithoutCancel(ctx))
	})
	select {
	case result := <-flight:
		if result.Err != nil {
			return Identity{}, result.Err
		}
		return result.Val.(Identity), nil
	case <-ctx.Done():
		return Identity{}, &Error{Operation: doing, Kind: KindEnded, Err: ctx.Err()}
	}
}

// ReadIdentity reads silo and project from Oxide now: the silo of the token's user, and the project,
// by the id that it had if the silo is still the same and it still exists, else as configured. It is
// the best probe of the credentials: a token without a role on the project gets
// KindProjectNotFound.
func (c *Client) ReadIdentity(ctx context.Context) (Identity, error) {
	user, err := c.User(ctx)
	if err != nil {
		return Identity{}, err
	}
	wanted := c.project
	known := c.identity.last.Load()
	if known != nil && known.SiloID == user.SiloID {
		wanted = known.ProjectID
	}
	project, err := c.projectView(ctx, wanted)
	if wanted != c.project && IsKind(err, KindProjectNotFound) {
		project, err = c.projectView(ctx, c.project)
	}
	if err != nil {
		return Identity{}, err
	}
	id := Identity{
		SiloID: user.SiloID, SiloName: user.SiloName,
		ProjectID: project.Id, ProjectName: string(project.Name),
	}
	c.identity.last.Store(&id)
	return id, nil
}

// ProjectReadable proves that the project with this id can be read now, by reading it.
func (c *Client) ProjectReadable(ctx context.Context, id string) error {
	_, err := c.projectView(ctx, id)
	return err
}

func (c *Client) projectView(ctx context.Context, nameOrID string) (*api.Project, error) {
	op := projectCall("project_view", "read the project "+nameOrID)
	return read(ctx, c, op,
		func(ctx context.Context) (*api.Project, error) {
			params := api.ProjectViewParams{Project: api.NameOrId(nameOrID)}
			project, err := c.api.ProjectView(ctx, params)
			if err == nil && project.Id == "" {
				err = errNoID
			}
			return project, err
		})
}

// asVersionError recognizes a rack that is older than the client. Such a rack answers every path
// with 400 and no error code, and a call without parameters has no other reason for that.
func asVersionError(err error) error {
	if e, ok := err.(*Error); ok && e.Kind == KindMalformed { //nolint:errorlint // made by read
		e.Kind = KindVersionUnsupported
	}
	return err
}
