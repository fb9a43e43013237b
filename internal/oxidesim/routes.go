// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/http"
	"slices"
)

// routes is the whole API: every endpoint, by its operation id in Oxide's API description.
func (s *Simulator) routes() []*route {
	return slices.Concat(
		s.siloRoutes(), s.meRoutes(), s.instanceRoutes(), s.addressRoutes(),
		s.networkRoutes(), s.gatewayRoutes(), s.storageRoutes(),
		s.antiAffinityGroups().routes("anti_affinity_group", "anti-affinity-groups"),
		s.affinityGroups().routes("affinity_group", "affinity-groups"),
		s.systemRoutes(), s.systemPoolRoutes(), s.systemSubnetPoolRoutes(),
	)
}

func (s *Simulator) siloRoutes() []*route {
	const project = "/v1/projects/{project}"
	return []*route{
		withoutLogin(get("ping", "/v1/ping", s.ping)),
		get("project_list", "/v1/projects", s.projectList),
		post("project_create", "/v1/projects", 201, s.projectCreate),
		get("project_view", project, s.projectView),
		put("project_update", project, s.projectUpdate),
		del("project_delete", project, s.projectDelete),
		get("project_policy_view", project+"/policy", s.projectPolicyView),
		put("project_policy_update", project+"/policy", s.projectPolicyUpdate),
		get("policy_view", "/v1/policy", s.siloPolicyView),
		put("policy_update", "/v1/policy", s.siloPolicyUpdate),
		get("auth_settings_view", "/v1/auth-settings", s.authSettingsView),
		put("auth_settings_update", "/v1/auth-settings", s.authSettingsUpdate),
		get("utilization_view", "/v1/utilization", s.siloUse),
		get("user_list", "/v1/users", s.userList),
		get("user_view", "/v1/users/{user_id}", s.userView),
		get("group_list", "/v1/groups", s.noGroups),
		get("group_view", "/v1/groups/{group_id}", s.groupView),
		post("timeseries_query", "/v1/timeseries/query", 200, s.timeseriesQuery),
	}
}

func (s *Simulator) meRoutes() []*route {
	return []*route{
		get("current_user_view", "/v1/me", s.currentUserView),
		get("current_user_groups", "/v1/me/groups", s.noGroups),
		get("current_user_access_token_list", "/v1/me/access-tokens", s.accessTokenList),
		del("current_user_access_token_delete", "/v1/me/access-tokens/{token_id}",
			s.accessTokenDelete),
		get("current_user_ssh_key_list", "/v1/me/ssh-keys", s.sshKeyList),
		post("current_user_ssh_key_create", "/v1/me/ssh-keys", 201, s.sshKeyCreate),
		get("current_user_ssh_key_view", "/v1/me/ssh-keys/{ssh_key}", s.sshKeyView),
		del("current_user_ssh_key_delete", "/v1/me/ssh-keys/{ssh_key}", s.sshKeyDelete),
	}
}

func (s *Simulator) instanceRoutes() []*route {
	const one = "/v1/instances/{instance}"
	const nics, nic = "/v1/network-interfaces", "/v1/network-interfaces/{interface}"
	return []*route{
		get("instance_list", "/v1/instances", s.instanceList),
		inPhases(post("instance_create", "/v1/instances", 201, s.instanceCreate)),
		get("instance_view", one, s.instanceView),
		put("instance_update", one, s.instanceUpdate),
		inPhases(del("instance_delete", one, s.instanceDelete)),
		post("instance_start", one+"/start", 202, s.instanceStart),
		inPhases(post("instance_stop", one+"/stop", 202, s.instanceStop)),
		inPhases(post("instance_reboot", one+"/reboot", 202, s.instanceReboot)),
		get("instance_external_ip_list", one+"/external-ips", s.instanceExternalIPs),
		inPhases(post("instance_ephemeral_ip_attach", one+"/external-ips/ephemeral", 202,
			s.ephemeralAttach)),
		inPhases(del("instance_ephemeral_ip_detach", one+"/external-ips/ephemeral",
			s.ephemeralDetach)),
		get("instance_external_subnet_list", one+"/external-subnets", s.instanceExternalSubnets),
		get("instance_disk_list", one+"/disks", s.instanceDisks),
		post("instance_disk_attach", one+"/disks/attach", 202, s.diskAttach),
		post("instance_disk_detach", one+"/disks/detach", 202, s.diskDetach),
		get("instance_ssh_public_key_list", one+"/ssh-public-keys", s.instanceSSHKeys),
		get("instance_anti_affinity_group_list", one+"/anti-affinity-groups",
			s.antiAffinityGroups().ofInstance),
		get("instance_affinity_group_list", one+"/affinity-groups",
			s.affinityGroups().ofInstance),
		get("instance_network_interface_list", nics, s.nicList),
		post("instance_network_interface_create", nics, 201, s.nicCreate),
		get("instance_network_interface_view", nic, s.nicView),
		put("instance_network_interface_update", nic, s.nicUpdate),
		del("instance_network_interface_delete", nic, s.nicDelete),
	}
}

