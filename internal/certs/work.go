// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"encoding/asn1"
)

// maxIterations is what a PFX may ask for at each key derivation: about half a
// second of one core. Key Vault and Windows write 2,000, OpenSSL 2,048, Java
// 10,000; whoever asks for billions wants to keep us busy, and nothing could stop
// the derivation once it runs.
const maxIterations = 1_000_000

// overworks says whether a PFX asks for more. In all of its structures the count
// is the integer right behind the salt, so that one walk over whatever is DER
// finds every one that stands in clear; the file's own encryption may hide a
// further one.
func overworks(der []byte) bool {
	salted := false
	for len(der) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			return false // not DER, so nothing that would be followed
		}
		der = rest
		if salted && v.Tag == asn1.TagInteger && tooMany(v.FullBytes) {
			return true
		}
		salted = v.Tag == asn1.TagOctetString // of whatever class: readers do not all look
		if (v.IsCompound || salted) && overworks(v.Bytes) {
			return true
		}
	}
	return false
}

func tooMany(integer []byte) bool {
	var n int64
	_, err := asn1.Unmarshal(integer, &n)
	return err != nil || n > maxIterations
}
