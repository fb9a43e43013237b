// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package version

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var (
	fenced   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	codeSpan = regexp.MustCompile("`[^`\n]*`")
	// mdLink is [text](target); htmlLink is what README uses for pictures in two themes.
	mdLink   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	htmlLink = regexp.MustCompile(`(?:href|src|srcset)="([^"]+)"`)
	// inText is a page or picture named in code, in a message or in a page's code.
	inText = regexp.MustCompile(`\bdocs/[A-Za-z0-9_./-]+\.(?:md|svg|yaml)(?:#[a-z0-9_-]+)?`)
	// ours is an address of a file of this repository, at whatever revision.
	ours = regexp.MustCompile(
		`https://github\.com/oxidecomputer/oxide-cloud-controller-manager/(?:blob|raw|tree)/[^/\s"')]+/` +
			`([A-Za-z0-9_./-]*[A-Za-z0-9_])(#[A-Za-z0-9_-]+)?`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.*?) *#*$`)
)

// sources returns the paths of the repository's text files, those that Git does not have left out.
func sources(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", "bin", "dist"}, file) || entry.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		switch filepath.Ext(file) {
		case ".md", ".gotmpl", ".go", ".proto", ".yaml", ".yml", ".json", ".tpl", ".txt", ".sh", ".svg", "":
			files = append(files, filepath.ToSlash(file))
		}
		return nil
	})
	if err != nil || len(files) < 100 {
		t.Fatalf("found %d files: %v", len(files), err)
	}
	return files
}

func content(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// anchors returns the anchors that GitHub makes of a page's headings.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		title := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(match[1], "$1")
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, title)
		name := anchor
		for n := 1; found[name]; n++ {
			name = fmt.Sprintf("%s-%d", anchor, n)
		}
		found[name] = true
	}
	return found
}

// follow checks one link from a file to a path of the repository.
func follow(t *testing.T, from, to, anchor string) {
	t.Helper()
	if _, err := os.Stat(to); err != nil {
		t.Errorf("%s links to %s, which is not there", from, to)
		return
	}
	anchor = strings.TrimPrefix(anchor, "#")
	if anchor != "" && path.Ext(to) == ".md" && !anchors(content(t, to))[anchor] {
		t.Errorf("%s links to %s#%s: no heading of that page makes this anchor", from, to, anchor)
	}
}

// A page that was moved, or a heading that was reworded, leaves links behind, which nobody notices who
// works on the code: in other pages, and in comments, messages, the chart's notes and its alerts.
func TestLinksBetweenPagesLeadSomewhere(t *testing.T) {
	links := 0
	for _, file := range sources(t) {
		text := content(t, file)
		if path.Ext(file) == ".md" || path.Ext(file) == ".gotmpl" {
			prose := codeSpan.ReplaceAllString(fenced.ReplaceAllString(text, ""), "``")
			for _, match := range append(mdLink.FindAllStringSubmatch(prose, -1),
				htmlLink.FindAllStringSubmatch(prose, -1)...) {
				if strings.Contains(match[1], ":") {
					continue // elsewhere
				}
				target, anchor, _ := strings.Cut(match[1], "#")
				to := file
				if target != "" {
					to = path.Join(path.Dir(file), target)
				}
				follow(t, file, to, anchor)
				links++
			}
		}
		for _, match := range ours.FindAllStringSubmatch(text, -1) {
			follow(t, file, match[1], match[2])
			links++
		}
		if file == "links_test.go" {
			continue
		}
		for _, found := range inText.FindAllStringIndex(text, -1) {
			before := text[strings.LastIndexAny(text[:found[0]], " \t\n\"`'")+1 : found[0]]
			if strings.Contains(before, "://") || strings.HasSuffix(before, "(") {
				continue // an address, or a link, which are checked above
			}
			to, anchor, _ := strings.Cut(text[found[0]:found[1]], "#")
			follow(t, file, to, anchor)
			links++
		}
	}
	if links < 300 {
		t.Errorf("found %d links: the test looks for the wrong thing", links)
	}
}

// What the index does not have is found by nobody.
func TestTheIndexOfTheDocumentationHasEachPageInItsSection(t *testing.T) {
	const index = "docs/README.md"
	listed := map[string]string{}
	for section := range strings.SplitSeq(content(t, index), "\n## ") {
		title, _, _ := strings.Cut(section, "\n")
		for _, match := range mdLink.FindAllStringSubmatch(section, -1) {
			target, _, _ := strings.Cut(match[1], "#")
			listed[path.Join("docs", target)] = strings.ToLower(title)
		}
	}
	pages := 0
	for _, file := range sources(t) {
		if !strings.HasPrefix(file, "docs/") || path.Ext(file) != ".md" || file == index {
			continue
		}
		pages++
		folder := path.Base(path.Dir(file))
		switch section, ok := listed[file]; {
		case !ok:
			t.Errorf("%s does not link to %s", index, file)
		case folder != "docs" && section != folder:
			t.Errorf("%s has %s in the section %q, and it is in the folder %s", index, file, section, folder)
		}
	}
	if pages < 20 {
		t.Errorf("checked %d pages", pages)
	}
}

func TestAnchorsAreThoseThatGitHubMakes(t *testing.T) {
	got := anchors("# One `two`: three, four\n\n```sh\n# no heading\n```\n\n## Again\n## Again\n" +
		"### [A link](x.md) and a-b_c\n#hashtag\n")
	for _, want := range []string{"one-two-three-four", "again", "again-1", "a-link-and-a-b_c"} {
		if !got[want] {
			t.Errorf("%s is missing from %v", want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("got %v", got)
	}
}