func (s *Simulator) addressRoutes() []*route {
	const fip = "/v1/floating-ips/{floating_ip}"
	const subnet = "/v1/external-subnets/{external_subnet}"
	return []*route{
		get("ip_pool_list", "/v1/ip-pools", s.ipPoolList),
		get("ip_pool_view", "/v1/ip-pools/{pool}", s.ipPoolView),
		get("subnet_pool_list", "/v1/subnet-pools", s.subnetPoolList),
		get("subnet_pool_view", "/v1/subnet-pools/{pool}", s.subnetPoolView),
		get("floating_ip_list", "/v1/floating-ips", s.floatingIPList),
		post("floating_ip_create", "/v1/floating-ips", 201, s.floatingIPCreate),
		get("floating_ip_view", fip, s.floatingIPView),
		put("floating_ip_update", fip, s.floatingIPUpdate),
		del("floating_ip_delete", fip, s.floatingIPDelete),
		inPhases(post("floating_ip_attach", fip+"/attach", 202, s.floatingIPAttach)),
		inPhases(post("floating_ip_detach", fip+"/detach", 202, s.floatingIPDetach)),
		get("external_subnet_list", "/v1/external-subnets", s.externalSubnetList),
		post("external_subnet_create", "/v1/external-subnets", 201, s.externalSubnetCreate),
		get("external_subnet_view", subnet, s.externalSubnetView),
		put("external_subnet_update", subnet, s.externalSubnetUpdate),
		del("external_subnet_delete", subnet, s.externalSubnetDelete),
		inPhases(post("external_subnet_attach", subnet+"/attach", 202, s.externalSubnetAttach)),
		inPhases(post("external_subnet_detach", subnet+"/detach", 202, s.externalSubnetDetach)),
	}
}

func (s *Simulator) networkRoutes() []*route {
	const vpc, subnet = "/v1/vpcs/{vpc}", "/v1/vpc-subnets/{subnet}"
	const router, route1 = "/v1/vpc-routers/{router}", "/v1/vpc-router-routes/{route}"
	return []*route{
		get("vpc_list", "/v1/vpcs", s.vpcList),
		post("vpc_create", "/v1/vpcs", 201, s.vpcCreate),
		get("vpc_view", vpc, s.vpcView),
		put("vpc_update", vpc, s.vpcUpdate),
		del("vpc_delete", vpc, s.vpcDelete),
		get("vpc_subnet_list", "/v1/vpc-subnets", s.subnetList),
		post("vpc_subnet_create", "/v1/vpc-subnets", 201, s.subnetCreate),
		get("vpc_subnet_view", subnet, s.subnetView),
		put("vpc_subnet_update", subnet, s.subnetUpdate),
		del("vpc_subnet_delete", subnet, s.subnetDelete),
		get("vpc_subnet_list_network_interfaces", subnet+"/network-interfaces", s.subnetNICs),
		get("vpc_router_list", "/v1/vpc-routers", s.routerList),
		post("vpc_router_create", "/v1/vpc-routers", 201, s.routerCreate),
		get("vpc_router_view", router, s.routerView),
		put("vpc_router_update", router, s.routerUpdate),
		del("vpc_router_delete", router, s.routerDelete),
		get("vpc_router_route_list", "/v1/vpc-router-routes", s.routeList),
		post("vpc_router_route_create", "/v1/vpc-router-routes", 201, s.routeCreate),
		get("vpc_router_route_view", route1, s.routeView),
		put("vpc_router_route_update", route1, s.routeUpdate),
		del("vpc_router_route_delete", route1, s.routeDelete),
		get("vpc_firewall_rules_view", "/v1/vpc-firewall-rules", s.firewallView),
		inPhases(put("vpc_firewall_rules_update", "/v1/vpc-firewall-rules", s.firewallUpdate)),
	}
}

