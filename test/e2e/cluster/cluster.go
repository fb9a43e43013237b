// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

// startAttempts bounds the tries to start a program on free ports: between the choice of a port
// and its use another program may take it.
const startAttempts = 3

// Cluster is a running control plane. There is no kubelet, scheduler or controller manager in it:
// Nodes and Services are plain objects, and only what a test starts acts on them.
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
}

// Start runs etcd and kube-apiserver as members of group, with their state in dir, and waits until
// they serve and the namespaces default and kube-system exist.
func Start(
	ctx context.Context, group *process.Group, binaries Binaries, dir string,
) (*Cluster, error) {
	pki, err := newPKI(filepath.Join(dir, "pki"))
	if err != nil {
		return nil, fmt.Errorf("cannot prepare the cluster's certificates: %w", err)
	}
	c := &Cluster{dir: dir, pki: pki}
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
	err = withFreePorts(2, func(attempt int, ports []int) error {
		url = "http://" + local(ports[0])
		peer := "http://" + local(ports[1])
		return run(ctx, group, process.Spec{Name: "etcd", Path: path, Args: []string{
			"--name=e2e",
			"--data-dir=" + filepath.Join(c.dir, "etcd-"+strconv.Itoa(attempt)),
			"--listen-client-urls=" + url, "--advertise-client-urls=" + url,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=e2e=" + peer, "--unsafe-no-fsync", "--log-level=warn",
		}}, get(http.DefaultClient, url+"/readyz"))
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
	return withFreePorts(1, func(_ int, ports []int) error {
		c.URL = "https://" + local(ports[0])
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
		return run(ctx, group, process.Spec{
			Name: "kube-apiserver", Path: path, Args: c.apiServerArgs(ports[0], etcd),
		}, get(client, c.URL+"/readyz"))
	})
}

func (c *Cluster) apiServerArgs(port int, etcd string) []string {
	const issuer = "https://kubernetes.default.svc.cluster.local"
	return []string{
		"--etcd-servers=" + etcd,
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(port),
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--tls-cert-file=" + c.pki.path("apiserver.crt"),
		"--tls-private-key-file=" + c.pki.path("apiserver.key"),
		"--client-ca-file=" + c.pki.path("ca.crt"),
		"--service-account-issuer=" + issuer,
		"--service-account-key-file=" + c.pki.path("sa.pub"),
		"--service-account-signing-key-file=" + c.pki.path("sa.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
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

// run starts a program and waits until it is ready. A program that is not ready in time is killed.
func run(
	ctx context.Context, group *process.Group, spec process.Spec,
	check func(context.Context) error,
) error {
	p, err := group.Start(spec)
	if err != nil {
		return err
	}
	const limit = time.Minute
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("waited %s", limit))
	defer cancel()
	if err := p.Ready(ctx, check); err != nil {
		p.Kill()
		return err
	}
	return nil
}

// withFreePorts calls start with n ports that were free a moment ago, again with others if the
// program says that one of them was taken meanwhile.
func withFreePorts(n int, start func(attempt int, ports []int) error) error {
	for attempt := 1; ; attempt++ {
		ports, err := FreePorts(n)
		if err != nil {
			return err
		}
		err = start(attempt, ports)
		var exit *process.ExitError
		if errors.As(err, &exit) && attempt < startAttempts &&
			strings.Contains(strings.Join(exit.Tail, "\n"), "address already in use") {
			continue
		}
		return err
	}
}

// FreePorts returns n different TCP ports of the loopback address that nobody listens on.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("no free port on 127.0.0.1: %w", err)
		}
		defer listener.Close()
		addr, ok := listener.Addr().(*net.TCPAddr)
		if !ok {
			return nil, fmt.Errorf("no TCP port: %v", listener.Addr())
		}
		ports = append(ports, addr.Port)
	}
	return ports, nil
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// get returns a check that succeeds once url answers 200.
func get(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, response.Status)
		}
		return nil
	}
}
