// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

// PodBinaries are the paths of the programs that a cluster with pods needs besides Binaries.
type PodBinaries struct {
	ControllerManager string
	Scheduler         string
	Kubelet           string
	Kubectl           string
}

// BuildForPods builds the programs of PodBinaries, whose release must be that of the others. The
// first time it takes about three minutes.
func BuildForPods(
	ctx context.Context, moduleDir, cacheDir string, with Binaries, report progress.Reporter,
) (PodBinaries, error) {
	b, err := openCache(ctx, moduleDir, cacheDir, report)
	if err != nil {
		return PodBinaries{}, err
	}
	if err := b.checkRelease(with); err != nil {
		return PodBinaries{}, err
	}
	var result PodBinaries
	for _, program := range []struct {
		name string
		path *string
	}{
		{"kube-controller-manager", &result.ControllerManager},
		{"kube-scheduler", &result.Scheduler},
		{"kubelet", &result.Kubelet},
		{"kubectl", &result.Kubectl},
	} {
		if *program.path, err = b.kubernetes(ctx, program.name); err != nil {
			return PodBinaries{}, err
		}
	}
	return result, nil
}

// BuildKubeProxy builds kube-proxy, whose release must be that of the others, and returns its path.
func BuildKubeProxy(
	ctx context.Context, moduleDir, cacheDir string, with Binaries, report progress.Reporter,
) (path string, err error) {
	b, err := openCache(ctx, moduleDir, cacheDir, report)
	if err != nil {
		return "", err
	}
	if err := b.checkRelease(with); err != nil {
		return "", err
	}
	return b.kubernetes(ctx, "kube-proxy")
}

// StartForPods runs all of a control plane: besides what Start runs also kube-controller-manager
// and kube-scheduler. It waits until pods can be created in the namespaces default and kube-system.
func StartForPods(
	ctx context.Context, group *process.Group, binaries Binaries, pods PodBinaries, dir string,
) (*Cluster, error) {
	c, err := start(ctx, group, binaries, &Cluster{dir: dir, address: loopback, taint: true})
	if err != nil {
		return nil, err
	}
	const manager, scheduler = "kube-controller-manager", "kube-scheduler"
	if err := c.startController(ctx, group, manager, pods.ControllerManager,
		"--cloud-provider=external", "--use-service-account-credentials=true",
		"--service-account-private-key-file="+c.pki.path("sa.key"),
		"--root-ca-file="+c.pki.path("ca.crt"),
		// Else the first service accounts take ten seconds.
		"--kube-api-qps=200", "--kube-api-burst=400",
	); err != nil {
		return nil, err
	}
	if err := c.startController(ctx, group, scheduler, pods.Scheduler); err != nil {
		return nil, err
	}
	return c, c.awaitServiceAccounts(ctx)
}

// startController runs one of the programs that act by the API alone, under its own identity.
func (c *Cluster) startController(
	ctx context.Context, group *process.Group, name, path string, args ...string,
) error {
	config, err := c.User("system:" + name)
	if err != nil {
		return err
	}
	kubeconfig := filepath.Join(c.dir, name+".kubeconfig")
	if err := writeKubeconfig(kubeconfig, name, config); err != nil {
		return err
	}
	insecure := &http.Client{Transport: &http.Transport{
		// They sign their own certificates, and nothing secret is asked for.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
		DisableKeepAlives: true,
	}}
	return process.WithFreePorts(1, func(_ int, ports []int) error {
		_, err := group.Run(ctx, process.Spec{Name: name, Path: path, Args: append([]string{
			"--kubeconfig=" + kubeconfig,
			"--authentication-kubeconfig=" + kubeconfig,
			"--authorization-kubeconfig=" + kubeconfig,
			"--leader-elect=false",
			"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(ports[0]),
		}, args...)}, process.HTTPGet(insecure, "https://"+local(ports[0])+"/healthz"))
		return err
	})
}

// awaitServiceAccounts waits for what kube-controller-manager makes in each namespace: no pod can
// be created before.
func (c *Cluster) awaitServiceAccounts(ctx context.Context) error {
	return process.Await(ctx, func(ctx context.Context) (bool, error) {
		for _, namespace := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
			_, err := c.Client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default",
				metav1.GetOptions{})
			if err != nil {
				return false, nil
			}
		}
		return true, nil
	})
}

// CAFile returns the path of the certificate, in PEM, that signs all others of the cluster.
func (c *Cluster) CAFile() string { return c.pki.path("ca.crt") }

// KubeletCertificate makes the certificate that a kubelet serves with on 127.0.0.1, and returns the
// paths of the certificate and of its key.
func (c *Cluster) KubeletCertificate(node string) (cert, key string, err error) {
	pair, err := c.pki.ca.issue(
		pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}},
		[]net.IP{net.IPv4(127, 0, 0, 1)}, []string{node})
	if err != nil {
		return "", "", fmt.Errorf("cannot make the kubelet's certificate: %w", err)
	}
	name := "kubelet-" + node
	return c.pki.path(name + ".crt"), c.pki.path(name + ".key"), c.pki.writePair(name, pair)
}
