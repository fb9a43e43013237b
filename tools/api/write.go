// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// errorFiles returns the files that describe errors.
func errorFiles() []protoreflect.FileDescriptor {
	return []protoreflect.FileDescriptor{
		code.File_google_rpc_code_proto, errdetails.File_google_rpc_error_details_proto,
		status.File_google_rpc_status_proto,
	}
}

// header stands above the text of a file that is written from its descriptor.
const header = "// Written from the descriptor in google.golang.org/genproto/googleapis/rpc, which\n" +
	"// is Google LLC's and has the Apache License 2.0; without its comments.\n\n"

// write writes both files and returns their names.
func write(o options) ([]string, error) {
	set, err := descriptors(o.set)
	if err != nil {
		return nil, err
	}
	files, err := protos(o.protos)
	if err != nil {
		return nil, err
	}
	packed, err := pack(files)
	if err != nil {
		return nil, err
	}
	written := []string{o.output + ".binpb", o.output + "-protos.tar.gz"}
	for i, content := range [][]byte{set, packed} {
		if err := os.WriteFile(written[i], content, 0o644); err != nil {
			return nil, err
		}
	}
	return written, nil
}

// descriptors returns the set in a file together with what errors are made of, each file after what it
// imports.
func descriptors(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(text, set); err != nil {
		return nil, fmt.Errorf("%s is no descriptor set: %w", file, err)
	}
	known := make(map[string]bool)
	for _, f := range set.GetFile() {
		known[f.GetName()] = true
	}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if known[f.Path()] {
			return
		}
		known[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	for _, f := range errorFiles() {
		add(f)
	}
	if _, err := protodesc.NewFiles(set); err != nil {
		return nil, fmt.Errorf("the descriptor set is not complete: %w", err)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(set)
}

// protos returns the text of each .proto file by its path.
func protos(dir string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".proto") {
			return err
		}
		files[path], err = os.ReadFile(filepath.Join(dir, path))
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there is no .proto file in %s", dir)
	}
	for _, f := range errorFiles() {
		text := bytes.NewBufferString(header)
		if err := new(protoprint.Printer).PrintProtoFile(f, text); err != nil {
			return nil, err
		}
		files[f.Path()] = text.Bytes()
	}
	return files, nil
}

// pack returns an archive of files that depends on nothing but them.
func pack(files map[string][]byte) ([]byte, error) {
	var packed bytes.Buffer
	compressed := gzip.NewWriter(&packed)
	archive := tar.NewWriter(compressed)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		header := &tar.Header{
			Name: path, Mode: 0o644, Size: int64(len(files[path])), ModTime: time.Unix(0, 0),
			Format: tar.FormatUSTAR,
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(files[path]); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	if err := compressed.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}
