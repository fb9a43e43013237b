// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// written returns both files, made of the repository's .proto files.
func written(t *testing.T) (set, protos []byte) {
	t.Helper()
	dir := t.TempDir()
	built := filepath.Join(dir, "built.binpb")
	buf := exec.CommandContext(t.Context(), "go", "tool", "-modfile=tools/go.mod", "buf", "build",
		"--as-file-descriptor-set", "-o", built)
	buf.Dir = "../.."
	buf.Env = append(buf.Environ(), "GOWORK=off")
	if out, err := buf.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var stdout, stderr bytes.Buffer
	output := filepath.Join(dir, "api")
	args := []string{"--set", built, "--protos", "../../proto", "--output", output}
	if code := run(args, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	var contents [][]byte
	for name := range strings.Lines(stdout.String()) {
		content, err := os.ReadFile(strings.TrimSpace(name))
		if err != nil {
			t.Fatal(err)
		}
		contents = append(contents, content)
	}
	if len(contents) != 2 {
		t.Fatalf("wrote %q", &stdout)
	}
	return contents[0], contents[1]
}

func unpack(t *testing.T, packed []byte) map[string]string {
	t.Helper()
	compressed, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for archive := tar.NewReader(compressed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(text)
	}
}

// failure is a status as the backend sends it, in the bytes of grpc-status-details-bin.
func failure(t *testing.T) []byte {
	t.Helper()
	s := &status.Status{Code: 14, Message: "Oxide does not answer"}
	for _, detail := range []proto.Message{
		&errdetails.ErrorInfo{Reason: "OXIDE_UNAVAILABLE", Domain: "oxide.computer"},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(5 * time.Second)},
	} {
		packed, err := anypb.New(detail)
		if err != nil {
			t.Fatal(err)
		}
		s.Details = append(s.Details, packed)
	}
	text, err := proto.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// checkDecodes holds that an error can be read with nothing but these descriptors.
func checkDecodes(t *testing.T, find func(protoreflect.FullName) (protoreflect.Descriptor, error), types *dynamicpb.Types) {
	t.Helper()
	found, err := find("google.rpc.Status")
	if err != nil {
		t.Fatal(err)
	}
	s := dynamicpb.NewMessage(found.(protoreflect.MessageDescriptor))
	if err := (proto.UnmarshalOptions{Resolver: types}).Unmarshal(failure(t), s); err != nil {
		t.Fatal(err)
	}
	text, err := protojson.MarshalOptions{Resolver: types}.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"OXIDE_UNAVAILABLE", "oxide.computer", `5s`} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("the error was read as %s, without %s", text, want)
		}
	}
	for _, name := range []protoreflect.FullName{
		"oxide.backend.v1.LoadBalancerService", "oxide.backend.v1.AddressService",
		"oxide.backend.v1.ErrorReason",
	} {
		if _, err := find(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheDescriptorSetAloneReadsAnswersAndErrors(t *testing.T) {
	text, _ := written(t)
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(text, set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	checkDecodes(t, files.FindDescriptorByName, dynamicpb.NewTypes(files))
	for _, f := range set.GetFile() {
		if strings.HasPrefix(f.GetName(), "oxide/") && f.GetSourceCodeInfo() == nil {
			t.Errorf("%s has no comments", f.GetName())
		}
	}
}

func TestTheProtoFilesAloneReadAnswersAndErrors(t *testing.T) {
	_, packed := written(t)
	texts := unpack(t, packed)
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(
		&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(texts)})}
	compiled, err := compiler.Compile(t.Context(), slices.Sorted(maps.Keys(texts))...)
	if err != nil {
		t.Fatal(err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	seen := make(map[string]bool)
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	for _, f := range compiled {
		add(f)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	checkDecodes(t, files.FindDescriptorByName, dynamicpb.NewTypes(files))
}

func TestTheSameInputGivesTheSameBytes(t *testing.T) {
	set, protos := written(t)
	setAgain, protosAgain := written(t)
	if !bytes.Equal(set, setAgain) || !bytes.Equal(protos, protosAgain) {
		t.Error("two runs differ")
	}
}

func TestWrongFlagsAreReported(t *testing.T) {
	for _, args := range [][]string{nil, {"--set=x"}, {"--set=x", "--protos=y", "--output=z", "more"}} {
		var stderr bytes.Buffer
		if code := run(args, io.Discard, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit code %d, %q", args, code, &stderr)
		}
	}
	var stderr bytes.Buffer
	args := []string{"--set=no-such-file", "--protos=y", "--output=z"}
	if code := run(args, io.Discard, &stderr); code != 1 || !strings.Contains(stderr.String(), "no-such-file") {
		t.Errorf("exit code %d, %q", code, &stderr)
	}
}
