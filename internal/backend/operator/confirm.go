// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// errDeclined ends a command that somebody did not confirm.
var errDeclined = errors.New("nothing was changed")

// confirm returns nil if something is to be done: by the flag --yes, or by an answer at the terminal.
func confirm(cmd *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	terminal, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return usagef("nothing was changed: there is no terminal to ask at: give --yes, or use a terminal " +
			"(kubectl exec --stdin --tty)")
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	answer, err := readLine(cmd.Context(), terminal)
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr())
		return errDeclined // no answer is none
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errDeclined
}

// readLine reads a line from a terminal, until the context ends.
func readLine(ctx context.Context, terminal *os.File) (string, error) {
	type read struct {
		line string
		err  error
	}
	done := make(chan read, 1)
	go func() {
		line, err := bufio.NewReader(terminal).ReadString('\n')
		done <- read{line, err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
