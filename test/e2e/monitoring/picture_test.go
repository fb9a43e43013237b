// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2emonitoring

package monitoring

import (
	"fmt"
	"math"
	"regexp"
	"strings"
)

// The size of the picture: panels in columns, each with a title, a plot and a legend.
const (
	columns     = 3
	panelWidth  = 300
	panelHeight = 170
	statHeight  = 70
	margin      = 10
)

var colours = []string{
	"#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0", "#508642", "#cca300",
}

// picture draws the panels of a dashboard from the answers to their queries.
func picture(b board) string {
	var out strings.Builder
	x, y, rowHeight := 0, margin, 0
	newRow := func() {
		if x > 0 {
			x, y = 0, y+rowHeight+margin
		}
		rowHeight = 0
	}
	for _, panel := range b.Panels {
		switch panel.Type {
		case "row":
			newRow()
			fmt.Fprintf(&out, `<text x="%d" y="%d" class="row">%s</text>`+"\n", margin, y+14, escape(panel.Title))
			y += 24
		case "stat":
			width := columns * (panelWidth + margin) / 6
			drawStat(&out, panel, margin+x*width, y, width-margin)
			rowHeight = statHeight
			if x++; x == 6 {
				newRow()
			}
		default:
			drawPlot(&out, panel, margin+x*(panelWidth+margin), y)
			rowHeight = panelHeight
			if x++; x == columns {
				newRow()
			}
		}
	}
	newRow()
	width := margin + columns*(panelWidth+margin)
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d">
<style>text{font:10px sans-serif;fill:#d8d9da}.row{font-size:14px;font-weight:bold}.title{font-size:11px;font-weight:bold}.stat{font-size:22px}</style>
<rect width="%[1]d" height="%[2]d" fill="#111217"/>
%[3]s</svg>
`, width, y, out.String())
}

func drawStat(out *strings.Builder, p panel, x, y, width int) {
	fmt.Fprintf(out, `<rect x="%d" y="%d" width="%d" height="%d" rx="3" fill="#181b1f"/>`, x, y, width, statHeight)
	fmt.Fprintf(out, `<text x="%d" y="%d" class="title">%s</text>`, x+8, y+16, escape(p.Title))
	value := "no data"
	if len(p.results) > 0 && len(p.results[0]) > 0 {
		values := p.results[0][0].Values
		value = withUnit(values[len(values)-1].number(), p.FieldConfig.Defaults.Unit)
		if strings.HasPrefix(p.Title, "Oxide is") || strings.HasPrefix(p.Title, "A replica") ||
			strings.HasPrefix(p.Title, "Backend") {
			value = map[string]string{"0": "no", "1": "yes"}[value]
		}
	}
	fmt.Fprintf(out, `<text x="%d" y="%d" class="stat">%s</text>`+"\n", x+8, y+52, escape(value))
}

func drawPlot(out *strings.Builder, p panel, x, y int) {
	fmt.Fprintf(out, `<rect x="%d" y="%d" width="%d" height="%d" rx="3" fill="#181b1f"/>`,
		x, y, panelWidth, panelHeight)
	fmt.Fprintf(out, `<text x="%d" y="%d" class="title">%s</text>`, x+8, y+16, escape(p.Title))
	const left, top, plotWidth, plotHeight = 46, 26, panelWidth - 56, 92
	first, last, most := math.Inf(1), math.Inf(-1), 0.0
	for _, result := range p.results {
		for _, s := range result {
			for _, v := range s.Values {
				first, last = min(first, at(v)), max(last, at(v))
				if n := v.number(); !math.IsNaN(n) && !math.IsInf(n, 0) {
					most = max(most, n)
				}
			}
		}
	}
	if most == 0 {
		most = 1
	}
	for i := range 3 {
		level := y + top + plotHeight - plotHeight*i/2
		fmt.Fprintf(out, `<path d="M%d %dh%d" stroke="#2c3235"/>`, x+left, level, plotWidth)
		fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="end">%s</text>`, x+left-4, level+3,
			escape(withUnit(most*float64(i)/2, p.FieldConfig.Defaults.Unit)))
	}
	drawn, legendX, legendY := 0, x+8, y+top+plotHeight+16
	for i, result := range p.results {
		for _, s := range result {
			var path strings.Builder
			pen := "M"
			for _, v := range s.Values {
				n := v.number()
				if math.IsNaN(n) || math.IsInf(n, 0) {
					pen = "M"
					continue
				}
				fmt.Fprintf(&path, "%s%.1f %.1f", pen,
					float64(x+left)+(at(v)-first)/max(last-first, 1)*plotWidth,
					float64(y+top+plotHeight)-n/most*plotHeight)
				pen = "L"
			}
			if path.Len() == 0 {
				continue
			}
			colour := colours[drawn%len(colours)]
			drawn++
			fmt.Fprintf(out, `<path d="%s" fill="none" stroke="%s" stroke-width="1.2"/>`, path.String(), colour)
			name := legend(p.Targets[i].Legend, s.Metric)
			if width := 20 + 6*len(name); legendX+width > x+panelWidth {
				legendX, legendY = x+8, legendY+12
			}
			if legendY > y+panelHeight-4 {
				continue
			}
			fmt.Fprintf(out, `<rect x="%d" y="%d" width="8" height="3" fill="%s"/><text x="%d" y="%d">%s</text>`,
				legendX, legendY-4, colour, legendX+11, legendY, escape(name))
			legendX += 20 + 6*len(name)
		}
	}
	if drawn == 0 {
		fmt.Fprintf(out, `<text x="%d" y="%d">no data</text>`, x+100, y+top+40)
	}
	out.WriteString("\n")
}

// at is the time of a sample.
func at(s sample) float64 {
	when, _ := s[0].(float64)
	return when
}

// legend replaces {{label}} as Grafana does.
func legend(format string, labels map[string]string) string {
	name := regexp.MustCompile(`\{\{\s*([a-z_]+)\s*\}\}`).ReplaceAllStringFunc(format, func(match string) string {
		return labels[strings.Trim(match, "{} ")]
	})
	if i := strings.Index(name, "127.0.0.1:"); i >= 0 { // the ports are others in each run
		name = labels["job"]
	}
	return name
}

func withUnit(n float64, unit string) string {
	switch {
	case unit == "s" && n >= 2*86400:
		return fmt.Sprintf("%.0f days", n/86400)
	case unit == "s" && n < 1 && n > 0:
		return fmt.Sprintf("%.0f ms", n*1000)
	case unit == "s":
		return fmt.Sprintf("%.3g s", n)
	case unit == "bytes":
		return fmt.Sprintf("%.0f MiB", n/(1<<20))
	case unit == "percentunit":
		return fmt.Sprintf("%.3g %%", n*100)
	case unit == "reqps":
		return fmt.Sprintf("%.3g/s", n)
	}
	return fmt.Sprintf("%.3g", n)
}

func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}
