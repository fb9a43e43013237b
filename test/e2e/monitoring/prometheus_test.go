// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2emonitoring

package monitoring

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/demo"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

// tools are built once.
type tools struct{ prometheus, promtool string }

// buildTools builds Prometheus and promtool from their module, without the discovery of clouds.
func buildTools(t *testing.T, root string) tools {
	t.Helper()
	const cmd = "github.com/prometheus/prometheus/cmd/"
	bin := filepath.Join(root, "bin")
	if err := cluster.GoBuild(t.Context(), progress.ForTest("monitoring"), cluster.BuildSpec{
		Title: "prometheus and promtool (the first time takes minutes)",
		Dir:   filepath.Join(root, "test", "e2e", "prometheus"), Tags: []string{"remove_all_sd"},
		Output: bin + "/", Packages: []string{cmd + "prometheus", cmd + "promtool"},
	}); err != nil {
		t.Fatal(err)
	}
	return tools{filepath.Join(bin, "prometheus"), filepath.Join(bin, "promtool")}
}

// prometheus is a running one.
type prometheus struct {
	t   *testing.T
	url string
	// began is when it had scraped for the first time.
	began time.Time
}

const (
	scrapeInterval = time.Second
	// limit is how long anything is waited for.
	limit = 30 * time.Second
)

// startPrometheus has both programs of a run of the demo scraped, with the alerts of the chart.
func startPrometheus(
	ctx context.Context, t *testing.T, program, root string, running demo.Running, metrics string,
) (*prometheus, error) {
	t.Helper()
	shim, err := shimAddress(running.CCM.Shim.LogFile())
	if err != nil {
		return nil, err
	}
	token, err := reader(ctx, running)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(running.Dir, "prometheus.yaml")
	text := fmt.Sprintf(`
global: {scrape_interval: %[1]s, evaluation_interval: %[1]s}
rule_files: [%[2]q]
scrape_configs:
  - job_name: oxide-backend
    static_configs: [{targets: [%[3]q]}]
  - job_name: ccm-shim
    scheme: https
    authorization: {credentials_file: %[4]q}
    tls_config: {insecure_skip_verify: true}
    static_configs: [{targets: [%[5]q]}]
`, scrapeInterval, filepath.Join(root, "charts/oxide-cloud-controller-manager/files/alerts.yaml"),
		metrics, token, shim)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p := &prometheus{t: t}
	err = process.WithFreePorts(1, func(_ int, ports []int) error {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
		p.url = "http://" + address
		_, err := running.Group.Run(ctx, process.Spec{
			Name: "prometheus", Path: program,
			Args: []string{
				"--config.file=" + config, "--web.listen-address=" + address,
				"--storage.tsdb.path=" + filepath.Join(running.Dir, "tsdb"),
			},
		}, p.scraped)
		return err
	})
	p.began = time.Now()
	return p, err
}

// shimAddress returns where the shim serves.
func shimAddress(log string) (string, error) {
	text, err := os.ReadFile(log)
	if err != nil {
		return "", err
	}
	address := regexp.MustCompile(`Serving securely on ([0-9.:]+)`).FindSubmatch(text)
	if address == nil {
		return "", fmt.Errorf("%s does not say where the shim serves", log)
	}
	return string(address[1]), nil
}

// reader makes a user who may read the shim's metrics, and returns the file with its token.
func reader(ctx context.Context, running demo.Running) (string, error) {
	const name = "prometheus"
	client, meta := running.Cluster.Client, metav1.ObjectMeta{Name: name}
	if _, err := client.CoreV1().ServiceAccounts("default").Create(ctx,
		&corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
		return "", err
	}
	if _, err := client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: meta,
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}},
	}, metav1.CreateOptions{}); err != nil {
		return "", err
	}
	if _, err := client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: "default"}},
	}, metav1.CreateOptions{}); err != nil {
		return "", err
	}
	config, err := running.Cluster.ServiceAccount(ctx, "default", name)
	if err != nil {
		return "", err
	}
	file := filepath.Join(running.Dir, "prometheus-token")
	return file, os.WriteFile(file, []byte(config.BearerToken), 0o600)
}

// scraped returns nil when both programs are.
func (p *prometheus) scraped(ctx context.Context) error {
	result, err := p.query(ctx, "sum(up)")
	if err == nil && (len(result) != 1 || result[0].value() != 2) {
		err = fmt.Errorf("scraped: %v of 2", result)
	}
	return err
}

// series is one of an answer: with a value, or with values over time.
type series struct {
	Metric map[string]string `json:"metric"`
	Value  sample            `json:"value"`
	Values []sample          `json:"values"`
}

// sample is a time in seconds and a value in text.
type sample [2]any

func (s sample) number() float64 {
	text, _ := s[1].(string)
	number, _ := strconv.ParseFloat(text, 64)
	return number
}

func (s series) value() float64 { return s.Value.number() }

// get asks the API of Prometheus; warnings are errors.
func (p *prometheus) get(ctx context.Context, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/api/v1/"+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var answer struct {
		Status, Error string
		Warnings      []string
		Infos         []string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	if answer.Status != "success" || len(answer.Warnings)+len(answer.Infos) > 0 {
		return fmt.Errorf("%s %s %v %v", answer.Status, answer.Error, answer.Warnings, answer.Infos)
	}
	return json.Unmarshal(answer.Data, into)
}

// query evaluates an expression now.
func (p *prometheus) query(ctx context.Context, expression string) ([]series, error) {
	var data struct{ Result []series }
	err := p.get(ctx, "query?"+url.Values{"query": {expression}}.Encode(), &data)
	return data.Result, err
}

// over evaluates an expression for each second since the first scrape.
func (p *prometheus) over(ctx context.Context, expression string) ([]series, error) {
	var data struct{ Result []series }
	at := func(when time.Time) string { return strconv.FormatInt(when.Unix(), 10) }
	err := p.get(ctx, "query_range?"+url.Values{
		"query": {expression}, "start": {at(p.began)}, "end": {at(time.Now())}, "step": {"1"},
	}.Encode(), &data)
	return data.Result, err
}

// await waits until an expression has a value that is not zero.
func (p *prometheus) await(ctx context.Context, expression string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit,
		fmt.Errorf("%s was not seen within %s", expression, limit))
	defer cancel()
	return process.Await(ctx, func(ctx context.Context) (bool, error) {
		result, err := p.query(ctx, expression)
		return err == nil && len(result) > 0 && result[0].value() != 0, nil
	})
}

// oneLine makes an expression fit for a message.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
