// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"bytes"
	"fmt"
	"strings"
)

// picture is an SVG under construction. Its colours are classes, which style defines for light and
// dark pages; it has a background of its own, so that it can be read on any page.
type picture struct {
	title, description string
	width, height      int
	style              string
	body               bytes.Buffer
}

// style has the classes of all pictures. It does without variables, which not every viewer knows.
const style = `
text { font-family: ui-sans-serif, system-ui, -apple-system, "Segoe UI", Helvetica, Arial,
  sans-serif; font-size: 14px; }
.name { font-weight: 600; }
.faint, .code { font-size: 12.5px; }
.code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.middle { text-anchor: middle; }
.group { fill: none; stroke-dasharray: 5 4; }
.kubernetes, .oxide, .bad { stroke-width: 2; }
.arrow { fill: none; stroke-width: 1.5; marker-end: url(#head); }
.both { marker-start: url(#tail); }
.lost { stroke-dasharray: 4 4; marker-end: none; }
` + light + "@media (prefers-color-scheme: dark) {\n" + dark + "}\n"

const light = `text, .head { fill: #1f2328; }
.page { fill: #ffffff; }
.faint { fill: #59636e; }
.box { fill: #f6f8fa; }
.box, .group { stroke: #8c959f; }
.arrow { stroke: #1f2328; }
.kubernetes { stroke: #0969da; }
.oxide { stroke: #1a7f5a; }
.bad, .lost { stroke: #cf222e; }
.in-kubernetes { fill: #0969da; }
.in-rack { fill: #1a7f5a; }
`

const dark = `text, .head { fill: #e6edf3; }
.page { fill: #0d1117; }
.faint { fill: #9198a1; }
.box { fill: #161b22; }
.box, .group { stroke: #6e7681; }
.arrow { stroke: #e6edf3; }
.kubernetes { stroke: #58a6ff; }
.oxide { stroke: #48d597; }
.bad, .lost { stroke: #ff7b72; }
.in-kubernetes { fill: #58a6ff; }
.in-rack { fill: #48d597; }
`

func newPicture(width, height int, title, description string) *picture {
	return &picture{title: title, description: description, width: width, height: height, style: style}
}

// bytes returns the file.
func (p *picture) bytes() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" `+
		`viewBox="0 0 %[1]d %[2]d" role="img" aria-labelledby="title desc">`+"\n", p.width, p.height)
	fmt.Fprintf(&out, "<!-- Made by `make generate`: do not edit. -->\n")
	fmt.Fprintf(&out, "<title id=\"title\">%s</title>\n<desc id=\"desc\">%s</desc>\n",
		escape(p.title), escape(p.description))
	fmt.Fprintf(&out, "<style>%s</style>\n", p.style)
	const marker = `<marker id="%s" viewBox="0 0 10 10" refX="%d" refY="5" markerWidth="8" ` +
		`markerHeight="8" orient="auto"><path class="head" d="%s"/></marker>` + "\n"
	out.WriteString("<defs>\n")
	fmt.Fprintf(&out, marker, "head", 9, "M0 0 10 5 0 10z")
	fmt.Fprintf(&out, marker, "tail", 1, "M10 0 0 5 10 10z")
	out.WriteString("</defs>\n")
	fmt.Fprintf(&out, `<rect class="page" width="%d" height="%d" rx="8"/>`+"\n", p.width, p.height)
	out.Write(p.body.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// box draws a rectangle.
func (p *picture) box(class string, x, y, width, height int) {
	fmt.Fprintf(&p.body, `<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="6"/>`+"\n",
		class, x, y, width, height)
}

// arrow draws a straight arrow.
func (p *picture) arrow(class string, x1, y1, x2, y2 int) {
	fmt.Fprintf(&p.body, `<path class="%s" d="M%d %d %d %d"/>`+"\n",
		strings.TrimSpace("arrow "+class), x1, y1, x2, y2)
}

// text writes a line; y is that of its baseline.
func (p *picture) text(class string, x, y int, text string) {
	fmt.Fprintf(&p.body, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class, x, y, escape(text))
}

// lines writes lines below each other, in the middle of x.
func (p *picture) lines(class string, x, y int, lines ...string) {
	for i, line := range lines {
		p.text(strings.TrimSpace("middle "+class), x, y+18*i, line)
	}
}

func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}
