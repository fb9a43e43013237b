// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plugins

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/jsonpath"
)

// stubVariable makes this program play kubectl, for the cluster in the file that it names.
const stubVariable = "PLAY_KUBECTL"

// cluster is what kubectl is asked about.
type cluster struct {
	Pods []corev1.Pod
	// Holders are of Leases, by namespace and name.
	Holders map[string]string
	// Leader is the pod whose backend has the session.
	Leader string
	// Refuses is the error of every request for pods.
	Refuses string
}

func TestMain(m *testing.M) {
	if file := os.Getenv(stubVariable); file != "" {
		os.Exit(playKubectl(file, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// playKubectl answers as kubectl does, and keeps what it was asked beside the file.
func playKubectl(file string, args []string) int {
	text, err := os.ReadFile(file)
	var c cluster
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err == nil {
		err = record(file+".asked", args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	for len(args) > 2 && (args[0] == "--context" || args[0] == "--kubeconfig") {
		args = args[2:]
	}
	switch kind := strings.Join(args[:2], " "); {
	case kind == "get pods" && c.Refuses != "":
		fmt.Fprintln(os.Stderr, "Warning: something else")
		fmt.Fprintln(os.Stderr, c.Refuses)
		return 1
	case kind == "get pods":
		pods := c.list(flagOf(args, "--namespace"), flagOf(args, "--selector"))
		return printPath(pods, flagOf(args, "--output"))
	case kind == "get lease":
		holder, ok := c.Holders[flagOf(args, "--namespace")+"/"+args[4]]
		if !ok {
			fmt.Fprintln(os.Stderr, "Error from server (NotFound)")
			return 1
		}
		return printPath(map[string]any{"spec": map[string]any{"holderIdentity": holder}},
			flagOf(args, "--output"))
	case args[0] == "exec":
		return c.exec(flagOf(args, "--namespace")+"/"+args[3], args)
	}
	fmt.Fprintln(os.Stderr, "error: unknown command")
	return 1
}

// record adds a line.
func record(file string, args []string) error {
	line, err := json.Marshal(args)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errorOf(err, f.Close())
}

func errorOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// flagOf returns the value of a flag, given with "=" or as the next argument.
func flagOf(args []string, name string) string {
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, name+"="); ok {
			return value
		}
		if arg == name && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

func (c *cluster) list(namespace, selector string) *corev1.PodList {
	selects, err := labels.Parse(selector)
	if err != nil {
		panic(err)
	}
	list := new(corev1.PodList)
	for _, pod := range c.Pods {
		if (namespace == "" || pod.Namespace == namespace) && selects.Matches(labels.Set(pod.Labels)) {
			list.Items = append(list.Items, pod)
		}
	}
	return list
}

// printPath prints what a JSONPath finds, as kubectl does.
func printPath(object any, output string) int {
	path := jsonpath.New("out").AllowMissingKeys(true)
	err := path.Parse(strings.TrimPrefix(output, "jsonpath="))
	if err == nil {
		err = path.Execute(os.Stdout, object)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// exec plays oxide-backend in a pod: that of the leader says what it was asked.
func (c *cluster) exec(pod string, args []string) int {
	command := args[slices.Index(args, "--")+1:]
	if pod != c.Leader {
		fmt.Fprintln(os.Stderr, "oxide-backend: no session runs in this oxide-backend")
		return 3
	}
	stdin, _ := io.ReadAll(os.Stdin)
	fmt.Printf("%s: %q%s\n", pod, command, stdin)
	if slices.Contains(command, "fails") {
		return 1
	}
	return 0
}

// pod makes one of a release, that runs on a node.
func pod(namespace, release, name, node string, change ...func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{
			"app.kubernetes.io/name":     "oxide-cloud-controller-manager",
			"app.kubernetes.io/instance": release,
		}},
		Spec: corev1.PodSpec{NodeName: node},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "ccm-shim", State: runs()}, {Name: "oxide-backend", State: runs()},
		}},
	}
	for _, c := range change {
		c(&p)
	}
	return p
}

func runs() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
}

// waits makes the backend one that does not run.
func waits(p *corev1.Pod) {
	p.Status.ContainerStatuses[1].State = corev1.ContainerState{Waiting: new(corev1.ContainerStateWaiting)}
}

// asSidecar makes the backend an init container that goes on.
func asSidecar(p *corev1.Pod) {
	p.Status.InitContainerStatuses = p.Status.ContainerStatuses[1:]
	p.Status.ContainerStatuses = p.Status.ContainerStatuses[:1]
}

// install puts the stub into a folder as kubectl, and returns the environment with it, and the file of a
// cluster.
func install(t *testing.T, c cluster) (env []string, file string) {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(dir, "kubectl"))
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	file = filepath.Join(dir, "cluster.json")
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return []string{"PATH=" + dir + ":" + os.Getenv("PATH"), stubVariable + "=" + file}, file
}

// asked returns what kubectl was asked.
func asked(t *testing.T, file string) (all [][]string) {
	t.Helper()
	text, err := os.ReadFile(file + ".asked")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var args []string
		if err := json.Unmarshal([]byte(line), &args); err != nil {
			t.Fatal(err)
		}
		all = append(all, args)
	}
	return all
}
