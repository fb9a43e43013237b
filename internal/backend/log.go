// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"fmt"
	"io"
	"log/slog"
)

func newLogHandler(w io.Writer, format, level string) (slog.Handler, error) {
	opts := &slog.HandlerOptions{}
	var lvl slog.Level
	if err := lvl.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("%q is no level; use debug, info, warn or error", level)
	}
	opts.Level = lvl
	switch format {
	case "text":
		return slog.NewTextHandler(w, opts), nil
	case "json":
		return slog.NewJSONHandler(w, opts), nil
	}
	return nil, fmt.Errorf("%q is no format; use text or json", format)
}
