// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plugins

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// script is the plugin.
const script = "kubectl-oxide"

// lease is where the leader is looked for.
const lease = "kube-system/cloud-controller-manager"

// ended is how the plugin ended.
type ended struct {
	code           int
	stdout, stderr string
	asked          [][]string
}

// run runs the plugin for a cluster, by a shell or by itself.
func run(t *testing.T, c cluster, shell []string, args ...string) ended {
	t.Helper()
	env, file := install(t, c)
	path, err := filepath.Abs(script)
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(shell, []string{path}, args)
	cmd := exec.CommandContext(t.Context(), all[0], all[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &stdout, &stderr
	cmd.Stdin = strings.NewReader("typed")
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String(), asked(t, file)}
}

// two are the replicas of a release, of which the one on node-b leads.
func two(change ...func(*cluster)) cluster {
	c := cluster{
		Pods: []corev1.Pod{
			pod("kube-system", "ccm", "ccm-1", "node-a"), pod("kube-system", "ccm", "ccm-2", "node-b"),
		},
		Holders: map[string]string{lease: "node-b_0f6d2c1e-5a3b"},
		Leader:  "kube-system/ccm-2",
	}
	for _, edit := range change {
		edit(&c)
	}
	return c
}

func leads(pod, holder string) func(*cluster) {
	return func(c *cluster) { c.Leader, c.Holders = pod, map[string]string{lease: holder} }
}

// Whoever asks does not know which pod leads.
func TestTheLeaderIsAsked(t *testing.T) {
	for _, tc := range []struct {
		name    string
		cluster cluster
		flags   []string
		leader  string
		// probes is how many pods are asked first whether they lead.
		probes int
	}{
		{name: "in the host's network", cluster: two(), leader: "kube-system/ccm-2"},
		{name: "the other", cluster: two(leads("kube-system/ccm-1", "node-a_1")), leader: "kube-system/ccm-1"},
		{name: "in a network of its own", cluster: two(leads("kube-system/ccm-1", "ccm-1_1")), leader: "kube-system/ccm-1"},
		{
			name: "a host with a domain", cluster: two(leads("kube-system/ccm-1", "node-a.example.com_1")),
			leader: "kube-system/ccm-1",
		},
		{
			name: "a node with a domain", leader: "kube-system/ccm-2",
			cluster: two(leads("kube-system/ccm-2", "node-c_1"), func(c *cluster) {
				c.Pods[1].Spec.NodeName = "node-c.example.com"
			}),
		},
		{
			name: "as a sidecar", leader: "kube-system/ccm-2",
			cluster: two(func(c *cluster) { asSidecar(&c.Pods[0]); asSidecar(&c.Pods[1]) }),
		},
		{
			name: "a host that is no node's", cluster: two(leads("kube-system/ccm-2", "somewhere_1")),
			leader: "kube-system/ccm-2", probes: 2,
		},
		{
			name: "a Lease that may not be read", leader: "kube-system/ccm-1", probes: 1,
			cluster: two(func(c *cluster) { c.Leader, c.Holders = "kube-system/ccm-1", nil }),
		},
		{
			name: "one that is the only one", leader: "kube-system/ccm-2",
			cluster: two(func(c *cluster) { c.Holders = nil; waits(&c.Pods[0]) }),
		},
		{
			name: "several releases", leader: "oxide/trial-1", probes: 2,
			cluster: two(func(c *cluster) {
				c.Pods = append(c.Pods, pod("oxide", "trial", "trial-1", "node-b"))
				c.Leader = "oxide/trial-1"
			}),
		},
		{
			name: "a namespace", leader: "oxide/trial-1", flags: []string{"--namespace", "oxide"},
			cluster: two(leads("oxide/trial-1", "node-b_1"), func(c *cluster) {
				c.Pods = append(c.Pods, pod("oxide", "trial", "trial-1", "node-b"))
			}),
		},
		{
			name: "a release with another name of the chart", leader: "kube-system/trial-1",
			flags: []string{"-r=trial"},
			cluster: two(leads("kube-system/trial-1", "node-b_1"), func(c *cluster) {
				p := pod("kube-system", "trial", "trial-1", "node-b")
				p.Labels["app.kubernetes.io/name"] = "another"
				c.Pods = append(c.Pods, p)
			}),
		},
		{
			name: "another Lease", leader: "kube-system/ccm-1", flags: []string{"--lease=oxide/ccm"},
			cluster: two(func(c *cluster) {
				c.Leader, c.Holders["oxide/ccm"] = "kube-system/ccm-1", "node-a_1"
			}),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := run(t, tc.cluster, nil, append(tc.flags, "explain", "shop/web", "-o", "json", "a b")...)
			want := tc.leader + `: ["oxide-backend" "explain" "shop/web" "-o" "json" "a b"]` + "\n"
			if got.code != 0 || got.stdout != want || got.stderr != "" {
				t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
			}
			execs := slices.DeleteFunc(got.asked, func(args []string) bool { return args[0] != "exec" })
			if len(execs) != tc.probes+1 {
				t.Errorf("%d pods are asked before, want %d: %q", len(execs)-1, tc.probes, execs)
			}
			if last := execs[len(execs)-1]; flagOf(last, "--container") != "oxide-backend" ||
				slices.Contains(last, "--tty") || slices.Contains(last, "--stdin") {
				t.Errorf("without a terminal kubectl is asked %q", last)
			}
		})
	}
}

