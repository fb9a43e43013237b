// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	defaultPageSize = 100
	maxPageSize     = 1000
	// maxPageToken bounds a page token, in bytes: the longest key takes less.
	maxPageToken = 512
)

// pageSize applies the default and the limit that every list of the API has.
func pageSize(requested int32) (int, error) {
	switch {
	case requested < 0:
		return 0, invalidf("page_size", "%d is negative", requested)
	case requested == 0:
		return defaultPageSize, nil
	case requested > maxPageSize:
		return maxPageSize, nil
	}
	return int(requested), nil
}

// listRequest is a request of a call that returns pages.
type listRequest interface {
	proto.Message
	GetPageToken() string
}

// notFilters are the fields of such requests that may differ from page to page.
var notFilters = []protoreflect.Name{"page_size", "page_token", "max_age", "view"}

// digestBytes is how much of the digest of a request is in its page tokens.
const digestBytes = 8

// digest returns what the requests for all pages of a list have in common, and no others: the call and
// its filters.
func digest(req listRequest) []byte {
	filters := proto.Clone(req).ProtoReflect()
	fields := filters.Descriptor().Fields()
	for _, name := range notFilters {
		if field := fields.ByName(name); field != nil {
			filters.Clear(field)
		}
	}
	filters.SetUnknown(nil)
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(filters.Interface())
	if err != nil {
		return make([]byte, digestBytes) // a string that is no UTF-8, which no request has that was received
	}
	sum := sha256.Sum256(append([]byte(filters.Descriptor().FullName()+"\x00"), text...))
	return sum[:digestBytes]
}

// A page token is the last key of the page before, so it stays valid when entries come and go, and the
// digest of the request, so it is good for that list alone. It is encoded so that nobody relies on what
// is in it.
func encodePageToken(req listRequest, lastKey ...string) string {
	return base64.RawURLEncoding.EncodeToString(append(digest(req), strings.Join(lastKey, "\x00")...))
}

// decodePageToken returns the parts of the token in a request; each must be what one of its checks
// accepts. An empty token has empty parts.
func decodePageToken(req listRequest, checks ...func(part string) bool) ([]string, error) {
	token := req.GetPageToken()
	if token == "" {
		return make([]string, len(checks)), nil
	}
	foreign := invalidf("page_token", "is not one that this backend made for this list and these "+
		"filters: begin with the first page again")
	if len(token) > maxPageToken {
		return nil, foreign
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(text) < digestBytes || !bytes.Equal(text[:digestBytes], digest(req)) {
		return nil, foreign
	}
	key := strings.Split(string(text[digestBytes:]), "\x00")
	if len(key) != len(checks) {
		return nil, foreign
	}
	for i, valid := range checks {
		if !valid(key[i]) {
			return nil, foreign
		}
	}
	return key, nil
}
