// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

// goals are the most that figures may be. The others have no goal.
func goals() figures {
	return figures{
		"lb_create_requests": 3, "lb_noop_requests": 1,
		// Three, and the read before a detach.
		"lb_move_requests": 4, "lb_delete_requests": 4,
		"subnet_create_requests": 4, "subnet_move_requests": 4, "dual_stack_create_requests": 6,
		"firewall_writes_100_services": 3, "firewall_noop_requests": 0,
		// Those without it; one reading, one write, and one reading afterwards for each rule that changes.
		"firewall_create_requests": 6, "firewall_move_requests": 4, "firewall_delete_requests": 7,
		"restart_requests_20_nodes_10_services": 31, "steady_requests_5min_1000": 108,

		"plan_1000_ms": 20, "plan_1000_moving_ms": 20, "plan_5000_ms": 150, "plan_5000_moving_ms": 150,
		"rebalance_1000_ms": 100, "plan_growth": 8,

		"probe_core_percent_1000": 2,

		"failover_stopped_seconds": 3.1, "failover_notready_seconds": 2.3,
		"failover_subnet_stopped_seconds": 3.1, "failover_subnet_notready_seconds": 2.3,
		"failover_leader_node_seconds": 20.3, "failover_20_addresses_seconds": 6,
		"failover_local_dark_seconds": 2.6,
		"failover_again_seconds":      5,

		"rss_both_20_mb": 80, "init_seconds_1000": 10, "scale_init_seconds_1000": 10,

		"importer_modules": 45, "importer_kubernetes_modules": 0, "vip_failover_seconds": 5,

		"leader_start_1000_services_seconds": 15, "moves_on_scale_up": 0,
	}
}