// The cluster is the one that kubectl would ask with the same flags.
func TestEveryRequestIsForTheClusterThatWasAskedFor(t *testing.T) {
	got := run(t, two(), nil, "--context", "prod", "--kubeconfig=my config", "--", "status", "--context")
	if got.code != 0 || got.stdout != `kube-system/ccm-2: ["oxide-backend" "status" "--context"]`+"\n" {
		t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
	for _, args := range got.asked {
		if !slices.Equal(args[:4], []string{"--kubeconfig", "my config", "--context", "prod"}) {
			t.Errorf("kubectl is asked %q", args)
		}
	}
}

// Scripts go by the exit code of the command.
func TestTheExitCodeIsThatOfTheCommand(t *testing.T) {
	if got := run(t, two(), nil, "fails"); got.code != 1 {
		t.Errorf("exit code %d", got.code)
	}
	nobody := two(func(c *cluster) { c.Leader = "" })
	if got := run(t, nobody, nil, "status"); got.code != 3 || !strings.Contains(got.stderr, "no session") {
		t.Errorf("where no pod leads: exit code %d: %s", got.code, got.stderr)
	}
}

func TestWhatIsWrongIsOneLineWithARemedy(t *testing.T) {
	for _, tc := range []struct {
		name    string
		cluster cluster
		args    []string
		code    int
		says    []string
	}{
		{"no command", two(), nil, 2, []string{"give a command", "kubectl oxide --help"}},
		{"an unknown flag", two(), []string{"-o", "json", "status"}, 2, []string{"no flag -o before a command"}},
		{"an unknown long flag", two(), []string{"--yes=1", "status"}, 2, []string{"no flag --yes before"}},
		{"no value", two(), []string{"--namespace"}, 2, []string{"--namespace needs a value"}},
		{"an empty value", two(), []string{"--release=", "status"}, 2, []string{"--release is empty"}},
		{"a wrong Lease", two(), []string{"--lease=x", "status"}, 2, []string{"--lease x", "NAMESPACE/NAME"}},
		{
			"pods that may not be listed", two(func(c *cluster) { c.Refuses = "Error from server (Forbidden): no" }),
			[]string{"status"}, 1, []string{"Error from server (Forbidden): no:", "--namespace"},
		},
		{
			"no pod", cluster{}, []string{"status"}, 1,
			[]string{"there is no pod of the Oxide Cloud Controller Manager in any namespace", "--context"},
		},
		{
			"no pod there", two(), []string{"-n", "default", "-r", "x", "status"}, 1,
			[]string{"in the namespace default, of the release x"},
		},
		{
			"no pod that runs", two(func(c *cluster) { waits(&c.Pods[0]); waits(&c.Pods[1]) }), []string{"status"},
			1, []string{"no pod has a running oxide-backend", "kubectl --namespace kube-system describe pod ccm-2"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := run(t, tc.cluster, nil, tc.args...)
			if got.code != tc.code || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 ||
				!strings.HasPrefix(got.stderr, "kubectl oxide: ") {
				t.Errorf("exit code %d, want %d: %s%s", got.code, tc.code, got.stdout, got.stderr)
			}
			for _, part := range tc.says {
				if !strings.Contains(got.stderr, part) {
					t.Errorf("there is no %q in %s", part, got.stderr)
				}
			}
		})
	}
	env := []string{"PATH=/nonexistent"}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", script, "status")
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "no kubectl in PATH") ||
		bytes.Count(out, []byte("\n")) != 1 {
		t.Errorf("without kubectl: %v, %s", err, out)
	}
}

func TestHelpNeedsNoCluster(t *testing.T) {
	for _, flag := range []string{"-h", "--help"} {
		got := run(t, cluster{}, nil, flag)
		if got.code != 0 || len(got.asked) > 0 || !strings.Contains(got.stdout, "kubectl oxide plan --cordon") {
			t.Errorf("%s: exit code %d: %s%s", flag, got.code, got.stdout, got.stderr)
		}
		for line := range strings.Lines(got.stdout) {
			if len(line) > 106 {
				t.Errorf("a line is too long: %s", line)
			}
		}
	}
}

// Its shell is whatever /bin/sh is.
func TestEveryShellRunsIt(t *testing.T) {
	for _, shell := range [][]string{
		{"sh"}, {"dash"}, {"bash", "--posix"}, {"busybox", "sh"}, {"ksh"}, {"zsh", "--emulate", "sh"},
	} {
		t.Run(shell[0], func(t *testing.T) {
			if _, err := exec.LookPath(shell[0]); err != nil {
				t.Skip(err)
			}
			c := two(leads("kube-system/ccm-2", "elsewhere_1"))
			if got := run(t, c, shell, "status"); got.code != 0 || !strings.HasPrefix(got.stdout, c.Leader) {
				t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
			}
		})
	}
}

func TestShellcheckFindsNothing(t *testing.T) {
	checker, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed")
	}
	cmd := exec.CommandContext(t.Context(), checker, "--severity", "style", script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}
