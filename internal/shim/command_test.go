// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"k8s.io/cloud-provider/names"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/services"
)

// runMain runs the command in this process, as far as mistakes let it come.
func runMain(t *testing.T, args ...string) (code int, lines []string) {
	t.Helper()
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	var stderr bytes.Buffer
	code = Main(t.Context(), args, &stderr)
	return code, slices.Collect(strings.Lines(stderr.String()))
}

func TestAllMistakesOfOneStartAreReportedTogether(t *testing.T) {
	long := "unix:///" + strings.Repeat("x", 120)
	for _, tt := range []struct {
		name string
		args []string
		// want has one entry for each line: parts that it must have.
		want [][]string
	}{
		{"nothing given outside a cluster", nil, [][]string{{"--kubeconfig"}}},
		{"an unknown flag", []string{"--backnd=x"}, [][]string{{"--backnd", "--help"}}},
		{"a value that is no duration", []string{"--backend-unreachable-exit=soon"},
			[][]string{{"--backend-unreachable-exit", "soon"}}},
		{"an argument that is no flag", []string{"serve"}, [][]string{{"serve", "--help"}}},
		{"a TCP backend", []string{"--kubeconfig=KC", "--backend=tcp://127.0.0.1:1"},
			[][]string{{"--backend", "tcp://127.0.0.1:1", "unix:///"}}},
		{"a relative path", []string{"--kubeconfig=KC", "--backend=run/b.sock"},
			[][]string{{"--backend", "run/b.sock", "unix:///"}}},
		{"a path that is too long for a socket", []string{"--kubeconfig=KC", "--backend=" + long},
			[][]string{{"--backend", "107"}}},
		{"a kubeconfig that is not there", []string{"--kubeconfig=/nowhere/config"},
			[][]string{{"--kubeconfig", "/nowhere/config"}}},
		{"a kubeconfig that is none", []string{"--kubeconfig=/dev/null/x"},
			[][]string{{"--kubeconfig", "/dev/null/x"}}},
		{"a cloud configuration file", []string{"--kubeconfig=KC", "--cloud-config=/etc/oxide"},
			[][]string{{"--cloud-config", "oxide-backend"}}},
		{"a controller that there is not", []string{"--kubeconfig=KC", "--controllers=route"},
			[][]string{{"route"}}},
		{"the controller of Services without what it asks", []string{"--kubeconfig=KC", "--controllers=service"},
			[][]string{{"--controllers", "service-lb-controller", "oxide-load-balancer-controller"}}},
		{"all controllers but what that of Services asks",
			[]string{"--kubeconfig=KC", "--controllers=*,-oxide-load-balancer-controller"},
			[][]string{{"--controllers", "service-lb-controller and oxide-load-balancer-class-controller",
				"oxide-load-balancer-controller"}}},
		{"the controller of classes without what it asks",
			[]string{"--kubeconfig=KC", "--controllers=oxide-load-balancer-class-controller"},
			[][]string{{"--controllers", "oxide-load-balancer-class-controller cannot",
				"oxide-load-balancer-controller"}}},
		{"only classes, and not their controller",
			[]string{"--kubeconfig=KC", "--classed-load-balancers-only",
				"--controllers=*,-oxide-load-balancer-class-controller"},
			[][]string{{"--classed-load-balancers-only", "--controllers", "oxide-load-balancer-class-controller"}}},
		{"only classes, and the controller of all others",
			[]string{"--kubeconfig=KC", "--classed-load-balancers-only", "--controllers=*,service"},
			[][]string{{"--classed-load-balancers-only", "--controllers", "service-lb-controller"}}},
		{"a clock that stands still", []string{"--kubeconfig=KC", "--load-balancer-time-scale=0"},
			[][]string{{"--load-balancer-time-scale", "leave it out"}}},
		{"no time between removals", []string{"--kubeconfig=KC", "--node-removal-interval=0s"},
			[][]string{{"--node-removal-interval", "0s", "5s"}}},
		{"ids that are adopted and are none",
			[]string{"--kubeconfig=KC", "--adopt-cluster-id=a b,good", "--adopt-cluster-id=ü"},
			[][]string{{"--adopt-cluster-id", `"a b"`, "kube-system"},
				{"--adopt-cluster-id", `"ü"`, "kube-system"}}},
		{"an id that is too long to be adopted",
			[]string{"--kubeconfig=KC", "--adopt-cluster-id=" + strings.Repeat("a", 64)},
			[][]string{{"--adopt-cluster-id", "63"}}},
		{"a cluster that is to adopt itself",
			[]string{"--kubeconfig=KC", "--cluster-id=c1", "--adopt-cluster-id=c0,c1"},
			[][]string{{"--adopt-cluster-id", `"c1"`, "--cluster-id"}}},
		{"a legacy name that no address can have",
			[]string{"--kubeconfig=KC", "--legacy-cluster-name=My_Cluster"},
			[][]string{{"--legacy-cluster-name", "My_Cluster", "lower-case"}}},
		{"ports that are none", []string{"--kubeconfig=KC", "--reserved-ports=22,70000,x"},
			[][]string{{"--reserved-ports", `"70000"`, "2379-2380"}}},
		{"a range that is backwards", []string{"--kubeconfig=KC", "--reserved-ports=90-80"},
			[][]string{{"--reserved-ports", `"90-80"`}}},
		{"a variable that nobody replaced", []string{"--kubeconfig=KC", "--node-name=$(NODE_NAME)"},
			[][]string{{"--node-name", "$(NODE_NAME)", "leave it out"}}},
		{"flags of a backend that somebody else starts",
			[]string{"--kubeconfig=KC", "--backend=/run/b.sock", "--manage-firewall", "--firewall-priority=7"},
			[][]string{{"--manage-firewall", "--backend", "leave it out here"},
				{"--firewall-priority", "--backend", "leave it out here"}}},
		{"a region and a zone that are no labels",
			[]string{"--kubeconfig=KC", "--region=über alles", "--zone=-"},
			[][]string{{"--region", "über alles"}, {"--zone", "-"}}},
		{"relabelling with nothing", []string{"--kubeconfig=KC", "--relabel-topology"},
			[][]string{{"--relabel-topology", "--zone"}}},
		{"a zone from two places",
			[]string{"--kubeconfig=KC", "--zone=rack-1", "--zone-from-rack"},
			[][]string{{"--zone-from-rack", "rack-1"}}},
		{"several", []string{"--backend=b.sock", "--cluster-id=a b", "--cloud-provider=aws",
			"--backend-unreachable-exit=-1s", "--secure-port=99999"},
			[][]string{{"--backend"}, {"--backend-unreachable-exit"}, {"--cluster-id"},
				{"--cloud-provider", "aws"}, {"--kubeconfig"}, {"--secure-port"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := slices.Clone(tt.args)
			if i := slices.Index(args, "--kubeconfig=KC"); i >= 0 {
				args[i] = "--kubeconfig=" + kubeconfig(t)
			}
			code, lines := runMain(t, args...)
			if code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			if len(lines) != len(tt.want) {
				t.Fatalf("%d lines, want one for each of %d mistakes:\n%s",
					len(lines), len(tt.want), strings.Join(lines, ""))
			}
			for i, line := range lines {
				for _, part := range append([]string{"ccm-shim: "}, tt.want[i]...) {
					if !strings.Contains(line, part) {
						t.Errorf("the line %q has no %q", line, part)
					}
				}
			}
		})
	}
}

func TestAWrongCollectorIsOneLineWithTheVariable(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")
	code, lines := runMain(t, "--kubeconfig="+kubeconfig(t))
	if code != exitMisconfigured || len(lines) != 1 ||
		!strings.HasPrefix(lines[0], "ccm-shim: OTEL_EXPORTER_OTLP_ENDPOINT: it has no scheme: give a URL") {
		t.Errorf("exit code %d and %q", code, lines)
	}
}

// A kubeconfig that cannot be used is found before anything is started, and what stands in it is not
// repeated.
func TestAJunkKubeconfigIsOnePlainLine(t *testing.T) {
	const head = "apiVersion: v1\nkind: Config\ncurrent-context: x\n" +
		"contexts: [{name: x, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"
	for _, tt := range []struct{ name, content, want string }{
		{"no YAML", "a:\n  - se{{cret: [\n", "is not a kubeconfig file (line 2): "},
		{"binary", "\x00\xff\xfe\x80", "is not a kubeconfig file: "},
		{"text", "se{{cret", "is not a kubeconfig file: "},
		{"another object", "apiVersion: v1\nkind: Pod\n", "is not a kubeconfig file: "},
		{"nothing", "", "names no cluster"},
		{"no such context", strings.Replace(head, "name: x", "name: other", 1), "context: x"},
		{"no such cluster", head, "names no cluster"},
		{"a server that is no URL", head + "clusters: [{name: c, cluster: {server: 'http://u:se{{cret@h:x'}}]\n",
			"the server of its cluster is not a URL"},
		{"an authority that is not there", head + "clusters: [{name: c, cluster: " +
			"{server: 'https://h', certificate-authority: /nowhere/ca}}]\n", "/nowhere/ca"},
		{"an authority that is none", head + "clusters: [{name: c, cluster: " +
			"{server: 'https://h', certificate-authority-data: c2V7e2NyZXQ=}}]\n", "certificate"},
	} {
		for _, flag := range []string{
			"kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig",
		} {
			t.Run(tt.name+" in "+flag, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "junk")
				if err := os.WriteFile(file, []byte(tt.content), 0o600); err != nil {
					t.Fatal(err)
				}
				args := []string{"--" + flag + "=" + file}
				if flag != "kubeconfig" {
					args = append(args, "--kubeconfig="+kubeconfig(t))
				}
				code, lines := runMain(t, args...)
				if code != 2 || len(lines) != 1 || len(lines[0]) > 400 {
					t.Fatalf("it ends with %d and says %q", code, lines)
				}
				if !strings.HasPrefix(lines[0], "ccm-shim: --"+flag+": "+file+" ") &&
					!strings.HasPrefix(lines[0], "ccm-shim: --"+flag+": "+file+": ") {
					t.Errorf("it does not begin with the flag and the file: %s", lines[0])
				}
				if !strings.Contains(lines[0], tt.want) || strings.Contains(lines[0], "se{{cret") {
					t.Errorf("it says %s, want %q", lines[0], tt.want)
				}
			})
		}
	}
}

