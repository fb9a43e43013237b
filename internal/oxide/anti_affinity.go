// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"encoding/json"
	"strconv"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// AntiAffinityGroup is a group of instances that Oxide keeps on different sleds.
type AntiAffinityGroup struct{ ID, Name string }

// AntiAffinityGroups reads the anti-affinity groups of the project, ordered by id.
func (c *Client) AntiAffinityGroups(ctx context.Context) ([]AntiAffinityGroup, error) {
	id, err := c.Identity(ctx)
	if err != nil {
		return nil, err
	}
	return readAll(ctx, c, projectCall("anti_affinity_group_list", "list the anti-affinity groups"),
		func(ctx context.Context, limit *int, token string) (page[AntiAffinityGroup], error) {
			v, err := c.api.AntiAffinityGroupList(ctx, api.AntiAffinityGroupListParams{
				Project: api.NameOrId(id.ProjectID), Limit: limit, PageToken: token,
				SortBy: api.NameOrIdSortModeIdAscending,
			})
			if err != nil {
				return page[AntiAffinityGroup]{}, err
			}
			return toPage(v.Items, v.NextPage,
				func(v api.AntiAffinityGroup) (AntiAffinityGroup, error) {
					id, err := withID(v.Id)
					return AntiAffinityGroup{ID: id, Name: string(v.Name)}, err
				})
		})
}

// AntiAffinityGroupMembers reads the ids of the instances in a group. Members of a kind that a newer
// API has are left out.
func (c *Client) AntiAffinityGroupMembers(ctx context.Context, groupID string) ([]string, error) {
	op := listOf(groupID, "anti_affinity_group_member_list",
		"list the members of the anti-affinity group "+groupID)
	members, err := readAll(ctx, c, op,
		func(ctx context.Context, limit *int, token string) (page[string], error) {
			query := map[string]string{
				"limit": strconv.Itoa(*limit), "page_token": token, "sort_by": "id_ascending",
			}
			items, next, err := c.rawPage(ctx, "/v1/anti-affinity-groups/{{.group}}/members",
				map[string]string{"group": groupID}, query)
			if err != nil {
				return page[string]{}, err
			}
			return toPage(items, next, decodeMember)
		})
	if err != nil {
		return nil, err
	}
	ids := members[:0]
	for _, id := range members {
		if id != "" {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// decodeMember returns the id of an instance in a group, empty for a member of another kind.
func decodeMember(text json.RawMessage) (string, error) {
	var member struct {
		Type  string `json:"type"`
		Value struct {
			ID string `json:"id"`
		} `json:"value"`
	}
	if err := json.Unmarshal(text, &member); err != nil || member.Type == "" {
		return "", errNoID
	}
	if member.Type != string(api.AntiAffinityGroupMemberTypeInstance) {
		return "", nil
	}
	return withID(member.Value.ID)
}
