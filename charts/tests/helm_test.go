// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

const (
	repository  = "../.."
	chart       = "charts/oxide-cloud-controller-manager"
	releaseName = "oxide-cloud-controller-manager"
	namespace   = "kube-system"
	// kubeVersion is the oldest that has everything which the chart uses by default.
	kubeVersion = "1.29.0"
)

// inputs reads what the pinned helm reads, since the cache of test results knows only of files that
// the tests themselves open: without this, an edited template leaves an old `ok` standing.
var inputs = sync.OnceValue(func() error {
	err := filepath.WalkDir(filepath.Join(repository, chart),
		func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				_, err = os.ReadFile(path)
			}
			return err
		})
	for _, name := range []string{"tools/go.mod", "tools/go.sum"} {
		_, readErr := os.ReadFile(filepath.Join(repository, name))
		err = errors.Join(err, readErr)
	}
	return err
})

// tool asks the Go toolchain for a pinned tool, which it builds when its cache has none.
func tool(name string) (string, error) {
	cmd := exec.Command("go", "tool", "-modfile=tools/go.mod", "-n", name)
	cmd.Dir = repository
	cmd.Env = append(cmd.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", errors.New("the " + name + " of tools/go.mod cannot be built: " + stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

var helmPath = sync.OnceValues(func() (string, error) { return tool("helm") })

// helm runs the pinned helm in the repository's root, away from any configuration of the user, and
// returns what it printed. The values file `-` is the text given.
func helm(t *testing.T, values string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	if err := inputs(); err != nil {
		t.Fatal(err)
	}
	path, err := helmPath()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = repository
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "KUBECONFIG="+os.DevNull, "HELM_CACHE_HOME="+home,
		"HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	cmd.Stdin = strings.NewReader(values)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// rendering is what `helm template` printed.
type rendering struct {
	stdout, stderr string
	err            error
}

// renderings are those that were made: most promises are held for the same variants.
var renderings = map[string]rendering{}

// template runs `helm template` with the text of a values file, once for the same values and arguments.
// The arguments come last and win.
func template(t *testing.T, values string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	key := fmt.Sprintf("%q %q", values, args)
	made, known := renderings[key]
	if !known {
		all := append([]string{
			"template", chart, "--name-template", releaseName, "--namespace", namespace,
			"--kube-version", kubeVersion, "--values", "-",
		}, args...)
		made.stdout, made.stderr, made.err = helm(t, values, all...)
		renderings[key] = made
	}
	return made.stdout, made.stderr, made.err
}

// objects are what one rendering holds, by kind.
type objects struct {
	// deployment has the pods of daemonSet where there is one: what is promised of them is the same.
	deployment         *appsv1.Deployment
	daemonSet          *appsv1.DaemonSet
	secret             *corev1.Secret
	configMap          *corev1.ConfigMap
	serviceAccount     *corev1.ServiceAccount
	budget             *policyv1.PodDisruptionBudget
	clusterRole        *rbacv1.ClusterRole
	clusterRoleBinding *rbacv1.ClusterRoleBinding
	role               *rbacv1.Role
	// leaseRole is the role in kube-node-lease.
	leaseRole *rbacv1.Role
	// constraintRole is the one for OpenShift.
	constraintRole *rbacv1.Role
	roleBindings   []*rbacv1.RoleBinding
	// check is the pod of helm test.
	check          *corev1.Pod
	metricsService *corev1.Service
	podMonitor     *podMonitor
	serviceMonitor *serviceMonitor
	prometheusRule *prometheusRule
	dashboard      *corev1.ConfigMap
	// extra is the one of the user's own.
	extra *networkingv1.NetworkPolicy
}

// render renders the chart and decodes all of it strictly.
func render(t *testing.T, values string, args ...string) objects {
	t.Helper()
	out, stderr, err := template(t, values, args...)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, stderr)
	}
	return decode(t, out)
}

// rules are what all roles of a rendering allow.
func (o objects) rules() []rbacv1.PolicyRule {
	rules := slices.Clone(o.clusterRole.Rules)
	for _, role := range []*rbacv1.Role{o.role, o.leaseRole, o.constraintRole} {
		if role != nil {
			rules = append(rules, role.Rules...)
		}
	}
	return rules
}

// strict decodes one document into the type of its kind; unknown and duplicate fields are errors.
func strict(document []byte) (runtime.Object, error) {
	codecs := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict)
	object, _, err := codecs.UniversalDeserializer().Decode(document, nil, nil)
	return object, err
}

// decode sorts the objects of a rendering by kind. A kind that it does not know, and a second
// object of a kind that the chart renders once, fail the test.
func decode(t *testing.T, text string) objects {
	t.Helper()
	var all objects
	reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if isComment(document) {
			continue
		}
		if monitored, err := all.decodeMonitor(t, document); err != nil {
			t.Fatalf("not what its kind says: %v\n%s", err, document)
		} else if monitored {
			continue
		}
		object, err := strict(document)
		if err != nil {
			t.Fatalf("not what its kind says: %v\n%s", err, document)
		}
		switch typed := object.(type) {
		case *appsv1.Deployment:
			once(t, &all.deployment, typed)
		case *appsv1.DaemonSet:
			once(t, &all.daemonSet, typed)
			once(t, &all.deployment, podsOf(typed))
		case *corev1.Secret:
			once(t, &all.secret, typed)
		case *corev1.ConfigMap:
			if _, ok := typed.Data["ca.crt"]; ok {
				once(t, &all.configMap, typed)
			} else {
				once(t, &all.dashboard, typed)
			}
		case *corev1.ServiceAccount:
			once(t, &all.serviceAccount, typed)
		case *policyv1.PodDisruptionBudget:
			once(t, &all.budget, typed)
		case *rbacv1.ClusterRole:
			once(t, &all.clusterRole, typed)
		case *rbacv1.ClusterRoleBinding:
			once(t, &all.clusterRoleBinding, typed)
		case *rbacv1.Role:
			switch {
			case typed.Namespace == corev1.NamespaceNodeLease:
				once(t, &all.leaseRole, typed)
			case strings.HasSuffix(typed.Name, ":hostnetwork"):
				once(t, &all.constraintRole, typed)
			default:
				once(t, &all.role, typed)
			}
		case *rbacv1.RoleBinding:
			all.roleBindings = append(all.roleBindings, typed)
		case *corev1.Pod:
			once(t, &all.check, typed)
		case *corev1.Service:
			once(t, &all.metricsService, typed)
		case *networkingv1.NetworkPolicy:
			once(t, &all.extra, typed)
		default:
			t.Fatalf("the chart renders a %T, which no test looks at", object)
		}
	}
	if all.deployment == nil {
		t.Fatal("the rendering holds no Deployment")
	}
	return all
}

// podsOf returns a Deployment with the pods of a DaemonSet.
func podsOf(set *appsv1.DaemonSet) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: set.ObjectMeta,
		Spec: appsv1.DeploymentSpec{
			Selector: set.Spec.Selector, Template: set.Spec.Template,
			RevisionHistoryLimit: set.Spec.RevisionHistoryLimit,
		},
	}
}

func once[T any](t *testing.T, place **T, object *T) {
	t.Helper()
	if *place != nil {
		t.Fatalf("the rendering holds two objects of type %T", object)
	}
	*place = object
}

// isComment says that a document holds no object, as the manifest's header.
func isComment(document []byte) bool {
	for line := range strings.Lines(string(document)) {
		line = strings.TrimSpace(line)
		if line != "" && line != "---" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}
