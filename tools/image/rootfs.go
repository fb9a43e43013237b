// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// user is the UID and GID that the programs run as; no machine gives it to a person.
const user = 65532

// programs are the binaries of the image, all in /usr/bin.
var programs = []string{"ccm-shim", "oxide-backend"}

// machines are the ELF machines of the architectures that an image can be made for.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// entry is one file or folder of the image.
type entry struct {
	name    string
	mode    int64
	owner   int
	content []byte
}

// entries are the whole content of the image besides the programs, sorted so that folders come
// before what is in them. The Containerfile makes the same.
func entries() []entry {
	return []entry{
		{name: "etc/", mode: 0o755},
		{name: "etc/group", mode: 0o644, content: fmt.Appendf(nil,
			"root:x:0:\nnonroot:x:%d:\n", user)},
		{name: "etc/passwd", mode: 0o644, content: fmt.Appendf(nil,
			"root:x:0:0:root:/:/sbin/nologin\nnonroot:x:%d:%d:nonroot:/tmp:/sbin/nologin\n",
			user, user)},
		{name: "run/", mode: 0o755},
		// For one container alone; in a pod the shared volume is mounted over it.
		{name: "run/oxide/", mode: 0o700, owner: user},
		{name: "tmp/", mode: 0o1777},
		{name: "usr/", mode: 0o755},
		{name: "usr/bin/", mode: 0o755},
	}
}

// rootfs returns the image's files as a tar archive.
func rootfs(on platform, created time.Time) ([]byte, error) {
	all := entries()
	for _, name := range programs {
		content, err := program(filepath.Join(on.folder, name), on)
		if err != nil {
			return nil, err
		}
		all = append(all, entry{name: "usr/bin/" + name, mode: 0o755, content: content})
	}
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for _, each := range all {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: each.name, Mode: each.mode, Size: int64(len(each.content)),
			Uid: each.owner, Gid: each.owner, ModTime: created, Format: tar.FormatPAX,
		}
		if each.content == nil {
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(each.content); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

// program reads a binary and makes sure that it runs where nothing else is: right machine, static.
func program(path string, on platform) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s is missing: build the binaries for %s first", path, on)
	}
	file, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("%s is no program for Linux: build it with GOOS=linux", path)
	}
	if machine, known := machines[on.Architecture]; !known || on.OS != "linux" {
		return nil, fmt.Errorf("no image is made for %s: use linux/amd64 or linux/arm64", on)
	} else if file.Machine != machine {
		return nil, fmt.Errorf("%s is for %s, not for %s: build it with GOARCH=%s",
			path, file.Machine, on, on.Architecture)
	}
	if slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return nil, fmt.Errorf("%s is linked dynamically: build it with CGO_ENABLED=0", path)
	}
	return content, nil
}
