// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

// Cluster is a running control plane. Unless StartControllers was called there is no scheduler and
// no controller manager in it, and never a kubelet: Nodes and Services are plain objects, and only
// what a test starts acts on them.
type Cluster struct {
	// URL is the address of kube-apiserver.
	URL string
	// Admin is a client configuration with all rights.
	Admin *rest.Config
	// AdminKubeconfig is the path of the same as a file.
	AdminKubeconfig string
	// Client is a client with all rights.
	Client kubernetes.Interface

	dir string
	pki *pki
	// address is the one that kube-apiserver listens on.
	address netip.Addr
	// taint lets new Nodes be tainted as not ready, as everywhere.
	taint bool

	// group, apiServer, apiServerSpec and apiServerReady are for a restart of kube-apiserver.
	group          *process.Group
	apiServer      *process.Process
	apiServerSpec  process.Spec
	apiServerReady func(context.Context) error
}

// Start runs etcd and kube-apiserver as members of group, with their state in dir, and waits until
// they serve and the namespaces default and kube-system exist.
func Start(
	ctx context.Context, group *process.Group, binaries Binaries, dir string,
) (*Cluster, error) {
	return start(ctx, group, binaries, &Cluster{dir: dir, address: loopback})
}

// StartAt is Start with kube-apiserver on another address of this machine, at which other network
// namespaces reach it.
func StartAt(
	ctx context.Context, group *process.Group, binaries Binaries, dir string, address netip.Addr,
) (*Cluster, error) {
	return start(ctx, group, binaries, &Cluster{dir: dir, address: address})
}

// loopback is the address that everything listens on that nobody else is to reach.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// start starts what c describes.
func start(
	ctx context.Context, group *process.Group, binaries Binaries, c *Cluster,
) (*Cluster, error) {
	var err error
	if c.pki, err = newPKI(filepath.Join(c.dir, "pki"), c.address); err != nil {
		return nil, fmt.Errorf("cannot prepare the cluster's certificates: %w", err)
	}
	etcd, err := c.startEtcd(ctx, group, binaries.Etcd)
	if err != nil {
		return nil, err
	}
	if err := c.startAPIServer(ctx, group, binaries.KubeAPIServer, etcd); err != nil {
		return nil, err
	}
	return c, c.awaitNamespaces(ctx)
}

func (c *Cluster) startEtcd(
	ctx context.Context, group *process.Group, path string,
) (url string, err error) {
	err = process.WithFreePorts(2, func(attempt int, ports []int) error {
		url = "http://" + local(ports[0])
		peer := "http://" + local(ports[1])
		_, err := group.Run(ctx, process.Spec{Name: "etcd", Path: path, Args: []string{
			"--name=e2e",
			"--data-dir=" + filepath.Join(c.dir, "etcd-"+strconv.Itoa(attempt)),
			"--listen-client-urls=" + url, "--advertise-client-urls=" + url,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=e2e=" + peer, "--unsafe-no-fsync", "--log-level=warn",
		}}, process.HTTPGet(http.DefaultClient, url+"/health"))
		return err
	})
	return url, err
}

func (c *Cluster) startAPIServer(
	ctx context.Context, group *process.Group, path, etcd string,
) error {
	admin, err := c.pki.ca.issue(
		pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}, nil, nil)
	if err != nil {
		return fmt.Errorf("cannot make the administrator's certificate: %w", err)
	}
	return process.WithFreePorts(1, func(_ int, ports []int) error {
		c.URL = "https://" + net.JoinHostPort(c.address.String(), strconv.Itoa(ports[0]))
		c.Admin = c.config(func(config *rest.Config) {
			config.CertData, config.KeyData = admin.cert, admin.key
		})
		client, err := rest.HTTPClientFor(c.Admin)
		if err != nil {
			return err
		}
		if c.Client, err = kubernetes.NewForConfig(c.Admin); err != nil {
			return err
		}
		c.AdminKubeconfig = filepath.Join(c.dir, "admin.kubeconfig")
		if err := writeKubeconfig(c.AdminKubeconfig, "admin", c.Admin); err != nil {
			return err
		}
		c.group, c.apiServerReady = group, process.HTTPGet(client, c.URL+"/readyz")
		c.apiServerSpec = process.Spec{
			Name: "kube-apiserver", Path: path, Args: c.apiServerArgs(ports[0], etcd),
		}
		return c.ResumeAPIServer(ctx)
	})
}

// KillAPIServer ends kube-apiserver at once.
func (c *Cluster) KillAPIServer() { c.apiServer.Kill() }

// ResumeAPIServer starts kube-apiserver again, where it was, and waits until it is ready.
func (c *Cluster) ResumeAPIServer(ctx context.Context) (err error) {
	c.apiServer, err = c.group.Run(ctx, c.apiServerSpec, c.apiServerReady)
	return err
}

func (c *Cluster) apiServerArgs(port int, etcd string) []string {
	const issuer = "https://kubernetes.default.svc.cluster.local"
	args := []string{
		"--etcd-servers=" + etcd,
		"--bind-address=" + c.address.String(), "--secure-port=" + strconv.Itoa(port),
		"--advertise-address=" + c.address.String(), "--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
		"--tls-cert-file=" + c.pki.path("apiserver.crt"),
		"--tls-private-key-file=" + c.pki.path("apiserver.key"),
		"--client-ca-file=" + c.pki.path("ca.crt"),
		"--service-account-issuer=" + issuer,
		"--service-account-key-file=" + c.pki.path("sa.pub"),
		"--service-account-signing-key-file=" + c.pki.path("sa.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		// By name: the other addresses of a Node are those of a simulated rack.
		"--kubelet-preferred-address-types=Hostname",
		"--kubelet-certificate-authority=" + c.pki.path("ca.crt"),
		"--kubelet-client-certificate=" + c.pki.path("kubelet-client.crt"),
		"--kubelet-client-key=" + c.pki.path("kubelet-client.key"),
		"--requestheader-client-ca-file=" + c.pki.path("ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + c.pki.path("front-proxy-client.crt"),
		"--proxy-client-key-file=" + c.pki.path("front-proxy-client.key"),
		// Nothing here is left to drain when it ends.
		"--shutdown-delay-duration=0s",
	}
	if !c.taint {
		// Nobody here would take the not-ready taint away again.
		args = append(args, "--disable-admission-plugins=TaintNodesByCondition")
	}
	return args
}

// awaitNamespaces waits for what kube-apiserver makes by itself a moment after it is ready.
func (c *Cluster) awaitNamespaces(ctx context.Context) error {
	return process.Await(ctx, func(ctx context.Context) (bool, error) {
		for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
			var ns *corev1.Namespace
			ns, err := c.Client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
			if err != nil || ns.UID == "" {
				return false, nil
			}
		}
		return true, nil
	})
}

// config returns a client configuration for this cluster with the identity that identify sets.
func (c *Cluster) config(identify func(*rest.Config)) *rest.Config {
	config := &rest.Config{
		Host:            c.URL,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.pki.ca.pem},
		QPS:             -1, // no limit: the tests poll
	}
	identify(config)
	return config
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
