// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"encoding/base64"
	"strings"
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

// A page token is the last key of the page before, so it stays valid when entries come and go. It
// is encoded so that nobody relies on what is in it.
func encodePageToken(lastKey ...string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(lastKey, "\x00")))
}

// decodePageToken returns the parts of a token; each must be what one of its checks accepts. An
// empty token has empty parts.
func decodePageToken(token string, checks ...func(part string) bool) ([]string, error) {
	if token == "" {
		return make([]string, len(checks)), nil
	}
	foreign := invalidf("page_token", "is not one that this backend made for this list")
	if len(token) > maxPageToken {
		return nil, foreign
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(token)
	key := strings.Split(string(text), "\x00")
	if err != nil || len(key) != len(checks) {
		return nil, foreign
	}
	for i, valid := range checks {
		if !valid(key[i]) {
			return nil, foreign
		}
	}
	return key, nil
}
