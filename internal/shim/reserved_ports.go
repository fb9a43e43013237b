// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"fmt"
	"strconv"
	"strings"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// defaultReservedPorts are those of SSH, etcd, the API server, the kubelet, and the health and metrics
// ports of the control plane and kube-proxy. The status of a Service captures its ports on the
// node's address for the whole cluster: with one of these nobody would reach the node's own any more.
const defaultReservedPorts = "22,2379-2380,6443,10250,10256-10259"

const maxPort = 65535

// purposes are what well-known ports are for, for messages.
var purposes = map[int32]string{
	22: "SSH", 2379: "etcd", 2380: "etcd", 6443: "the API server", 10250: "the kubelet",
	10256: "kube-proxy", 10257: "kube-controller-manager", 10258: "the cloud controller manager",
	10259: "kube-scheduler",
}

// parseReservedPorts reads a comma-separated list of ports and ranges of ports, such as "22,6443-6444".
func parseReservedPorts(list string) ([]*backendv1.ReservedPorts, error) {
	var reserved []*backendv1.ReservedPorts
	for _, item := range strings.Split(list, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		from, to, isRange := strings.Cut(item, "-")
		if !isRange {
			to = from
		}
		first, firstErr := strconv.ParseUint(from, 10, 16)
		last, lastErr := strconv.ParseUint(to, 10, 16)
		if firstErr != nil || lastErr != nil || first == 0 || last < first {
			return nil, fmt.Errorf("%q is neither a port from 1 to %d nor a range of them such as "+
				"2379-2380", item, maxPort)
		}
		for port := int32(first); port <= int32(last); port++ {
			if purposes[port] != "" {
				reserved = append(reserved, &backendv1.ReservedPorts{
					FirstPort: port, Purpose: purposes[port],
				})
			}
		}
		reserved = append(reserved, &backendv1.ReservedPorts{
			FirstPort: int32(first), LastPort: int32(last), Purpose: "the nodes (--reserved-ports)",
		})
	}
	return reserved, nil
}
