// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// watcher is a watch that runs.
type watcher struct {
	*yard
	out, said logBuffer
	ended     chan int
	stop      context.CancelFunc
}

// watch starts a watch, and awaits that it knows what there is.
func (y *yard) watch(args ...string) *watcher {
	y.t.Helper()
	w := &watcher{yard: y, ended: make(chan int, 1)}
	var ctx context.Context
	ctx, w.stop = context.WithCancel(y.t.Context())
	y.t.Cleanup(w.stop)
	go func() {
		w.ended <- backend.Main(ctx, append([]string{"watch", "--socket", y.socket}, args...), &w.out, &w.said)
	}()
	y.await("watching", func() bool { return strings.Contains(w.said.String(), "Ctrl-C ends it") })
	return w
}

// sees awaits a line.
func (w *watcher) sees(pattern string) {
	w.t.Helper()
	line := regexp.MustCompile(`(?m)^[0-9]{2}:[0-9]{2}:[0-9]{2}  ` + pattern + `$`)
	w.await("a line "+pattern+" after\n"+w.out.String(), func() bool {
		return line.MatchString(w.out.String())
	})
}

// end ends a watch as Ctrl-C does.
func (w *watcher) end() {
	w.t.Helper()
	w.stop()
	if code := <-w.ended; code != 0 {
		w.t.Errorf("exit code %d: %s", code, w.said.String())
	}
}

func TestWatchPrintsALineForEachChange(t *testing.T) {
	y := newYard(t)
	y.lead()
	w := y.watch()
	want := "Watching 3 instances and 3 load balancers of c1; Ctrl-C ends it.\n"
	if w.said.String() != want {
		t.Errorf("it says %q, want %q", w.said.String(), want)
	}
	if err := y.rack.SetRunState("bastion", "running"); err != nil {
		t.Fatal(err)
	}
	if _, err := y.rack.AddInstance("demo", oxidesim.InstanceSeed{Name: "late", NIC: "v4"}); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := y.run("orphans", "delete", "lb-gone", "--yes"); code != 0 {
		t.Fatal(stderr)
	}
	w.sees("instance bastion: state: stopped -> running")
	w.sees("instance late: added: state: running; private: 172.30.0.8; CPUs: 2; memory: 4 GiB")
	w.sees("load balancer shop/gone: removed")
	if err := y.rack.RemoveInstance("late"); err != nil {
		t.Fatal(err)
	}
	if err := y.rack.SetRunState("machine-1", "stopped"); err != nil {
		t.Fatal(err)
	}
	w.sees("instance late: removed")
	w.sees("instance worker-1.example.com: state: running -> stopped")
	w.sees("load balancer infra/ssh: .*note: none -> .*")
	w.end()
	if lines := strings.Count(w.out.String(), "bastion"); lines != 1 {
		t.Errorf("the change of bastion is on %d lines:\n%s", lines, w.out.String())
	}
	if strings.Count(w.said.String(), "\n") != 1 {
		t.Errorf("it says %q", w.said.String())
	}
	// It opened no session, and ended none.
	info, err := backendv1.NewBackendServiceClient(y.conn).GetInfo(t.Context(),
		new(backendv1.GetInfoRequest))
	if err != nil || len(info.GetActingScopes()) != 1 {
		t.Errorf("the session: %v, %v", info, err)
	}
}

func TestWatchInJSONHasAnObjectOnEachLine(t *testing.T) {
	y := newYard(t)
	inJSON, inYAML := y.watch("-o", "json"), y.watch("-o", "yaml")
	if want := "1 load balancer of the project, as Oxide shows them: no session is here"; !strings.Contains(
		inJSON.said.String(), want) {
		t.Errorf("it says %q, want %q", inJSON.said.String(), want)
	}
	if err := y.rack.RemoveInstance("machine-2"); err != nil {
		t.Fatal(err)
	}
	if err := y.rack.SetRunState("bastion", "running"); err != nil {
		t.Fatal(err)
	}
	y.await("both changes", func() bool { return strings.Count(inJSON.out.String(), "\n") == 2 })
	y.await("both changes", func() bool { return strings.Count(inYAML.out.String(), "---\n") == 2 })
	inJSON.end()
	inYAML.end()
	type object struct {
		Time, Kind, Name, Change, Text string

		Object map[string]any
	}
	found := make(map[string]object)
	for line := range strings.Lines(inJSON.out.String()) {
		var o object
		if err := json.Unmarshal([]byte(line), &o); err != nil || o.Time == "" || o.Kind != "instance" {
			t.Errorf("%v: %s", err, line)
		}
		found[o.Name] = o
	}
	if o := found["machine-2"]; o.Change != "removed" || o.Object != nil {
		t.Errorf("an instance that is gone: %+v", o)
	}
	if o := found["bastion"]; o.Change != "changed" || o.Text != "state: stopped -> running" ||
		o.Object["runState"] != "RUN_STATE_RUNNING" {
		t.Errorf("an instance that starts: %+v", o)
	}
	if !strings.Contains(inYAML.out.String(), "\nname: bastion\n") {
		t.Errorf("in YAML:\n%s", inYAML.out.String())
	}
}

// Whoever watches an upgrade, or a rack that is away for a moment, does not start again.
func TestWatchGoesOnOnceOxideCanBeReadAgain(t *testing.T) {
	y := newYard(t)
	w := y.watch()
	y.rack.RevokeToken(oxidesim.DefaultToken)
	w.sees("load balancers: .*token.*")
	if _, err := y.rack.AddToken("demo", oxidesim.DefaultToken); err != nil {
		t.Fatal(err)
	}
	w.sees("load balancers: they can be read again")
	w.end()
}

func TestWatchGoesOnWithTheNextBackend(t *testing.T) {
	y := newYard(t)
	w := y.watch()
	_ = y.cmd.Process.Kill()
	_ = y.cmd.Wait()
	w.sees("instances: oxide-backend is not there.*")
	next := exec.Command(y.cmd.Path, y.cmd.Args[1:]...)
	next.Env, next.Stderr = y.cmd.Env, y.log
	if err := next.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = next.Process.Kill()
		_ = next.Wait()
	})
	w.sees("instances: they can be read again")
	if err := y.rack.SetRunState("bastion", "running"); err != nil {
		t.Fatal(err)
	}
	w.sees("instance bastion: state: stopped -> running")
	w.end()
}

func TestCtrlCEndsWatchCleanly(t *testing.T) {
	y := newYard(t)
	cmd := command(nil, nil, "watch", "--socket", y.socket)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewReader(said)
	if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "Watching ") {
		t.Fatalf("%q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(lines)
	if err := cmd.Wait(); err != nil || len(rest) > 0 {
		t.Errorf("%v: %s", err, rest)
	}
}

// As on a terminal where somebody loses patience with a rack that does not answer.
func TestCtrlCEndsACommandThatWaits(t *testing.T) {
	y := newYard(t)
	if _, err := y.rack.AddFault(oxidesim.Fault{
		Operation: "floating_ip_list", LatencyMS: 60_000,
	}); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var stdout, stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() { ended <- backend.Main(ctx, []string{"status", "--socket", y.socket}, &stdout, &stderr) }()
	y.await("waiting", func() bool { return strings.Contains(y.log.String(), "Health/Check") })
	interrupt()
	if code := <-ended; code != 1 || stdout.Len() > 0 || stderr.String() != "oxide-backend: interrupted\n" {
		t.Errorf("exit code %d: %s%s", code, stdout.String(), stderr.String())
	}
}