func (s *Simulator) gatewayRoutes() []*route {
	const all, one = "/v1/internet-gateways", "/v1/internet-gateways/{gateway}"
	const pools, addresses = "/v1/internet-gateway-ip-pools", "/v1/internet-gateway-ip-addresses"
	return []*route{
		get("internet_gateway_list", all, s.gatewayList),
		post("internet_gateway_create", all, 201, s.gatewayCreate),
		get("internet_gateway_view", one, s.gatewayView),
		del("internet_gateway_delete", one, s.gatewayDelete),
		get("internet_gateway_ip_pool_list", pools, s.gatewayPoolList),
		post("internet_gateway_ip_pool_create", pools, 201, s.gatewayPoolCreate),
		del("internet_gateway_ip_pool_delete", pools+"/{pool}", s.gatewayPoolDelete),
		get("internet_gateway_ip_address_list", addresses, s.gatewayAddressList),
		post("internet_gateway_ip_address_create", addresses, 201, s.gatewayAddressCreate),
		del("internet_gateway_ip_address_delete", addresses+"/{address}", s.gatewayAddressDelete),
	}
}

func (s *Simulator) storageRoutes() []*route {
	const disk, image, snap = "/v1/disks/{disk}", "/v1/images/{image}", "/v1/snapshots/{snapshot}"
	return []*route{
		get("disk_list", "/v1/disks", s.diskList),
		post("disk_create", "/v1/disks", 201, s.diskCreate),
		get("disk_view", disk, s.diskView),
		del("disk_delete", disk, s.diskDelete),
		post("disk_bulk_write_import_start", disk+"/bulk-write-start", 204, s.diskImportStart),
		post("disk_bulk_write_import", disk+"/bulk-write", 204, s.diskImportWrite),
		post("disk_bulk_write_import_stop", disk+"/bulk-write-stop", 204, s.diskImportStop),
		post("disk_finalize_import", disk+"/finalize", 204, s.diskImportFinalize),
		get("image_list", "/v1/images", s.imageList),
		post("image_create", "/v1/images", 201, s.imageCreate),
		get("image_view", image, s.imageView),
		del("image_delete", image, s.imageDelete),
		post("image_promote", image+"/promote", 202, s.imagePromote),
		post("image_demote", image+"/demote", 202, s.imageDemote),
		get("snapshot_list", "/v1/snapshots", s.snapshotList),
		post("snapshot_create", "/v1/snapshots", 201, s.snapshotCreate),
		get("snapshot_view", snap, s.snapshotView),
		del("snapshot_delete", snap, s.snapshotDelete),
	}
}

// routes are the endpoints of a kind of group, whose words in operations and paths differ.
func (g groups) routes(op, segment string) []*route {
	all := "/v1/" + segment
	one := all + "/{" + g.param + "}"
	member := one + "/members/instance/{instance}"
	return []*route{
		get(op+"_list", all, g.list),
		post(op+"_create", all, http.StatusCreated, g.create),
		get(op+"_view", one, g.view),
		put(op+"_update", one, g.update),
		del(op+"_delete", one, g.delete),
		get(op+"_member_list", one+"/members", g.memberList),
		get(op+"_member_instance_view", member, g.memberView),
		post(op+"_member_instance_add", member, http.StatusCreated, g.memberAdd),
		del(op+"_member_instance_delete", member, g.memberDelete),
	}
}
