// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// exitElsewhere is the exit code where another backend has to be asked: the session is not here.
const exitElsewhere = 3

// elsewhereError says that another backend has to be asked.
type elsewhereError struct{ error }

// ExitCode is that of the program.
func (elsewhereError) ExitCode() int { return exitElsewhere }

func usagef(format string, args ...any) error {
	return &process.UsageError{Errs: []error{fmt.Errorf(format, args...)}}
}

// errInterrupted ends a command that the user ends.
var errInterrupted = errors.New("interrupted")

// errSilent is that of a call that nobody answers: of most of them the backend has to ask Oxide first.
var errSilent = errors.New("there was no answer in time: Oxide does not answer oxide-backend, or " +
	"oxide-backend does not run well: see its log")

// ErrReported ends a command whose output says what is wrong.
var ErrReported = errors.New("not everything could be read")

// callError makes the error of a call one for people.
func callError(err error) error {
	var known *client.Error
	switch err = client.AsError(err); {
	case errors.As(err, &known) && known.Code == codes.Canceled:
		return errInterrupted
	case errors.As(err, &known) && known.Code == codes.DeadlineExceeded && known.Reason == 0:
		return errSilent
	case client.HasReason(err, backendv1.ErrorReason_ERROR_REASON_SESSION_REQUIRED):
		return elsewhereError{err}
	case errors.As(err, &known) && known.RequestID != "":
		return fmt.Errorf("%w (request %s of Oxide)", err, known.RequestID)
	}
	return err
}

// prefixed returns an error with what it is about before it.
func prefixed(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }
