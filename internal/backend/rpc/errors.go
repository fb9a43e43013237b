// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/access"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// ErrorDomain is the domain of every ErrorInfo.
const ErrorDomain = "oxide.computer"

// The shortest useful delays before a call is repeated.
const (
	retryBusy        = time.Second
	retryStopping    = time.Second
	retryUnavailable = 5 * time.Second
	retryNotOperable = 15 * time.Second
	retryExhausted   = time.Minute
)

// verdict is what an error becomes.
type verdict struct {
	code       codes.Code
	reason     backendv1.ErrorReason
	retryAfter time.Duration
}

// oxideVerdicts says what an error of Oxide becomes, by its kind.
var oxideVerdicts = map[oxide.Kind]verdict{
	oxide.KindUnavailable: {
		codes.Unavailable, backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE, retryUnavailable,
	},
	oxide.KindUnauthorized: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_OXIDE_CREDENTIALS_REJECTED, 0,
	},
	oxide.KindForbidden: {
		codes.PermissionDenied, backendv1.ErrorReason_ERROR_REASON_OXIDE_FORBIDDEN, 0,
	},
	oxide.KindNotFound: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND, 0,
	},
	oxide.KindProjectNotFound: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_PROJECT_NOT_FOUND, 0,
	},
	oxide.KindVersionUnsupported: {
		codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_API_VERSION_UNSUPPORTED, 0,
	},
	oxide.KindNoSuchRoute: {
		codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_API_VERSION_UNSUPPORTED, 0,
	},
	oxide.KindRefused: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_OXIDE_REFUSED, 0,
	},
	oxide.KindAlreadyExists: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_OXIDE_REFUSED, 0,
	},
	oxide.KindNoCapacity: {
		codes.ResourceExhausted, backendv1.ErrorReason_ERROR_REASON_POOL_EXHAUSTED, retryExhausted,
	},
	oxide.KindReadOnly: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_READ_ONLY, 0,
	},
	oxide.KindMalformed: {
		codes.Internal, backendv1.ErrorReason_ERROR_REASON_OXIDE_BAD_RESPONSE, 0,
	},
	oxide.KindInternal: {
		codes.Internal, backendv1.ErrorReason_ERROR_REASON_OXIDE_BAD_RESPONSE, 0,
	},
	oxide.KindBadResponse: {
		codes.Internal, backendv1.ErrorReason_ERROR_REASON_OXIDE_BAD_RESPONSE, 0,
	},
}

// identityVerdicts says what becomes of a machine that is taken for no instance.
var identityVerdicts = map[instances.IdentityProblem]verdict{
	instances.NotIdentified: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_IDENTIFIED, 0,
	},
	instances.Conflict: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_INSTANCE_IDENTITY_CONFLICT, 0,
	},
	instances.Replaced: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_INSTANCE_REPLACED, 0,
	},
}

