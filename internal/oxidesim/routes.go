// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

// routes is the whole API: every endpoint, by its operation id in Oxide's API description.
func (s *Simulator) routes() []*route {
	var all []*route
	for _, group := range [][]*route{
		s.siloRoutes(), s.instanceRoutes(), s.addressRoutes(), s.networkRoutes(),
	} {
		all = append(all, group...)
	}
	return all
}

func (s *Simulator) siloRoutes() []*route {
	return []*route{
		withoutLogin(get("ping", "/v1/ping", s.ping)),
		get("current_user_view", "/v1/me", s.currentUserView),
		get("project_list", "/v1/projects", s.projectList),
		post("project_create", "/v1/projects", 201, s.projectCreate),
		get("project_view", "/v1/projects/{project}", s.projectView),
		put("project_update", "/v1/projects/{project}", s.projectUpdate),
		del("project_delete", "/v1/projects/{project}", s.projectDelete),
	}
}

func (s *Simulator) instanceRoutes() []*route {
	const one = "/v1/instances/{instance}"
	return []*route{
		get("instance_list", "/v1/instances", s.instanceList),
		inPhases(post("instance_create", "/v1/instances", 201, s.instanceCreate)),
		get("instance_view", one, s.instanceView),
		inPhases(del("instance_delete", one, s.instanceDelete)),
		post("instance_start", one+"/start", 202, s.instanceStart),
		inPhases(post("instance_stop", one+"/stop", 202, s.instanceStop)),
		inPhases(post("instance_reboot", one+"/reboot", 202, s.instanceReboot)),
		get("instance_external_ip_list", one+"/external-ips", s.instanceExternalIPs),
		get("instance_network_interface_list", "/v1/network-interfaces", s.nicList),
		get("instance_network_interface_view", "/v1/network-interfaces/{interface}", s.nicView),
	}
}

func (s *Simulator) addressRoutes() []*route {
	const fip = "/v1/floating-ips/{floating_ip}"
	return []*route{
		get("ip_pool_list", "/v1/ip-pools", s.ipPoolList),
		get("ip_pool_view", "/v1/ip-pools/{pool}", s.ipPoolView),
		get("floating_ip_list", "/v1/floating-ips", s.floatingIPList),
		post("floating_ip_create", "/v1/floating-ips", 201, s.floatingIPCreate),
		get("floating_ip_view", fip, s.floatingIPView),
		put("floating_ip_update", fip, s.floatingIPUpdate),
		del("floating_ip_delete", fip, s.floatingIPDelete),
		inPhases(post("floating_ip_attach", fip+"/attach", 202, s.floatingIPAttach)),
		inPhases(post("floating_ip_detach", fip+"/detach", 202, s.floatingIPDetach)),
	}
}

func (s *Simulator) networkRoutes() []*route {
	const subnet = "/v1/vpc-subnets/{subnet}"
	return []*route{
		get("vpc_list", "/v1/vpcs", s.vpcList),
		get("vpc_view", "/v1/vpcs/{vpc}", s.vpcView),
		get("vpc_subnet_list", "/v1/vpc-subnets", s.subnetList),
		get("vpc_subnet_view", subnet, s.subnetView),
		get("vpc_subnet_list_network_interfaces", subnet+"/network-interfaces", s.subnetNICs),
	}
}
