// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// A right that is never used would be there for whoever takes over the pod, and one that is used is
// missed as soon as it goes: so what the shim asks of the API server over a life with all that a
// CCM does is compared with the manifest, right by right.
func TestEveryRightOfTheManifestIsUsed(t *testing.T) {
	e := newEnvironment(t, settings{idle: true})
	used := e.watchRequests()
	options := e.ccmOptions(settings{shimFlags: []string{quickMonitor}})
	options.Kubeconfig = used.kubeconfig
	ccm, err := stack.StartCCM(t.Context(), options)
	e.must(err)
	e.ccm = ccm

	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80))
	e.served("web")
	e.changePort("web", 81)
	// Endpoints are looked at for such a Service only.
	local := objects.LoadBalancer("default", "local", objects.TCP(90))
	local.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	_, err = e.client.CoreV1().Services("default").Create(t.Context(), local, metav1.CreateOptions{})
	e.must(err)
	e.scrapeMetrics(used.token)
	e.must(e.rack.StopInstance(t.Context(), "node-b"))
	e.ready(corev1.ConditionUnknown, "node-b")
	e.eventually(func(ctx context.Context) (string, error) {
		node, err := e.client.CoreV1().Nodes().Get(ctx, "node-b", metav1.GetOptions{})
		if err == nil && !objects.HasTaint(node, "node.cloudprovider.kubernetes.io/shutdown") {
			return "the taint of a node whose instance is off", nil
		}
		return "", err
	})
	e.must(e.rack.RemoveInstances(t.Context(), "node-b"))
	e.must(e.client.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}))

	wanted := manifestRights(t)
	e.eventually(func(context.Context) (string, error) {
		unused := slices.DeleteFunc(slices.Clone(wanted), used.has)
		if len(unused) > 0 {
			return fmt.Sprintf("a request that needs %v; there were %v", unused, used.list()), nil
		}
		return "", nil
	})
}

// On trial it has no right to change anything, and misses none.
func TestATrialNeedsNoRightToChangeAnything(t *testing.T) {
	e := newEnvironment(t, settings{idle: true})
	e.holdLease("who-is-in-charge")
	e.register("node-a")
	e.create("web", objects.TCP(80))
	options := e.ccmOptions(settings{child: true, shimFlags: []string{"--read-only"}})
	options.Kubeconfig, options.Standby = e.identity("trial", "readOnly=true"), true
	ccm, err := stack.StartCCM(t.Context(), options)
	e.must(err)
	for _, wanted := range []string{"Would initialize the node", "Would change in Oxide"} {
		e.eventually(func(context.Context) (string, error) {
			text, err := os.ReadFile(ccm.Shim.LogFile())
			if err != nil || strings.Contains(string(text), wanted) {
				return "", err
			}
			return "a line with " + wanted, nil
		})
	}
	// That nothing was forbidden is looked for in the logs at the end of every test.
}

// identity creates the identity that the chart makes for a release with some values, and returns its
// kubeconfig.
func (e *environment) identity(release string, values ...string) string {
	e.Helper()
	root, err := stack.Root()
	e.must(err)
	render := exec.CommandContext(e.Context(), "go", "tool", "-modfile=tools/go.mod", "helm",
		"template", release, "charts/oxide-cloud-controller-manager", "--namespace", "kube-system",
		"--set", strings.Join(values, ","), "--skip-tests")
	render.Dir = root
	render.Env = append(render.Environ(), "GOWORK=off")
	rendering, err := render.Output()
	e.must(err)
	accounts, err := shared.cluster.ApplyIdentity(e.Context(), rendering)
	e.must(err)
	config, err := shared.cluster.ServiceAccount(e.Context(), accounts[0].Namespace, accounts[0].Name)
	e.must(err)
	path := filepath.Join(e.dir, release+".kubeconfig")
	e.must(shared.cluster.WriteKubeconfig(path, accounts[0].Name, config))
	return path
}

// right is one thing that a rule allows.
type right struct{ verb, group, resource, name string }

// manifestRights returns all that the rules of the manifest allow, one by one.
func manifestRights(t *testing.T) []right {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "manifests", "oxide-cloud-controller-manager.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// What the role of Kubernetes itself that the manifest binds is for.
	all := []right{{"list", "", "configmaps", ""}, {"watch", "", "configmaps", ""}}
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(document, nil, nil)
		if err != nil {
			continue // comments only
		}
		switch role := object.(type) {
		case *rbacv1.ClusterRole:
			all = append(all, rightsOf(role.Rules)...)
		case *rbacv1.Role:
			all = append(all, rightsOf(role.Rules)...)
		}
	}
}

