// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// maxSkewParts is how many of the parts that are not known are named.
const maxSkewParts = 5

// skewError says which parts of a request are of a newer API than this backend's. What is only half
// understood must not be done.
type skewError struct{ parts []string }

func (e *skewError) Error() string {
	return "the request has what this backend does not know: " + strings.Join(e.parts, ", ") +
		"; upgrade both programs together"
}

// UnarySkew refuses calls that change something and carry fields or values that are not known here.
func UnarySkew(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	if message, ok := req.(proto.Message); ok && Mutates(info.FullMethod) {
		if err := checkSkew(message); err != nil {
			return nil, err
		}
	}
	return handler(ctx, req)
}

// Mutates reports whether a call of this API may change something, as its idempotency_level says.
func Mutates(fullMethod string) bool {
	name := strings.ReplaceAll(strings.TrimPrefix(fullMethod, "/"), "/", ".")
	api := backendv1.File_oxide_backend_v1_backend_service_proto.Package()
	if !strings.HasPrefix(name, string(api)+".") {
		return false
	}
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return true
	}
	options, _ := found.Options().(*descriptorpb.MethodOptions)
	return options.GetIdempotencyLevel() != descriptorpb.MethodOptions_NO_SIDE_EFFECTS
}

// checkSkew refuses a message with fields or values that are not known here, however deep.
func checkSkew(message proto.Message) error {
	var parts []string
	findSkew(message.ProtoReflect(), "", &parts)
	if len(parts) == 0 {
		return nil
	}
	return &skewError{parts: parts}
}

func findSkew(m protoreflect.Message, path string, parts *[]string) {
	unknown := m.GetUnknown()
	for len(unknown) > 0 && len(*parts) < maxSkewParts {
		number, _, n := protowire.ConsumeField(unknown)
		if n < 0 {
			break
		}
		unknown = unknown[n:]
		*parts = append(*parts, fmt.Sprintf("field %d of %s", number, m.Descriptor().Name()))
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		at := path + string(field.Name())
		switch {
		case field.IsMap():
			value.Map().Range(func(_ protoreflect.MapKey, value protoreflect.Value) bool {
				findValueSkew(field.MapValue(), value, at, parts)
				return len(*parts) < maxSkewParts
			})
		case field.IsList():
			for i := range value.List().Len() {
				if len(*parts) >= maxSkewParts {
					break
				}
				findValueSkew(field, value.List().Get(i), fmt.Sprintf("%s[%d]", at, i), parts)
			}
		default:
			findValueSkew(field, value, at, parts)
		}
		return len(*parts) < maxSkewParts
	})
}

func findValueSkew(
	field protoreflect.FieldDescriptor, value protoreflect.Value, at string, parts *[]string,
) {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		findSkew(value.Message(), at+".", parts)
	case protoreflect.EnumKind:
		if field.Enum().Values().ByNumber(value.Enum()) == nil {
			*parts = append(*parts, fmt.Sprintf("value %d of %s", value.Enum(), at))
		}
	default:
	}
}
