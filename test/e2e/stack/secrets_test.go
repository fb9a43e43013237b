// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package stack

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// What the harness searches for is found, in each form in which a program might write it.
func TestSecretsAreFoundInEveryForm(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	const serviceAccount = "eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"
	err := os.WriteFile(kubeconfig, []byte(`{apiVersion: v1, kind: Config, users: [{name: u, user: {token: "`+
		serviceAccount+`"}}]}`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := NewSecrets(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range append(rack.Secrets(), serviceAccount) {
		for name, text := range map[string]string{
			"as it is":         "Bearer " + secret + "\n",
			"quoted":           `{"token":"` + secret + `"}`,
			"in hex":           hex.EncodeToString([]byte(secret)),
			"in capital hex":   strings.ToUpper(hex.EncodeToString([]byte(secret))),
			"in base64":        base64.StdEncoding.EncodeToString([]byte(secret)),
			"in base64, one":   base64.StdEncoding.EncodeToString([]byte("a" + secret + "bc")),
			"in base64, two":   base64.StdEncoding.EncodeToString([]byte("ab" + secret + "c")),
			"in base64, three": base64.StdEncoding.EncodeToString([]byte("abc" + secret)),
		} {
			dir := t.TempDir()
			if err := secrets.InFiles(dir); err != nil {
				t.Errorf("an empty folder: %v", err)
			}
			if err := os.WriteFile(filepath.Join(dir, "x.log"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := secrets.InFiles(dir); err == nil || !strings.Contains(err.Error(), "x.log") {
				t.Errorf("%s: got %v, want the file", name, err)
			}
		}
	}
	if secrets.In([]byte("oxide-token-REDACTED b3hpZGUtdG9rZW4t")) {
		t.Error("what is no secret is found")
	}
}
