// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

const (
	// kubeletPort is the one that every kubelet says is its own.
	kubeletPort = 10250
	// proxyHealthPort is where kube-proxy reports that it is healthy.
	proxyHealthPort = 10256
	// podPort and otherPodPort are where the pods serve, the latter for another Service.
	podPort, otherPodPort = 8080, 8081
)

// machine is an instance of the simulated rack that is a node of the cluster.
type machine struct {
	*world
	name, private, pod, podSubnet string
	// private6, pod6 and podSubnet6 are the same for IPv6; private6 is the rack's choice.
	private6, pod6, podSubnet6 string
	// podNamespace is the network namespace of its pods.
	podNamespace string

	// kubelet and proxy run while the machine does; nil: they do not. port is what listens on the
	// kubelet's port.
	kubelet *kubelet
	proxy   *process.Process
	port    *server
	// filtered: what is sent to the kubelet's port is dropped.
	filtered bool
	// off: its wire is.
	off atomic.Bool
}

// newMachine describes the machine number i.
func newMachine(w *world, i int) *machine {
	return &machine{
		world: w, name: "node-" + string(rune('a'+i)), private: fmt.Sprintf("172.30.0.%d", 11+i),
		pod: fmt.Sprintf("10.244.%d.10", i), podSubnet: fmt.Sprintf("10.244.%d.0/24", i),
		pod6: fmt.Sprintf("fd00:10:244:%d::10", i+1), podSubnet6: fmt.Sprintf("fd00:10:244:%d::/64", i+1),
		podNamespace: "pod-" + string(rune('a'+i)),
	}
}

// instance is the machine as the rack has it.
func (m *machine) instance() rack.Machine {
	return rack.Machine{Name: m.name, NCPUs: 2, MemoryGiB: 8, IP: m.private, DualStack: true}
}

// wire is how the machine is connected.
func (m *machine) wire() wire {
	return wire{
		name: m.name, via: gateway.String(), v4: m.private, v6: m.private6,
		behind: []string{m.podSubnet, m.podSubnet6},
	}
}

// build makes the machine's network and, behind it, that of its pods, which serve, and connects it.
func (m *machine) build(ctx context.Context) error {
	if err := m.wire().build(ctx); err != nil {
		return err
	}
	pods := wire{name: m.podNamespace, from: m.name, via: m.private, v4: m.pod, v6: m.pod6}
	if err := pods.build(ctx); err != nil {
		return err
	}
	for _, address := range []string{m.pod, m.pod6} {
		for _, port := range []int{podPort, otherPodPort} {
			pod, err := startPod(m, net.JoinHostPort(address, strconv.Itoa(port)))
			if err != nil {
				return err
			}
			m.servers = append(m.servers, pod)
		}
	}
	return nil
}

// addIPv6 gives the machine the IPv6 address that its instance has.
func (m *machine) addIPv6(ctx context.Context, state rack.State) error {
	instance, _ := state.Instance(m.name)
	m.private6 = instance.PrivateIPs["v6"]
	if m.private6 == "" {
		return fmt.Errorf("the rack gave %s no IPv6 address", m.name)
	}
	if err := m.wire().addIPv6(ctx); err != nil {
		return err
	}
	return m.plugIn(ctx)
}

// plugIn connects the machine to the network.
func (m *machine) plugIn(ctx context.Context) error {
	m.off.Store(false)
	m.crossing.refresh()
	return m.wire().plugIn(ctx)
}

// startKubelet starts the kubelet, which registers the Node. Its port accepts connections and waits
// for what is sent, for hours.
func (m *machine) startKubelet(ctx context.Context) (err error) {
	if m.port == nil {
		m.port, err = listen(m.name, net.JoinHostPort(m.private, strconv.Itoa(kubeletPort)),
			func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
		if err != nil {
			return err
		}
	}
	m.kubelet, err = startKubelet(ctx, m.client, m.name)
	return err
}

// killKubelet ends the kubelet alone.
func (m *machine) killKubelet() {
	if m.kubelet != nil {
		m.kubelet.stop()
	}
	if m.port != nil {
		m.port.close()
	}
	m.kubelet, m.port = nil, nil
}

// filterKubelet drops what is sent to the kubelet's port, as a firewall does, or lets it through
// again.
func (m *machine) filterKubelet(ctx context.Context, on bool) error {
	if on == m.filtered {
		return nil
	}
	action := map[bool]string{true: "--append", false: "--delete"}[on]
	m.filtered = on
	return run(ctx, "ip", "netns", "exec", m.name, "iptables", "--wait", action, "INPUT",
		"--in-interface", "eth0", "--protocol", "tcp", "--dport", strconv.Itoa(kubeletPort),
		"--jump", "DROP")
}

// startProxy runs kube-proxy until it is healthy. The Node must have its addresses.
func (m *machine) startProxy(ctx context.Context) error {
	health := net.JoinHostPort(m.private, strconv.Itoa(proxyHealthPort))
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode": m.prepared.Mode, "hostnameOverride": m.name,
		"clusterCIDR":        podNetwork + "," + podNetwork6,
		"clientConnection":   map[string]any{"kubeconfig": m.proxyKubeconfig},
		"healthzBindAddress": health,
		// No namespace but the first may set how much the kernel tracks.
		"conntrack": map[string]any{
			"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
		},
	})
	if err != nil {
		return err
	}
	file := filepath.Join(m.dir, "kube-proxy-"+m.name+".yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	proxy, err := m.group.Run(ctx, process.Spec{
		Name: "kube-proxy-" + m.name, Namespace: m.name, Path: m.prepared.KubeProxy,
		Args: []string{"--config=" + file, "--v=2"}, Env: []string{"PATH=" + os.Getenv("PATH")},
	}, process.HTTPGet(m.httpClient, "http://"+health+"/healthz"))
	if err == nil {
		m.proxy = proxy
	}
	return err
}

// vanish takes the machine off the network and lets everything on it end, without a word, and
// returns when it was gone. The simulated rack goes on showing that its instance runs.
func (m *machine) vanish(ctx context.Context) (gone time.Time, err error) {
	m.off.Store(true)
	if err := unplug(ctx, m.name); err != nil {
		return gone, err
	}
	gone = time.Now()
	m.killKubelet()
	m.proxy.Kill()
	m.proxy = nil
	return gone, nil
}

// comeBack starts what does not run of the machine, and undoes whatever else was done to it.
func (m *machine) comeBack(ctx context.Context) error {
	if err := m.plugIn(ctx); err != nil {
		return err
	}
	if err := m.filterKubelet(ctx, false); err != nil {
		return err
	}
	if m.kubelet == nil {
		if err := m.startKubelet(ctx); err != nil {
			return err
		}
	}
	if m.proxy == nil {
		return m.startProxy(ctx)
	}
	return nil
}

// hasAddress reports whether the Node has the address by which it is probed.
func (m *machine) hasAddress(ctx context.Context) (bool, error) {
	node, err := m.client.CoreV1().Nodes().Get(ctx, m.name, metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	for _, address := range node.Status.Addresses {
		if address.Address == m.private {
			return true, nil
		}
	}
	return false, nil
}

// cordon makes a Node unschedulable, or schedulable again.
func (w *world) cordon(ctx context.Context, m *machine, on bool) error {
	nodes := w.client.CoreV1().Nodes()
	node, err := nodes.Get(ctx, m.name, metav1.GetOptions{})
	if err != nil || node.Spec.Unschedulable == on {
		return err
	}
	return objects.Change(ctx, m.name, nodes.Get, nodes.Update, func(object *corev1.Node) {
		object.Spec.Unschedulable = on
	})
}
