// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc/grpclog"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"           // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo"  // metrics of the API server's client
	_ "k8s.io/component-base/metrics/prometheus/version"   // build information as a metric
	_ "k8s.io/component-base/metrics/prometheus/workqueue" // metrics of the work queues

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendprocess"
)

// HideToken takes the token of a backend that this process will start out of the environment, see
// backendprocess.MoveToken, and says so on stderr if it cannot. It is to be called before
// everything else.
func HideToken(stderr io.Writer) {
	if err := backendprocess.MoveToken(); err != nil {
		_, _ = fmt.Fprintf(stderr, "ccm-shim: OXIDE_TOKEN stays in this process's environment (%v): give a "+
			"file with the token in OXIDE_TOKEN_FILE instead\n", err)
	}
}

// Main runs ccm-shim with the given arguments until it fails or ctx ends, writes what went wrong to
// stderr, one line for each error, and returns the exit code: 0 when it was asked to stop, 2 when
// the configuration is wrong, 1 for anything else.
func Main(ctx context.Context, args []string, stderr io.Writer) int {
	// While the backend is away gRPC warns of each attempt to reach it; the connection's own watch
	// says once that it is lost. A package of the framework turns these warnings on.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, stderr))
	cmd, err := NewCommand(ctx)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "ccm-shim: %v\n", err)
		return exitFailed
	}
	cmd.SetArgs(args)
	err = cli.RunNoErrOutput(cmd)
	if err == nil {
		return 0
	}
	exit := &exitError{code: exitFailed, err: err}
	_ = errors.As(err, &exit)
	if !exit.printed {
		for line := range strings.Lines(exit.Error()) {
			_, _ = fmt.Fprintf(stderr, "ccm-shim: %s\n", strings.TrimSpace(line))
		}
	}
	return exit.code
}