// judge says what an error becomes.
func judge(err error) verdict {
	var (
		oxideErr     *oxide.Error
		ambiguous    *instances.AmbiguousError
		identity     *instances.IdentityError
		notProven    *instances.NotProvenError
		invalid      *invalidError
		unavailable  *unofferedError
		skew         *skewError
		sessionErr   *session.Error
		denied       *access.DeniedError
		known        verdict
		found        bool
		precondition = codes.FailedPrecondition
	)
	switch {
	case errors.As(err, &invalid):
		return verdict{code: codes.InvalidArgument,
			reason: backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST}
	case errors.As(err, &unavailable):
		return verdict{code: codes.Unimplemented,
			reason: backendv1.ErrorReason_ERROR_REASON_UNIMPLEMENTED}
	case errors.As(err, &skew):
		return verdict{code: codes.Unimplemented,
			reason: backendv1.ErrorReason_ERROR_REASON_VERSION_SKEW}
	case errors.Is(err, ErrStopping):
		return stopping
	case errors.As(err, &denied):
		return verdict{code: codes.PermissionDenied,
			reason: backendv1.ErrorReason_ERROR_REASON_CLIENT_DENIED}
	case errors.Is(err, instances.ErrNotFound):
		return verdict{code: codes.NotFound,
			reason: backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND}
	case instances.IsElsewhere(err):
		return verdict{code: precondition,
			reason: backendv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND}
	case errors.As(err, &notProven):
		return verdict{code: precondition,
			reason: backendv1.ErrorReason_ERROR_REASON_ABSENCE_NOT_PROVEN}
	case errors.As(err, &ambiguous):
		return verdict{code: precondition,
			reason: backendv1.ErrorReason_ERROR_REASON_INSTANCE_AMBIGUOUS}
	case errors.As(err, &identity):
		known, found = identityVerdicts[identity.Problem]
	case errors.As(err, &sessionErr):
		known, found = judgeSession(sessionErr)
	case errors.As(err, &oxideErr) && oxideErr.Kind == oxide.KindEnded,
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ended(err)
	case errors.As(err, &oxideErr):
		known, found = oxideVerdicts[oxideErr.Kind]
	}
	if !found {
		return verdict{code: codes.Internal, reason: backendv1.ErrorReason_ERROR_REASON_INTERNAL}
	}
	return known
}

func ended(err error) verdict {
	v := verdict{code: codes.Canceled, reason: backendv1.ErrorReason_ERROR_REASON_CALL_ENDED}
	if errors.Is(err, context.DeadlineExceeded) {
		v.code = codes.DeadlineExceeded
	}
	return v
}

// explain judges an error, and says in one line what is wrong.
func explain(err error) (verdict, string) {
	v := judge(err)
	if v.reason == backendv1.ErrorReason_ERROR_REASON_INTERNAL {
		slog.Error("a call failed for a reason that was not foreseen", "error", err)
		return v, "oxide-backend failed in a way that was not foreseen; its log has the details"
	}
	switch err { //nolint:errorlint // of one that wraps these the text says more
	case context.Canceled:
		return v, "the call was cancelled"
	case context.DeadlineExceeded:
		return v, "the time for the call was up"
	}
	return v, oneLine(err.Error())
}

// toProblem is the error of one load balancer in the answer to a call about many; nil stays nil.
func toProblem(err error) *backendv1.Problem {
	if err == nil {
		return nil
	}
	v, message := explain(err)
	problem := &backendv1.Problem{Reason: v.reason, Message: message, Code: int32(v.code)}
	if v.retryAfter > 0 {
		problem.RetryDelay = durationpb.New(v.retryAfter)
	}
	return problem
}

// toStatus makes the status of an error: one line, one ErrorInfo, and RetryInfo where waiting
// helps. What is a status already keeps its code.
func toStatus(err error) *status.Status {
	if st, isStatus := status.FromError(err); isStatus {
		return annotate(st)
	}
	v, message := explain(err)
	info := errorInfo(v.reason)
	var oxideErr *oxide.Error
	if errors.As(err, &oxideErr) && oxideErr.RequestID != "" {
		info.Metadata = map[string]string{"request_id": oxideErr.RequestID}
	}
	details := []protoadapt.MessageV1{info}
	if v.retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(v.retryAfter)})
	}
	var invalid *invalidError
	if errors.As(err, &invalid) {
		details = append(details, &errdetails.BadRequest{
			FieldViolations: []*errdetails.BadRequest_FieldViolation{
				{Field: invalid.field, Description: oneLine(invalid.description)},
			},
		})
	}
	return withDetails(status.New(v.code, message), details...)
}

// withDetails adds the details to a status. Of what is added here none can fail to be encoded.
func withDetails(st *status.Status, details ...protoadapt.MessageV1) *status.Status {
	if detailed, err := st.WithDetails(details...); err == nil {
		st = detailed
	}
	return st
}

// stopping is the verdict of what this backend ends because it stops.
var stopping = verdict{
	code: codes.Unavailable, reason: backendv1.ErrorReason_ERROR_REASON_BACKEND_STOPPING,
	retryAfter: retryStopping,
}

