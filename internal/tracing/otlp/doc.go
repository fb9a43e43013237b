// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package otlp sends the spans of package tracing to a collector by OTLP over gRPC, if the
// environment names one. The variables are those of OpenTelemetry's specification, which programs
// and their operators know; there are no flags.
//
// It must import nothing of the module but package tracing, since both programs use it.
package otlp
