// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package uds

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// maxPath is the longest path of a unix socket on Linux; a longer one fails with a bare "invalid
// argument".
const maxPath = 107

// staleTimeout bounds the attempt to reach a process behind an existing socket.
const staleTimeout = time.Second

// ParseAddress returns the path in an address of the form unix:///PATH or unix:/PATH, or in a bare
// absolute path.
func ParseAddress(address string) (path string, err error) {
	path = address
	if rest, ok := strings.CutPrefix(address, "unix:"); ok {
		path = rest
		if strings.HasPrefix(rest, "//") {
			path = rest[2:]
		}
	}
	switch {
	case !filepath.IsAbs(path):
		return "", errors.New("it is not of the form unix:///ABSOLUTE/PATH")
	case strings.HasSuffix(path, "/"):
		return "", errors.New("it names a directory, not a socket")
	case len(path) > maxPath:
		return "", fmt.Errorf("its path has %d bytes, and a unix socket's at most %d",
			len(path), maxPath)
	}
	return filepath.Clean(path), nil
}

// Listen makes a socket that only the own user can reach: with mode 0600 in a directory with mode 0700,
// which it makes as well if it is not there. The mode is set by the umask, which is the process's, so
// Listen must not run while other goroutines create files. A socket that nobody listens on is replaced;
// one that somebody does, and anything else at this path, is an error. Closing the listener removes the
// socket.
func Listen(path string) (*net.UnixListener, error) {
	return listen(path, 0o700, 0o600)
}

// ListenShared is Listen for a socket that every user of the machine can reach: with mode 0666 in a
// directory with mode 0755. Whoever serves it has to decide who may do what.
func ListenShared(path string) (*net.UnixListener, error) {
	return listen(path, 0o755, 0o666)
}

func listen(path string, directory, socket fs.FileMode) (*net.UnixListener, error) {
	if err := makeDirectory(filepath.Dir(path), directory); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	old := syscall.Umask(int(0o777 &^ socket))
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	syscall.Umask(old)
	if err != nil {
		return nil, cause(err)
	}
	return listener, nil
}

// makeDirectory makes sure that others can do no more in the socket's directory than the mode says.
func makeDirectory(dir string, mode fs.FileMode) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		err := os.MkdirAll(dir, mode)
		if err == nil {
			// The umask may have left less.
			err = os.Chmod(dir, mode)
		}
		if err != nil {
			return fmt.Errorf("the directory %s cannot be made: %w", dir, cause(err))
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("the directory %s cannot be read: %w", dir, cause(err))
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("the directory %s belongs to user %d, not to the own user %d; "+
			"choose a directory that is not there yet", dir, stat.Uid, os.Geteuid())
	}
	if got := info.Mode().Perm(); got&^mode != 0 {
		return fmt.Errorf("the directory %s has mode %04o, so that others can do more there than they may; "+
			"choose one of its own, or set its mode to %04o", dir, got, mode)
	}
	return nil
}

// removeStale removes a socket that refuses connections: a volume outlives the crash of the process
// that made it, and then "address already in use" would be for ever.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return cause(err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there already and is no socket", path)
	}
	conn, err := net.DialTimeout("unix", path, staleTimeout)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("another process listens on %s", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is there, and whether somebody listens cannot be told: %w",
			path, cause(err))
	}
	return os.Remove(path)
}

// cause drops what the errors of os and net repeat.
func cause(err error) error {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err
}