func rightsOf(rules []rbacv1.PolicyRule) []right {
	var all []right
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, verb := range rule.Verbs {
			for _, resource := range rule.Resources {
				for _, name := range names {
					all = append(all, right{verb, rule.APIGroups[0], resource, name})
				}
			}
		}
	}
	return all
}

// requests are what was asked of the API server, and granted.
type requests struct {
	kubeconfig, token string

	mu  sync.Mutex
	all map[right]bool
}

// has reports whether a right was used; one without a name is used by a request for any name.
func (r *requests) has(want right) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for done := range r.all {
		if want.name == "" {
			done.name = ""
		}
		if done == want {
			return true
		}
	}
	return false
}

func (r *requests) list() []right {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []right
	for done := range r.all {
		all = append(all, done)
	}
	return all
}

// watchRequests puts a proxy before the API server that sees what the shim asks of it.
func (e *environment) watchRequests() *requests {
	e.Helper()
	config, err := clientcmd.LoadFromFile(shared.kubeconfig)
	e.must(err)
	direct, err := clientcmd.BuildConfigFromFlags("", shared.kubeconfig)
	e.must(err)
	target, err := url.Parse(direct.Host)
	e.must(err)
	trust, err := rest.TLSConfigFor(direct)
	e.must(err)

	r := &requests{
		kubeconfig: filepath.Join(e.dir, "watched.kubeconfig"), token: direct.BearerToken,
		all: make(map[right]bool),
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
		Transport: &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true},
		// Watches are to be seen as they come.
		FlushInterval: -1,
		ModifyResponse: func(answer *http.Response) error {
			if answer.StatusCode != http.StatusUnauthorized &&
				answer.StatusCode != http.StatusForbidden {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.all[rightOf(answer.Request)] = true
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway) // the shim has gone, or the API server
		},
	}
	// Without TLS the shim would not send its token.
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// An API server before Kubernetes 1.34, as the chart admits, streams no lists.
		if r.URL.Query().Get("sendInitialEvents") == "true" {
			http.Error(w, "lists are not streamed here", http.StatusUnprocessableEntity)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	// Connections that the shim gives up, as it does when it ends, are nobody's worry.
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	e.Cleanup(server.CloseClientConnections)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name := range config.Clusters {
		config.Clusters[name] = &clientcmdapi.Cluster{
			Server: server.URL, CertificateAuthorityData: ca,
		}
	}
	e.must(clientcmd.WriteToFile(*config, r.kubeconfig))
	return r
}

// rightOf says which right a request takes, as the API server would.
func rightOf(request *http.Request) right {
	parts := strings.Split(strings.Trim(request.URL.Path, "/"), "/")
	var found right
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		found.group, parts = parts[1], parts[3:]
	default:
		return found
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	found.resource = parts[0]
	if len(parts) > 1 {
		found.name = parts[1]
	}
	if len(parts) > 2 {
		found.resource += "/" + parts[2]
	}
	query := request.URL.Query()
	switch request.Method {
	case http.MethodGet:
		found.verb = "get"
		if found.name == "" {
			found.verb = "list"
			if watch := query.Get("watch"); watch == "true" || watch == "1" {
				found.verb = "watch"
			}
		}
	case http.MethodPost:
		found.verb = "create"
	case http.MethodPut:
		found.verb = "update"
	default:
		found.verb = strings.ToLower(request.Method)
	}
	return found
}

// changePort makes the framework look at a Service once more, and tell of it once more.
func (e *environment) changePort(name string, port int32) {
	e.Helper()
	services := e.client.CoreV1().Services("default")
	e.must(objects.Change(e.Context(), name, services.Get, services.Update,
		func(service *corev1.Service) { service.Spec.Ports[0].Port = port }))
}

// scrapeMetrics asks the shim for its metrics, for which it asks who that is, and whether they may.
func (e *environment) scrapeMetrics(token string) {
	e.Helper()
	text, err := os.ReadFile(e.ccm.Shim.LogFile())
	e.must(err)
	address := regexp.MustCompile(`Serving securely on ([0-9.:]+)`).FindSubmatch(text)
	if address == nil {
		e.Fatal("the shim does not say where it serves")
	}
	request, err := http.NewRequestWithContext(e.Context(), http.MethodGet,
		"https://"+string(address[1])+"/metrics", nil)
	e.must(err)
	request.Header.Set("Authorization", "Bearer "+token)
	client := &http.Client{Transport: &http.Transport{
		// The shim signs its own certificate.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	answer, err := client.Do(request)
	e.must(err)
	e.must(answer.Body.Close())
	// The shim's own user may not, which takes the same questions.
	if answer.StatusCode != http.StatusForbidden {
		e.Errorf("/metrics answers %s, want 403", answer.Status)
	}
}
