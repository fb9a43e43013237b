// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const images = "../../docs/images"

// A picture that was drawn by hand, or not again, would be of another time than its description.
func TestCommittedPicturesAreWhatIsGenerated(t *testing.T) {
	folder := t.TempDir()
	text, err := os.ReadFile(filepath.Join(images, castFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, castFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{folder}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"containers.svg", "failover.svg", "demo.svg"} {
		made, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		committed, err := os.ReadFile(filepath.Join(images, name))
		if err != nil || !bytes.Equal(made, committed) {
			t.Errorf("docs/images/%s is stale: run make generate (%v)", name, err)
		}
	}
}

// Text that is drawn as shapes can neither be searched nor read aloud, and a colour that is missing for
// dark pages is black on black there.
func TestPicturesKeepTextAndHaveColoursForLightAndDarkPages(t *testing.T) {
	for _, p := range []*picture{containers(), failover()} {
		decoder := xml.NewDecoder(bytes.NewReader(p.bytes()))
		texts := 0
		for {
			token, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s is no XML: %v", p.title, err)
			}
			if start, ok := token.(xml.StartElement); ok && start.Name.Local == "text" {
				texts++
			}
		}
		if texts < 10 || p.description == "" {
			t.Errorf("%s has %d texts, and the description %q", p.title, texts, p.description)
		}
	}
	selectors := regexp.MustCompile(`(?m)^[^{]+`)
	if a, b := selectors.FindAllString(light, -1), selectors.FindAllString(dark, -1); !slices.Equal(a, b) {
		t.Errorf("colours for light pages are of %q, for dark ones of %q", a, b)
	}
}

func TestARecordingHoldsWhatACommandPrints(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.cast")
	err := run(t.Context(), []string{"record", path, "printf", `a title\n    0.10 s  rack  <an & event>\n\n`})
	if err != nil {
		t.Fatal(err)
	}
	c, err := readCast(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := make([]string, 0, len(c.lines))
	for _, line := range c.lines[1:] {
		lines = append(lines, line.text)
	}
	if want := []string{"a title", "    0.10 s  rack  <an & event>", ""}; !slices.Equal(lines, want) {
		t.Errorf("got %q, want %q", lines, want)
	}
	picture := string(terminal(c).bytes())
	for _, part := range []string{`<tspan class="in-rack">rack</tspan>  &lt;an &amp; event&gt;`, `class="line name"`} {
		if !strings.Contains(picture, part) {
			t.Errorf("%q is not in %s", part, picture)
		}
	}
}

// What fails is no picture of success.
func TestACommandThatFailsLeavesTheRecordingAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.cast")
	if err := run(t.Context(), []string{"record", path, "false"}); err == nil {
		t.Error("a command that failed is recorded")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a recording: %v", err)
	}
}
