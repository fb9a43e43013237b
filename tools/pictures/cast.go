// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// cast is a recording in the format asciicast v2, of lines alone: what is printed to no terminal.
type cast struct {
	header castHeader
	lines  []castLine
}

type castHeader struct {
	Version       int    `json:"version"`
	Width         int    `json:"width"`
	Height        int    `json:"height"`
	Title         string `json:"title"`
	IdleTimeLimit int    `json:"idle_time_limit"`
}

type castLine struct {
	at   time.Duration
	text string
}

// longestPause is what pauses of a recording are cut to.
const longestPause = 2 * time.Second

// record runs a command, shows what it prints, and records it.
func record(ctx context.Context, path string, command []string) error {
	var c cast
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // whoever runs it says what
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	began := time.Now()
	c.add(0, "$ "+strings.Join(command, " "))
	if err := cmd.Start(); err != nil {
		return err
	}
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		fmt.Println(scanner.Text())
		c.add(time.Since(began), scanner.Text())
	}
	if err := errors.Join(scanner.Err(), cmd.Wait()); err != nil {
		return fmt.Errorf("%s: %w; nothing is recorded", strings.Join(command, " "), err)
	}
	longest := 0
	for _, line := range c.lines {
		longest = max(longest, len([]rune(line.text)))
	}
	c.header = castHeader{
		Version: 2, Width: longest, Height: len(c.lines), Title: strings.Join(command, " "),
		IdleTimeLimit: int(longestPause.Seconds()),
	}
	return c.write(path)
}

func (c *cast) add(at time.Duration, text string) {
	c.lines = append(c.lines, castLine{at.Round(time.Millisecond), strings.TrimRight(text, " ")})
}

func (c *cast) write(path string) error {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(c.header); err != nil {
		return err
	}
	for _, line := range c.lines {
		if err := encoder.Encode([]any{line.at.Seconds(), "o", line.text + "\r\n"}); err != nil {
			return err
		}
	}
	return os.WriteFile(path, out.Bytes(), 0o644) //nolint:gosec // whoever runs it says where to
}

func readCast(path string) (*cast, error) {
	text, err := os.ReadFile(path) //nolint:gosec // as above
	if err != nil {
		return nil, err
	}
	c := &cast{}
	for number, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		if number == 0 {
			if err := json.Unmarshal(line, &c.header); err != nil || c.header.Version != 2 {
				return nil, fmt.Errorf("%s is no recording of version 2: %w", path, err)
			}
			continue
		}
		var at float64
		var kind, printed string
		if err := json.Unmarshal(line, &[]any{&at, &kind, &printed}); err != nil || kind != "o" {
			return nil, fmt.Errorf("%s:%d is no output: %w", path, number+1, err)
		}
		c.lines = append(c.lines, castLine{
			time.Duration(at * float64(time.Second)).Round(time.Millisecond),
			strings.TrimSuffix(printed, "\r\n"),
		})
	}
	if len(c.lines) == 0 {
		return nil, errors.New(path + " has no lines")
	}
	return c, nil
}

// observation is a line of the demo with its time and its place.
var observation = regexp.MustCompile(`^( +\d+\.\d\d s  )(\S+)(.*)$`)

// What of a recording is seen at once.
const (
	rows    = 30
	columns = 112
)

// terminal is the picture of a recording: a window in which lines appear when they were printed. In
// the end it shows the last ones; who prefers no motion sees them at once.
func terminal(c *cast) *picture {
	const lineHeight, left, top = 18, 16, 36
	p := newPicture(2*left+columns*77/10, top+lineHeight*rows+14, c.header.Title,
		"What the demo prints, line by line: three Nodes are initialized, two Services get addresses, both "+
			"addresses leave nodes that fail, and one is released.")
	last := lineHeight * max(len(c.lines)-rows, 0)
	var steps strings.Builder
	var shown, before time.Duration
	for i, colour := range []string{"#ff5f57", "#febc2e", "#28c840"} {
		fmt.Fprintf(&p.body, `<circle cx="%d" cy="18" r="6" fill="%s"/>`+"\n", left+6+20*i, colour)
	}
	times := make([]time.Duration, len(c.lines))
	for i, line := range c.lines {
		shown += min(line.at-before, longestPause)
		before, times[i] = line.at, shown
	}
	fmt.Fprintf(&p.body, `<svg x="%d" y="%d" width="%d" height="%d"><g class="scroll">`+"\n",
		left, top, columns*77/10, lineHeight*rows+6)
	for i, line := range c.lines {
		if i >= rows {
			fmt.Fprintf(&steps, "  %.3f%% { transform: translateY(%dpx); }\n",
				100*times[i].Seconds()/shown.Seconds(), -lineHeight*(i+1-rows))
		}
		p.printed(line.text, lineHeight*i+14, times[i])
	}
	p.body.WriteString("</g></svg>\n")
	p.style += fmt.Sprintf(`text { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  font-size: 12.5px; white-space: pre; }
.scroll { transform: translateY(-%dpx); }
@media (prefers-reduced-motion: no-preference) {
  .line { opacity: 0; animation: appear 1ms forwards; }
  .scroll { animation: scroll %dms step-end forwards; }
  @keyframes appear { to { opacity: 1; } }
  @keyframes scroll {
  0%% { transform: translateY(0); }
%s  }
}
`, last, shown.Milliseconds(), steps.String())
	return p
}

// printed writes a line of a recording, which appears at its time.
func (p *picture) printed(line string, y int, at time.Duration) {
	if line == "" {
		return
	}
	if all := []rune(line); len(all) > columns {
		line = string(all[:columns-1]) + "…"
	}
	text, class := escape(line), "line"
	switch match := observation.FindStringSubmatch(line); {
	case match != nil:
		text = fmt.Sprintf(`%s<tspan class="in-%s">%[2]s</tspan>%[3]s`, match[1], match[2], escape(match[3]))
	case !strings.HasPrefix(line, " "):
		class += " name"
	}
	fmt.Fprintf(&p.body, `<text class="%s" y="%d" xml:space="preserve" `+
		`style="animation-delay:%dms">%s</text>`+"\n", class, y, at.Milliseconds(), text)
}
