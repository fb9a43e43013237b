// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

const (
	oldToken = tokenPrefix + "01d"
	newToken = tokenPrefix + "2e3"
)

// tokenFile is a file with a token, as a mounted Secret has it.
type tokenFile struct {
	t    testing.TB
	path string
}

func newTokenFile(t testing.TB, content string) tokenFile {
	t.Helper()
	f := tokenFile{t, filepath.Join(t.TempDir(), "token")}
	f.write(content)
	return f
}

func (f tokenFile) write(content string) {
	f.t.Helper()
	if err := os.WriteFile(f.path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f tokenFile) remove() {
	f.t.Helper()
	if err := os.Remove(f.path); err != nil {
		f.t.Fatal(err)
	}
}

func (f tokenFile) source() *oxide.TokenSource {
	f.t.Helper()
	source, err := oxide.TokenFile(f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	return source
}

// startRotating is a rig whose token comes from a file and is oldToken, and is not valid any more:
// the rack knows newToken only.
func startRotating(t testing.TB) (*rig, tokenFile) {
	t.Helper()
	file := newTokenFile(t, oldToken+"\n")
	r := start(t, oxidesim.Config{}, withToken(file.source()))
	for _, secret := range []string{oldToken, newToken} {
		if _, err := r.AddToken("demo", secret); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Identity(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !r.RevokeToken(oldToken) {
		t.Fatal("the old token was not in use")
	}
	r.ResetCounters()
	return r, file
}

func TestRotatedTokenIsUsedAtOnceAfterARejection(t *testing.T) {
	t.Run("read", func(t *testing.T) {
		t.Parallel()
		r, file := startRotating(t)
		file.write(newToken)
		if _, err := r.Instances(t.Context()); err != nil {
			t.Fatal(err)
		}
		if by := r.Counters()["instance_list"]; by[401] != 1 || by[200] != 1 {
			t.Errorf("answers %v, want one 401 and one 200", by)
		}
		if n := r.retries("instance_list"); n != 0 {
			t.Errorf("%d retries counted", n)
		}
	})
	t.Run("mutation", func(t *testing.T) {
		t.Parallel()
		r, file := startRotating(t)
		file.write(newToken)
		created, err := r.CreateFloatingIP(t.Context(), "web", "mine",
			oxide.IPAllocator{DefaultPool4: true})
		if err != nil {
			t.Fatal(err)
		}
		if created.Name != "web" || created.Description != "mine" {
			t.Errorf("the body was lost: %+v", created)
		}
		if by := r.Counters()["floating_ip_create"]; by[401] != 1 || by[201] != 1 {
			t.Errorf("answers %v, want one 401 and one 201", by)
		}
	})
	t.Run("the next request uses it from the start", func(t *testing.T) {
		t.Parallel()
		r, file := startRotating(t)
		file.write(newToken)
		for range 3 {
			if _, err := r.Instances(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if by := r.Counters()["instance_list"]; by[401] != 1 || by[200] != 3 {
			t.Errorf("answers %v, want one 401 and three 200", by)
		}
	})
}

func TestRejectedTokenIsNotSentAgainWhileTheFileHasNoOther(t *testing.T) {
	for name, change := range map[string]func(tokenFile){
		"unchanged": func(tokenFile) {},
		"vanished":  tokenFile.remove,
		"empty":     func(f tokenFile) { f.write("\n") },
		"garbage":   func(f tokenFile) { f.write("two tokens") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, file := startRotating(t)
			change(file)
			_, err := r.Instances(t.Context())
			wantKind(t, err, oxide.KindUnauthorized)
			if n := r.Count("instance_list"); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
			// The old token was kept: when the rack accepts it again, so do we.
			if _, err := r.AddToken("demo", oldToken); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Instances(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTokenFileIsReadAgainAfterAMinute(t *testing.T) {
	file := newTokenFile(t, oldToken)
	synctest.Test(t, func(t *testing.T) {
		source := file.source()
		want := func(when, token string) {
			t.Helper()
			if got := source.Token(); got.Reveal() != token {
				t.Errorf("%s: the wrong token", when)
			}
		}
		file.write("  " + newToken + "\n")
		time.Sleep(time.Minute - time.Nanosecond)
		want("before a minute is over", oldToken)
		time.Sleep(time.Nanosecond)
		want("after a minute", newToken)

		file.remove()
		time.Sleep(time.Hour)
		want("when the file has vanished", newToken)
		file.write("")
		want("when the file is empty", newToken)
		file.write(oldToken)
		want("at once when the file is back", oldToken)
	})
}

func TestTokenFileIsRefusedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		name, content, want string
	}{
		{"empty", "", "empty"},
		{"blank", " \n\t\n", "empty"},
		{"two lines", oldToken + "\n" + newToken, "more than one"},
		{"not ASCII", oldToken + "é", "more than one"},
		{"control character", oldToken + "\x00", "more than one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, fileErr := oxide.TokenFile(newTokenFile(t, tc.content).path)
			_, staticErr := oxide.StaticToken(tc.content)
			for _, err := range []error{fileErr, staticErr} {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Fatalf("got %v, want %q", err, tc.want)
				}
				checkText(t, err)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		_, err := oxide.TokenFile(filepath.Join(dir, "nothing"))
		if !errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), dir) {
			t.Errorf("got %v, want that it does not exist, without the path", err)
		}
	})
}
