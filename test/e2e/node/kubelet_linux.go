// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package node

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

func (n *Node) startKubelet(ctx context.Context) error {
	config, err := n.options.Cluster.User("system:node:"+Name, "system:nodes")
	if err != nil {
		return err
	}
	kubeconfig := n.path("kubelet.kubeconfig")
	if err := n.options.Cluster.WriteKubeconfig(kubeconfig, "kubelet", config); err != nil {
		return err
	}
	cert, key, err := n.options.Cluster.KubeletCertificate(Name)
	if err != nil {
		return err
	}
	return process.WithFreePorts(2, func(_ int, ports []int) error {
		text, err := yaml.Marshal(n.kubeletConfig(ports[0], ports[1], cert, key))
		if err != nil {
			return err
		}
		file := n.path("kubelet.yaml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return fmt.Errorf("cannot write the kubelet's configuration: %w", err)
		}
		url := "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[1])) + "/healthz"
		healthy := process.HTTPGet(http.DefaultClient, url)
		_, err = n.options.Group.Run(ctx, process.Spec{
			Name: "kubelet", Path: n.options.Kubelet, Env: []string{"PATH=" + searchPath},
			Args: []string{
				"--config=" + file, "--kubeconfig=" + kubeconfig,
				"--cloud-provider=external", "--hostname-override=" + Name,
				"--root-dir=" + n.path(kubeletFolder),
				"--cert-dir=" + n.path(kubeletFolder, "pki"), "--v=2",
			},
		}, func(ctx context.Context) error {
			if err := healthy(ctx); err != nil {
				return err
			}
			_, err := n.options.Cluster.Client.CoreV1().Nodes().Get(ctx, Name, metav1.GetOptions{})
			return err
		})
		return err
	})
}

// SystemUUID returns the UUID that the kubelet reports of this machine's firmware; empty if it reports
// none, or something else, as where there is no firmware.
func (n *Node) SystemUUID(ctx context.Context) (string, error) {
	registered, err := n.options.Cluster.Client.CoreV1().Nodes().Get(ctx, Name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	id := registered.Status.NodeInfo.SystemUUID
	if len(id) != len(uuid.Nil.String()) || uuid.Validate(id) != nil {
		return "", nil
	}
	return id, nil
}

// kubeletConfig keeps all state in one folder and serves on loopback only. It asks less of the machine
// than by default: old control groups and swap are fine, and no disk has to be mostly free.
func (n *Node) kubeletConfig(port, healthPort int, cert, key string) map[string]any {
	type object = map[string]any
	return object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": "127.0.0.1", "port": port, "readOnlyPort": 0,
		"healthzBindAddress": "127.0.0.1", "healthzPort": healthPort,
		"authentication": object{
			"anonymous": object{"enabled": false}, "webhook": object{"enabled": true},
			"x509": object{"clientCAFile": n.options.Cluster.CAFile()},
		},
		"authorization": object{"mode": "Webhook"},
		"tlsCertFile":   cert, "tlsPrivateKeyFile": key, "rotateCertificates": false,
		"containerRuntimeEndpoint": "unix://" + socketIn(n.path()),
		"failCgroupV1":             false, "failSwapOn": false,
		"cgroupDriver": "cgroupfs", "enforceNodeAllocatable": []string{"pods"},
		"makeIPTablesUtilChains": false, "oomScoreAdj": 0, "resolvConf": "",
		"podLogsDir":      n.path("pod-logs"),
		"volumePluginDir": n.path(kubeletFolder, "volume-plugins"),
		"evictionHard": object{
			"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%",
			"nodefs.inodesFree": "1%",
		},
		"imageMinimumGCAge": "24h", "imageGCHighThresholdPercent": 100,
		// Changes are to be seen soon: of the Node, and of Secrets in their volumes.
		"nodeStatusUpdateFrequency": "2s", "nodeStatusReportFrequency": "10s",
		"syncFrequency": "5s",
	}
}
