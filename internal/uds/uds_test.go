// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package uds_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/uds"
)

func TestParseAddress(t *testing.T) {
	long := "/" + strings.Repeat("x", 107)
	for _, tc := range []struct {
		name, address, path, err string
	}{
		{name: "three slashes", address: "unix:///run/x.sock", path: "/run/x.sock"},
		{name: "one slash", address: "unix:/run/x.sock", path: "/run/x.sock"},
		{name: "bare path", address: "/run/x.sock", path: "/run/x.sock"},
		{name: "longest path", address: long[:107], path: long[:107]},
		{name: "too long", address: long, err: "108 bytes"},
		{name: "relative", address: "unix:x.sock", err: "unix:///ABSOLUTE/PATH"},
		{name: "host in place of a path", address: "unix://x.sock", err: "ABSOLUTE"},
		{name: "TCP", address: "127.0.0.1:80", err: "ABSOLUTE"},
		{name: "directory", address: "unix:///run/", err: "directory"},
		{name: "empty", address: "", err: "ABSOLUTE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path, err := uds.ParseAddress(tc.address)
			if path != tc.path || (err != nil) != (tc.err != "") {
				t.Fatalf("got %q, %v", path, err)
			}
			if err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %q does not say %q", err, tc.err)
			}
		})
	}
}

func TestSocketIsPrivateFromTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "x.sock")
	listen(t, path)
	for file, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", file, got, want)
		}
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "x.sock")
	crashed := listen(t, path)
	crashed.SetUnlinkOnClose(false)
	if err := crashed.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the test needs a socket left behind: %v", err)
	}
	conn := dial(t, listen(t, path))
	_ = conn.Close()
}

func TestListenRefuses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(t *testing.T, path string)
		err     string
	}{
		{
			name:    "a socket in use",
			prepare: func(t *testing.T, path string) { listen(t, path) },
			err:     "another process listens",
		},
		{
			name: "a file in the way",
			prepare: func(t *testing.T, path string) {
				mkdir(t, filepath.Dir(path), 0o700)
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			err: "is no socket",
		},
		{
			name: "a directory that others can enter",
			prepare: func(t *testing.T, path string) {
				mkdir(t, filepath.Dir(path), 0o755)
			},
			err: "set its mode to 0700",
		},
		{
			name: "a socket that takes datagrams, of some other program",
			prepare: func(t *testing.T, path string) {
				mkdir(t, filepath.Dir(path), 0o700)
				conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
			},
			err: "whether somebody listens cannot be told: protocol wrong type for socket",
		},
		{
			name: "a link to nothing in place of the directory",
			prepare: func(t *testing.T, path string) {
				if err := os.Symlink("nowhere/at/all", filepath.Dir(path)); err != nil {
					t.Fatal(err)
				}
			},
			err: "cannot be read: no such file or directory",
		},
		{
			name: "a file in place of the directory",
			prepare: func(t *testing.T, path string) {
				if err := os.WriteFile(filepath.Dir(path), nil, 0o700); err != nil {
					t.Fatal(err)
				}
			},
			err: "not a directory",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "made", "x.sock")
			tc.prepare(t, path)
			refused(t, path, tc.err)
		})
	}
}

// What the settings name may be impossible; the kernel's word for it is passed on once, without the
// path in it that the message has already.
func TestListenSaysWhyAPathIsImpossible(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "own")
	mkdir(t, dir, 0o700)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, path, err string }{
		{"below a link to nothing", filepath.Join(link, "sub", "x.sock"), "cannot be made: "},
		{"longer than a socket's", filepath.Join(dir, strings.Repeat("x", 120)), "invalid argument"},
		{"longer than a file's", filepath.Join(dir, strings.Repeat("x", 300)), "file name too long"},
	} {
		t.Run(tc.name, func(t *testing.T) { refused(t, tc.path, tc.err) })
	}
}

// Whoever owns the directory can replace the socket in it.
func TestListenRefusesADirectoryOfAnotherUser(t *testing.T) {
	dir := "/" // root's, which the user of the tests mostly is not
	if os.Geteuid() == 0 {
		dir = filepath.Join(t.TempDir(), "theirs")
		mkdir(t, dir, 0o700)
		if err := os.Chown(dir, 1, -1); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, filepath.Join(dir, "x.sock"), "belongs to user ")
}

// refused checks that Listen fails with this text, and leaves no socket behind.
func refused(t *testing.T, path, text string) {
	t.Helper()
	listener, err := uds.Listen(path)
	if err == nil {
		_ = listener.Close()
	}
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %v, want an error with %q", err, text)
	}
	if strings.Count(err.Error(), path) > 1 {
		t.Errorf("the path is in it twice: %v", err)
	}
}

func TestASharedSocketCanBeReachedByAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "x.sock")
	listener, err := uds.ListenShared(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	for file, want := range map[string]os.FileMode{path: 0o666, filepath.Dir(path): 0o755} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", file, got, want)
		}
	}
}

func TestASharedSocketIsNotMadeWhereOthersMayReplaceIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "open")
	mkdir(t, dir, 0o777)
	listener, err := uds.ListenShared(filepath.Join(dir, "x.sock"))
	if err == nil {
		_ = listener.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "set its mode to 0755") {
		t.Errorf("got %v", err)
	}
}

func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	listener, err := uds.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func dial(t *testing.T, listener *net.UnixListener) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func mkdir(t *testing.T, dir string, mode os.FileMode) {
	t.Helper()
	if err := os.Mkdir(dir, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
}
