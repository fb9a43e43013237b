// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"slices"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// Role is a role on a project. Each has the rights of those before it.
type Role int

// The roles on a project.
const (
	RoleNone Role = iota
	RoleViewer
	RoleLimitedCollaborator
	RoleCollaborator
	RoleAdmin
)

// roleNames are the roles as Oxide spells them, in their order.
var roleNames = []string{"none", "viewer", "limited_collaborator", "collaborator", "admin"}

// String returns the role as Oxide spells it.
func (r Role) String() string { return roleNames[r] }

// RoleReading is what the policies that a token may read say of its user's role on the project.
type RoleReading struct {
	// Role is the strongest that was found.
	Role Role
	// Whole says that nothing was hidden: then the user has this role, else at least this one.
	Whole bool
}

// ProjectRole reads the role of a user on the project, as it is given to the user or to one of the
// user's groups, on the project or on the silo.
func (c *Client) ProjectRole(ctx context.Context, user User) (RoleReading, error) {
	id, err := c.Identity(ctx)
	if err != nil {
		return RoleReading{}, err
	}
	members, err := c.groupsOf(ctx)
	if err != nil {
		return RoleReading{}, err
	}
	members = append(members, user.ID)
	onProject, err := read(ctx, c, projectCall("project_policy_view", "read the project's policy"),
		func(ctx context.Context) (Role, error) {
			v, err := c.api.ProjectPolicyView(ctx,
				api.ProjectPolicyViewParams{Project: api.NameOrId(id.ProjectID)})
			if err != nil {
				return RoleNone, err
			}
			return strongest(members, v.RoleAssignments,
				func(a api.ProjectRoleRoleAssignment) (string, string) {
					return a.IdentityId, string(a.RoleName)
				})
		})
	if err != nil {
		return RoleReading{}, err
	}
	onSilo, err := read(ctx, c, objectCall("policy_view", "read the silo's policy"),
		func(ctx context.Context) (Role, error) {
			v, err := c.api.PolicyView(ctx)
			if err != nil {
				return RoleNone, err
			}
			return strongest(members, v.RoleAssignments,
				func(a api.SiloRoleRoleAssignment) (string, string) {
					return a.IdentityId, string(a.RoleName)
				})
		})
	switch {
	case IsKind(err, KindForbidden), IsKind(err, KindNotFound):
		return RoleReading{Role: onProject}, nil
	case err != nil:
		return RoleReading{}, err
	case onSilo >= RoleCollaborator:
		onSilo = RoleAdmin // a collaborator of the silo is an admin of each of its projects
	}
	return RoleReading{Role: max(onProject, onSilo), Whole: true}, nil
}

// strongest returns the strongest role that the assignments of a policy give to one of the members.
func strongest[A any](
	members []string, assignments []A, of func(A) (identity, role string),
) (Role, error) {
	if assignments == nil {
		return RoleNone, errNoList
	}
	strongest := RoleNone
	for _, each := range assignments {
		identity, role := of(each)
		strongest = max(strongest, assigned(members, identity, role))
	}
	return strongest, nil
}

// assigned returns the role of an assignment if it is for one of the members; a role that is not
// known is none.
func assigned(members []string, identity, role string) Role {
	if !slices.Contains(members, identity) {
		return RoleNone
	}
	return max(RoleNone, Role(slices.Index(roleNames, role)))
}

// groupsOf lists the ids of the groups that the token's user is in.
func (c *Client) groupsOf(ctx context.Context) ([]string, error) {
	op := objectCall("current_user_groups", "list the groups of the token's user")
	return readAll(ctx, c, op,
		func(ctx context.Context, limit *int, token string) (page[string], error) {
			v, err := c.api.CurrentUserGroups(ctx, api.CurrentUserGroupsParams{
				Limit: limit, PageToken: token, SortBy: api.IdSortModeIdAscending,
			})
			if err != nil {
				return page[string]{}, err
			}
			return toPage(v.Items, v.NextPage,
				func(v api.Group) (string, error) { return withID(v.Id) })
		})
}
