// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

// systemRoutes are the operator's endpoints, but for those of pools.
func (s *Simulator) systemRoutes() []*route {
	const silo = "/v1/system/silos/{silo}"
	const users = "/v1/system/identity-providers/local/users"
	return []*route{
		get("silo_list", "/v1/system/silos", s.systemSiloList),
		post("silo_create", "/v1/system/silos", 201, s.systemSiloCreate),
		get("silo_view", silo, s.systemSiloView),
		del("silo_delete", silo, s.systemSiloDelete),
		get("silo_ip_pool_list", silo+"/ip-pools", s.systemSiloPools),
		get("silo_subnet_pool_list", silo+"/subnet-pools", s.systemSiloSubnetPools),
		get("silo_policy_view", silo+"/policy", s.systemSiloPolicyView),
		put("silo_policy_update", silo+"/policy", s.systemSiloPolicyUpdate),
		get("silo_quotas_view", silo+"/quotas", s.systemSiloQuotas),
		put("silo_quotas_update", silo+"/quotas", s.systemSiloQuotasUpdate),
		get("rack_list", "/v1/system/hardware/racks", s.rackList),
		get("rack_view", "/v1/system/hardware/racks/{rack_id}", s.rackView),
		get("sled_list", "/v1/system/hardware/sleds", s.sledList),
		get("sled_view", "/v1/system/hardware/sleds/{sled_id}", s.sledView),
		get("sled_instance_list", "/v1/system/hardware/sleds/{sled_id}/instances",
			s.sledInstances),
		get("system_quotas_list", "/v1/system/silo-quotas", s.systemQuotasList),
		get("system_networking_settings_view", "/v1/system/networking/settings",
			s.networkingSettingsView),
		put("system_networking_settings_update", "/v1/system/networking/settings",
			s.networkingSettingsUpdate),
		get("system_policy_view", "/v1/system/policy", s.fleetPolicyView),
		put("system_policy_update", "/v1/system/policy", s.fleetPolicyUpdate),
		get("silo_user_list", "/v1/system/users", s.systemUserList),
		get("silo_user_view", "/v1/system/users/{user_id}", s.systemUserView),
		post("local_idp_user_create", users, 201, s.localUserCreate),
		del("local_idp_user_delete", users+"/{user_id}", s.localUserDelete),
	}
}

func (s *Simulator) systemPoolRoutes() []*route {
	const all, one = "/v1/system/ip-pools", "/v1/system/ip-pools/{pool}"
	return []*route{
		get("system_ip_pool_list", all, s.systemPoolList),
		post("system_ip_pool_create", all, 201, s.systemPoolCreate),
		get("system_ip_pool_view", one, s.systemPoolView),
		put("system_ip_pool_update", one, s.systemPoolUpdate),
		del("system_ip_pool_delete", one, s.systemPoolDelete),
		get("system_ip_pool_range_list", one+"/ranges", s.systemPoolRanges),
		post("system_ip_pool_range_add", one+"/ranges/add", 201, s.systemPoolRangeAdd),
		post("system_ip_pool_range_remove", one+"/ranges/remove", 204, s.systemPoolRangeRemove),
		get("system_ip_pool_silo_list", one+"/silos", s.systemPoolSilos),
		post("system_ip_pool_silo_link", one+"/silos", 201, s.systemPoolLink),
		put("system_ip_pool_silo_update", one+"/silos/{silo}", s.systemPoolLinkUpdate),
		del("system_ip_pool_silo_unlink", one+"/silos/{silo}", s.systemPoolUnlink),
		get("system_ip_pool_utilization_view", one+"/utilization", s.systemPoolUtilization),
	}
}

func (s *Simulator) systemSubnetPoolRoutes() []*route {
	const all, one = "/v1/system/subnet-pools", "/v1/system/subnet-pools/{pool}"
	return []*route{
		get("system_subnet_pool_list", all, s.systemSubnetPoolList),
		post("system_subnet_pool_create", all, 201, s.systemSubnetPoolCreate),
		get("system_subnet_pool_view", one, s.systemSubnetPoolView),
		put("system_subnet_pool_update", one, s.systemSubnetPoolUpdate),
		del("system_subnet_pool_delete", one, s.systemSubnetPoolDelete),
		get("system_subnet_pool_member_list", one+"/members", s.systemSubnetPoolMembers),
		post("system_subnet_pool_member_add", one+"/members/add", 201,
			s.systemSubnetPoolMemberAdd),
		post("system_subnet_pool_member_remove", one+"/members/remove", 204,
			s.systemSubnetPoolMemberRemove),
		get("system_subnet_pool_silo_list", one+"/silos", s.systemSubnetPoolSilos),
		post("system_subnet_pool_silo_link", one+"/silos", 201, s.systemSubnetPoolLink),
		put("system_subnet_pool_silo_update", one+"/silos/{silo}", s.systemSubnetPoolLinkUpdate),
		del("system_subnet_pool_silo_unlink", one+"/silos/{silo}", s.systemSubnetPoolUnlink),
		get("system_subnet_pool_utilization_view", one+"/utilization",
			s.systemSubnetPoolUtilization),
	}
}
