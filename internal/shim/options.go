// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/uds"
)

// Options are the settings of ccm-shim beside those of the framework.
type Options struct {
	// Backend is the address of oxide-backend as the user wrote it; empty means that the shim runs
	// one of its own.
	Backend string

	// BackendUnreachableExit is how long the backend may be unreachable before the shim exits; 0
	// means for ever.
	BackendUnreachableExit time.Duration

	// ClusterID is the id under which the cluster owns its addresses in Oxide; empty means the UID
	// of the namespace kube-system.
	ClusterID string

	// NodeRemovalInterval is how far apart Nodes are removed when there are many.
	NodeRemovalInterval time.Duration

	// Region and Zone are what nodes are labelled with; empty: not at all. ZoneFromRack takes the id
	// of an instance's rack for the zone. RelabelTopology labels nodes that have another region or
	// zone, too.
	Region, Zone    string
	ZoneFromRack    bool
	RelabelTopology bool

	// socket is the path in Backend, parsed by Complete.
	socket string
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		BackendUnreachableExit: 30 * time.Second, NodeRemovalInterval: 5 * time.Second,
	}
}

// AddFlags adds the flags that set the options.
func (o *Options) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.Backend, "backend", o.Backend,
		"The unix socket of oxide-backend, for example unix:///run/oxide/backend/backend.sock. "+
			"If empty, oxide-backend is started from beside this program on a private socket; it "+
			"takes its configuration from the environment (OXIDE_HOST, OXIDE_TOKEN or "+
			"OXIDE_TOKEN_FILE, OXIDE_PROJECT) and ends with this program.")
	flags.DurationVar(&o.BackendUnreachableExit, "backend-unreachable-exit",
		o.BackendUnreachableExit,
		"Exit when oxide-backend has been unreachable for this long, so that a replica whose "+
			"backend works takes over. 0 means never.")
	flags.StringVar(&o.ClusterID, "cluster-id", o.ClusterID,
		"The id under which this cluster owns its addresses in Oxide. If empty, the UID of the "+
			"namespace kube-system. To be set only for a cluster that was restored from the backup "+
			"of one that still runs.")
	flags.DurationVar(&o.NodeRemovalInterval, "node-removal-interval", o.NodeRemovalInterval,
		"How far apart Nodes are removed whose instances are gone, once 3 Nodes, or one in ten if "+
			"that is more, were removed within ten minutes.")
	flags.StringVar(&o.Region, "region", o.Region,
		"The region of all nodes, for the label topology.kubernetes.io/region and the older one "+
			"that means the same. Oxide knows no regions, so it is yours to name.")
	flags.StringVar(&o.Zone, "zone", o.Zone,
		"The zone of all nodes, for the label topology.kubernetes.io/zone and the older one that "+
			"means the same, for example a name for the rack.")
	flags.BoolVar(&o.ZoneFromRack, "zone-from-rack", o.ZoneFromRack,
		"Take the id of the rack that an instance runs on for the zone of its node. Oxide tells it "+
			"by metrics, an interface that it calls experimental, half a minute after an instance "+
			"starts. Not together with --zone.")
	flags.BoolVar(&o.RelabelTopology, "relabel-topology", o.RelabelTopology,
		"Give the region and zone to nodes that have others already, too. Volumes and pods that "+
			"are bound to the old ones will not follow.")
}

// clusterIDPattern is what the backend accepts as LoadBalancerKey.scope.
var clusterIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)

// Complete parses what was given as text. Its error is one line with the name of the flag.
func (o *Options) Complete() error {
	if o.Backend == "" {
		return nil
	}
	socket, err := uds.ParseAddress(o.Backend)
	if err != nil {
		return fmt.Errorf("--backend: %q: %w", o.Backend, err)
	}
	o.socket = socket
	return nil
}

// Validate returns all mistakes together, one line each, with the name of the flag.
func (o *Options) Validate() error {
	var mistakes []error
	if o.BackendUnreachableExit < 0 {
		mistakes = append(mistakes, fmt.Errorf("--backend-unreachable-exit: %s is negative: "+
			"give a duration such as 30s, or 0 for never", o.BackendUnreachableExit))
	}
	if o.ClusterID != "" && !clusterIDPattern.MatchString(o.ClusterID) {
		mistakes = append(mistakes, fmt.Errorf("--cluster-id: %q is not 1 to 63 letters, digits, "+
			"\".\", \"_\" and \"-\": leave it out to use the UID of the namespace kube-system",
			o.ClusterID))
	}
	if o.NodeRemovalInterval <= 0 {
		mistakes = append(mistakes, fmt.Errorf("--node-removal-interval: %s is no time to wait: "+
			"give a duration such as 5s", o.NodeRemovalInterval))
	}
	for _, flag := range []struct{ name, value string }{
		{"--region", o.Region}, {"--zone", o.Zone},
	} {
		if flag.value != "" && len(validation.IsValidLabelValue(flag.value)) > 0 {
			mistakes = append(mistakes, fmt.Errorf("%s: %q cannot be the value of a label: give 1 "+
				"to 63 letters, digits, \".\", \"_\" and \"-\", a letter or digit at both ends",
				flag.name, flag.value))
		}
	}
	if o.ZoneFromRack && o.Zone != "" {
		mistakes = append(mistakes, fmt.Errorf("--zone-from-rack: --zone says %q already: leave one "+
			"of them out", o.Zone))
	}
	if o.RelabelTopology && o.Region == "" && o.Zone == "" && !o.ZoneFromRack {
		mistakes = append(mistakes, errors.New("--relabel-topology: there is nothing to relabel "+
			"with: give --region, --zone or --zone-from-rack, too"))
	}
	return errors.Join(mistakes...)
}

// topology returns what nodes are told of where they are.
func (o *Options) topology() provider.Topology {
	return provider.Topology{
		Region: o.Region, Zone: o.Zone, ZoneFromRack: o.ZoneFromRack, Relabel: o.RelabelTopology,
	}
}
