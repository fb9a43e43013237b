// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package image writes container images of static programs as OCI archives, which a container
// runtime imports, without a container engine, a base image or a registry. They are for the tests'
// own helpers; the product's image comes from tools/image.
//
// It imports only the standard library.
package image
