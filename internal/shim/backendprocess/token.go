// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backendprocess

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

const (
	tokenVariable = "OXIDE_TOKEN"

	// descriptorVariable has the number of the descriptor that the token is read from, in the
	// environment of the program that MoveToken starts in place of this one.
	descriptorVariable = "OXIDE_CCM_TOKEN_FD"

	// maxToken is how much every pipe takes without anybody who reads it.
	maxToken = 4096

	// tokenFD is the descriptor under which the child inherits the token: the one after the lifeline.
	tokenFD = lifelineFD + 1
)

// MoveToken takes OXIDE_TOKEN out of this process's environment and puts it into a pipe, from which
// InheritedToken takes it: this program is for Kubernetes and never needs it. Where there is a
// token to move, the function does not return, but the program begins again, in the same process.
// That is because the kernel shows to every process of the same user, for as long as this one
// lives, the environment that it was started with, in /proc/PID/environ, where os.Unsetenv changes
// nothing; and because nothing that was copied of it in memory outlives the exec. It is to be
// called first, before signals are handled.
//
// An error says why the environment is as it was.
func MoveToken() error {
	token := os.Getenv(tokenVariable)
	switch {
	case token == "":
		return nil
	case len(token) > maxToken:
		return fmt.Errorf("it has %d bytes, and a token has a few dozen", len(token))
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil { // not os.Pipe, whose ends exec closes
		return fmt.Errorf("pipe: %w", err)
	}
	_, err = syscall.Write(pipe[1], []byte(token))
	_ = syscall.Close(pipe[1])
	if err == nil {
		//nolint:gosec // it is this program again, with the arguments that it was started with
		err = syscall.Exec(own, os.Args, environmentWithout(os.Environ(), pipe[0]))
	}
	_ = syscall.Close(pipe[0])
	return fmt.Errorf("exec: %w", err)
}

// environmentWithout returns an environment without the token, which is in a descriptor.
func environmentWithout(environment []string, descriptor int) []string {
	rest := make([]string, 0, len(environment)+1)
	for _, entry := range environment {
		name, _, _ := strings.Cut(entry, "=")
		if name != tokenVariable && name != descriptorVariable {
			rest = append(rest, entry)
		}
	}
	return append(rest, descriptorVariable+"="+strconv.Itoa(descriptor))
}

// InheritedToken returns the pipe that MoveToken left, nil if it left none. It is for Config.Token; who
// starts no child closes it. A second call returns nil.
func InheritedToken() *os.File {
	text := os.Getenv(descriptorVariable)
	_ = os.Unsetenv(descriptorVariable)
	descriptor, err := strconv.Atoi(text)
	if err != nil || descriptor < lifelineFD {
		return nil
	}
	syscall.CloseOnExec(descriptor)
	return os.NewFile(uintptr(descriptor), "token")
}
