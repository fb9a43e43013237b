// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package monitoring tests the alerts and the dashboard of the chart with a real Prometheus, built
// from its module (test/e2e/prometheus), which scrapes both programs while the demo runs. It takes
// minutes to build and one to run, so it is built only with the tag e2emonitoring, by
// `make e2e-monitoring`.
//
// The programs are known by what they serve: none of their packages is imported.
package monitoring