func TestValidateAcceptsWhatIsRight(t *testing.T) {
	for _, change := range []func(*Options){
		func(*Options) {},
		func(o *Options) { o.Backend = "unix:///run/oxide/backend/backend.sock" },
		func(o *Options) {
			o.Backend, o.ClusterID = "/run/oxide/backend/backend.sock", "a.B_c-1"
		},
		func(o *Options) { o.ClusterID = strings.Repeat("a", 63) },
		func(o *Options) { o.AdoptedClusterIDs = []string{"a.B_c-1", strings.Repeat("a", 63)} },
		func(o *Options) { o.LegacyClusterName, o.ReservedPorts, o.NodeName = "", "", "" },
		func(o *Options) { o.LegacyClusterName = "a" + strings.Repeat("-", 62) },
		func(o *Options) { o.ReservedPorts = "1-65535" },
		func(o *Options) { o.NodeName = "ip-172-30-0-11.example.com" },
		func(o *Options) { o.Region, o.Zone = "eu-west", strings.Repeat("z", 63) },
		func(o *Options) { o.Zone, o.RelabelTopology = "Rack_1.a", true },
		func(o *Options) { o.ZoneFromRack, o.RelabelTopology = true, true },
	} {
		o := NewOptions()
		change(o)
		if err := o.Complete(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
		if err := o.Validate(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestHelpAndDefaults(t *testing.T) {
	cmd, err := NewCommand(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"cloud-provider":                  "oxide",
		"backend":                         "",
		"backend-unreachable-exit":        "30s",
		"cluster-id":                      "",
		"adopt-cluster-id":                "[]",
		"legacy-cluster-name":             "kubernetes",
		"reserved-ports":                  "22,2379-2380,6443,10250,10256-10259",
		"node-name":                       "",
		"probe-nodes":                     "false",
		"classed-load-balancers-only":     "false",
		"node-removal-interval":           "5s",
		"region":                          "",
		"zone":                            "",
		"zone-from-rack":                  "false",
		"relabel-topology":                "false",
		"kube-api-qps":                    "400",
		"kube-api-burst":                  "800",
		"concurrent-node-syncs":           "50",
		"concurrent-node-lifecycle-syncs": "20",
		"concurrent-service-syncs":        "10",
		"secure-port":                     "10258",
		"leader-elect":                    "true",
		"leader-elect-resource-name":      "cloud-controller-manager",
		"configure-cloud-routes":          "true",
	} {
		flag := cmd.Flags().Lookup(name)
		if flag == nil {
			t.Errorf("there is no flag --%s", name)
			continue
		}
		if flag.DefValue != want {
			t.Errorf("--%s is %q by default, want %q", name, flag.DefValue, want)
		}
	}
	var help bytes.Buffer
	cmd.SetOut(&help)
	if err := cmd.Help(); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"ccm-shim [flags]", "Oxide flags:", "--backend string",
		"help for ccm-shim", "cloud-node-controller", "service-lb-controller",
		"oxide-node-label-controller", "oxide-load-balancer-controller",
		"oxide-load-balancer-class-controller"} {
		if !strings.Contains(help.String(), part) {
			t.Errorf("the help has no %q", part)
		}
	}
	if strings.Contains(help.String(), "node-route-controller") {
		t.Error("the help offers the route controller, which Oxide has no use for")
	}
}

func TestVersion(t *testing.T) {
	cmd, err := NewCommand(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.SetOut(&out)
	// The flag is the framework's, and one for the whole process.
	t.Cleanup(func() { _ = cmd.Flags().Set("version", "false") })
	cmd.SetArgs([]string{"--version"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, "ccm-shim ") || strings.Contains(got, "$") {
		t.Errorf("--version prints %q", got)
	}
}

// What the chart gives to turn load balancers off, and other choices that make sense.
func TestValidateAcceptsControllersThatNeedNoOthers(t *testing.T) {
	const service, classes, balancing = names.ServiceLBController, services.ClassName, services.Name
	aliases := map[string]string{"service": service}
	for _, tt := range []struct {
		given       []string
		classedOnly bool
	}{
		{[]string{"*"}, false},
		{[]string{"*"}, true},
		{[]string{"*", "-" + service, "-" + classes, "-" + balancing}, false},
		{[]string{"*", "-service"}, true},
		{[]string{"*", "-" + classes}, false},
		{[]string{"*", "-" + service}, false},
		{[]string{"cloud-node-controller"}, false},
		{[]string{"service", balancing}, false},
		{[]string{classes, balancing}, true},
	} {
		if err := validateControllers(tt.given, aliases, tt.classedOnly); err != nil {
			t.Errorf("%v, only classes %t: %v", tt.given, tt.classedOnly, err)
		}
	}
}

func TestABackendOfItsOwnGetsTheFlagsThatAreForIt(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want []string
	}{
		{"none", nil, nil},
		{"on trial", []string{"--read-only"}, []string{"--read-only"}},
		{"the firewall", []string{"--manage-firewall"},
			[]string{"--manage-firewall", "--firewall-priority=1000"}},
		{"all", []string{"--read-only", "--manage-firewall", "--firewall-priority=0"},
			[]string{"--read-only", "--manage-firewall", "--firewall-priority=0"}},
		{"the priority of no rules", []string{"--firewall-priority=7", "--manage-firewall=false"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := NewOptions()
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			o.AddFlags(flags)
			if err := errors.Join(flags.Parse(tt.args), o.Complete(), o.Validate()); err != nil {
				t.Fatal(err)
			}
			want := append([]string{"--log-format=json"}, tt.want...)
			if got := o.backendArguments("json"); !slices.Equal(got, want) {
				t.Errorf("it gets %q, want %q", got, want)
			}
		})
	}
}