// ErrStopping is the error of calls and streams that the backend ends because it is about to stop.
var ErrStopping = errors.New("the backend is about to stop; connect again")

// ErrTooManyCalls is the status of a call that is refused before anything of its request is read,
// since its client has as many as it may have.
var ErrTooManyCalls = status.Error(codes.ResourceExhausted,
	"the client has 100 calls and streams, the most that it may have at a time; end some")

// EndedByStop returns the error of a call that failed once the backend had begun to stop: that it
// was ended means just that.
func EndedByStop(err error) error {
	code := judge(err).code
	if st, isStatus := status.FromError(err); isStatus {
		code = st.Code()
	}
	if code == codes.Canceled {
		return ErrStopping
	}
	return err
}

// statusReasons says which reason goes with a status that another package made: of gRPC itself, or
// of a standard service such as grpc.health.v1.
var statusReasons = map[codes.Code]backendv1.ErrorReason{
	codes.Canceled:         backendv1.ErrorReason_ERROR_REASON_CALL_ENDED,
	codes.DeadlineExceeded: backendv1.ErrorReason_ERROR_REASON_CALL_ENDED,
	codes.InvalidArgument:  backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
	codes.OutOfRange:       backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
	codes.NotFound:         backendv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND,
	codes.Unimplemented:    backendv1.ErrorReason_ERROR_REASON_UNIMPLEMENTED,
}

// annotate adds to a status that another package made what every status of this API has.
func annotate(st *status.Status) *status.Status {
	reason, known := statusReasons[st.Code()]
	if !known {
		reason = backendv1.ErrorReason_ERROR_REASON_INTERNAL
	}
	return withDetails(status.New(st.Code(), oneLine(st.Message())), errorInfo(reason))
}

func errorInfo(reason backendv1.ErrorReason) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{
		Domain: ErrorDomain, Reason: strings.TrimPrefix(reason.String(), "ERROR_REASON_"),
	}
}

// retryPushback is the trailer that says to a client's transport whether to repeat a call by
// itself.
const retryPushback = "grpc-retry-pushback-ms"

// forbidRetry keeps the client's transport from repeating a call that was answered: this backend
// has retried already what is worth it. What it ended because it stops may be repeated soon.
func forbidRetry(ctx context.Context, err error) { _ = grpc.SetTrailer(ctx, pushback(err)) }

func pushback(err error) metadata.MD {
	if judge(err).reason == stopping.reason {
		return metadata.Pairs(retryPushback, strconv.FormatInt(retryStopping.Milliseconds(), 10))
	}
	return metadata.Pairs(retryPushback, "-1")
}

// UnaryErrors turns the errors of handlers into statuses.
func UnaryErrors(
	ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	resp, err := handler(ctx, req)
	if err == nil {
		return resp, nil
	}
	forbidRetry(ctx, err)
	return nil, toStatus(err).Err()
}

// StreamErrors is UnaryErrors for streams.
func StreamErrors(
	srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	err := handler(srv, &decodingStream{ServerStream: stream})
	if err == nil {
		return nil
	}
	stream.SetTrailer(pushback(err))
	return toStatus(err).Err()
}

// ConcernsAllCalls reports whether a handler failed for a reason that would fail every other call
// of Oxide, too: it cannot be reached, or does not accept the credentials or the project.
func ConcernsAllCalls(err error) bool {
	for _, kind := range []oxide.Kind{
		oxide.KindUnavailable, oxide.KindUnauthorized, oxide.KindProjectNotFound,
		oxide.KindVersionUnsupported,
	} {
		if oxide.IsKind(err, kind) {
			return true
		}
	}
	return false
}

// unofferedError says that this backend does not offer something of the API.
type unofferedError struct{ what string }

func (e *unofferedError) Error() string {
	return "this version of oxide-backend does not offer " + e.what
}
