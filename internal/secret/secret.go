// SPDX-License-Identifier: Apache-2.0

// Package secret holds values that must never be printed.
//
// A Value formats, logs and marshals as a fixed marker. The bytes leave it
// through Reveal only, so "who can see secrets" is one search for Reveal.
package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// Redacted is what every way of printing a Value yields.
const Redacted = "[redacted]"

// ErrMarshal is what marshalling a Value yields: a secret in JSON or YAML is a
// mistake, not a format.
var ErrMarshal = errors.New("secret: refusing to marshal a value")

// Value is a secret's bytes. The zero Value is empty.
//
// The bytes are behind a function because fmt and its like call no method of a
// value in an unexported field: there they print what they find, following
// pointers, and of a function that is the address.
type Value struct{ reveal func() []byte }

// New takes ownership of b.
func New(b []byte) Value {
	if b == nil {
		return Value{}
	}
	return Value{func() []byte { return b }}
}

// Reveal returns the bytes. Callers must neither retain nor log them.
func (v Value) Reveal() []byte {
	if v.reveal == nil {
		return nil
	}
	return v.reveal()
}

// Len is the number of bytes held.
func (v Value) Len() int { return len(v.Reveal()) }

// Equal compares in constant time.
func (v Value) Equal(w Value) bool { return subtle.ConstantTimeCompare(v.Reveal(), w.Reveal()) == 1 }

// String, GoString, Format, LogValue and the Marshal methods close the usual
// ways out.
func (v Value) String() string { return Redacted }

// GoString implements fmt.GoStringer.
func (v Value) GoString() string { return Redacted }

// Format implements fmt.Formatter, which outranks every other verb handling.
func (v Value) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, Redacted) }

// LogValue implements slog.LogValuer.
func (v Value) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText refuses.
func (v Value) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalJSON refuses.
func (v Value) MarshalJSON() ([]byte, error) { return nil, ErrMarshal }
