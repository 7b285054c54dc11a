// SPDX-License-Identifier: Apache-2.0

// Package placeholder knows the text that stands for a value in a pod's
// environment:
//
//	NAME@azurekeyvault?QUERY           the whole text
//	… <NAME@azurekeyvault?QUERY> …     within a longer text, any number of times
//	… @@azurekeyvault …                the text @azurekeyvault, and no placeholder
//
// NAME is an AzureKeyVaultSecret of the pod's namespace; "?QUERY" may be left
// out. Behind it, ";file" puts the value into a file and ";directory" all parts of the
// object into several, whose path then stands in the text; ";optional" or
// ";default=TEXT", last, say what happens when there is no such object. The kubelet's
// $(VAR) and $$, Helm, Flux, Terraform and envsubst pass all of this on as it is.
//
// The package finds and parses; it reads nothing.
package placeholder

import (
	"errors"
	"strings"
)

// Marker is what makes a text a placeholder.
const Marker = "@azurekeyvault"

// The ways parsing fails. None of them quotes the text, which may hold a password.
var (
	ErrMalformed = errors.New("not a placeholder: write NAME" + Marker + " or NAME" + Marker + "?QUERY as the whole text, " +
		"<NAME" + Marker + "?QUERY> within a longer one, or @" + Marker + " where the text itself is meant")
	ErrName = errors.New("a placeholder's NAME must be that of an AzureKeyVaultSecret: " +
		"lower-case letters, digits, '-' and '.', at most 253")
	ErrQuery    = errors.New("a placeholder's QUERY must be letters, digits, '-', '_' and '.', at most 253")
	ErrModifier = errors.New("behind a placeholder's NAME and QUERY there may be ;file or ;directory, and behind that ;optional or " +
		";default=TEXT, where TEXT has neither '<' nor '>' nor " + Marker)
	ErrForm = errors.New("a placeholder with ;directory has neither QUERY nor ;default=TEXT, " +
		"and the QUERY of one with ;file, which is the file's name, is neither '.' nor '..'")
)

const (
	maxName  = 253 // a DNS subdomain's (RFC 1123)
	maxQuery = 253 // a key's in a Secret
)

// Form is how a value is delivered.
type Form int

// The forms.
const (
	InText    Form = iota // the value stands in the placeholder's place
	File                  // a file's path does
	Directory             // the path of a directory with a file for each part does
)

// Absence is what to do without a value, which only means: the AzureKeyVaultSecret,
// the object in the vault or the part of it that the query names does not exist.
type Absence int

// What to do without a value.
const (
	Fail    Absence = iota // the container does not start
	Omit                   // a whole text's variable is not set; within a text it is empty
	Default                // take the default
)

// Placeholder names an AzureKeyVaultSecret and, optionally, a part of it.
type Placeholder struct {
	Name    string
	Query   string // empty is the whole value
	Form    Form
	Absence Absence
	Default string // with Absence Default
}

// Key is the text of what is asked for, whatever happens without it. Equal keys
// have equal values: a file holds what would have stood in the text.
func (p Placeholder) Key() string {
	switch {
	case p.Form == Directory:
		return p.Name + Marker + directory
	case p.Query == "":
		return p.Name + Marker
	default:
		return p.Name + Marker + "?" + p.Query
	}
}

const (
	file      = ";file"
	directory = ";directory"
	optional  = ";optional"
	defaultTo = ";default="
)

// String is the placeholder as a whole text.
func (p Placeholder) String() string {
	text := p.Key()
	if p.Form == File {
		text += file
	}
	switch p.Absence {
	case Omit:
		return text + optional
	case Default:
		return text + defaultTo + p.Default
	default:
		return text
	}
}

// Inline is the placeholder within a longer text.
func (p Placeholder) Inline() string { return "<" + p.String() + ">" }

// Path is where the value lies below the directory of a container's files: NAME/QUERY,
// NAME/value without a query, and NAME for all parts of an object. It is empty where
// the value goes into no file.
func (p Placeholder) Path() string {
	switch {
	case p.Form == InText:
		return ""
	case p.Form == Directory:
		return p.Name
	case p.Query == "":
		return p.Name + "/value"
	default:
		return p.Name + "/" + p.Query
	}
}

// IsFileName says whether a part of an object can be a file of this name.
func IsFileName(name string) bool { return isQuery(name) && name != "." && name != ".." }

// In says whether a text must be read: it holds a placeholder, something that is
// nearly one, or an escape.
func In(text string) bool { return strings.Contains(text, Marker) }

// Meant says whether a text holds a placeholder or something that is nearly one, which
// an escape is not.
func Meant(text string) bool { return In(strings.ReplaceAll(text, "@"+Marker, "")) }

// Text is a text with its placeholders found.
type Text struct {
	pieces []piece
	whole  bool
}

// piece is plain text or a placeholder.
type piece struct {
	plain       string
	placeholder *Placeholder
}

// Read finds the placeholders of a text. It fails with one of the package's errors
// where Marker is neither a part of one nor escaped.
func Read(text string) (Text, error) {
	p, err := parse(text)
	if err == nil {
		return Text{pieces: []piece{{placeholder: &p}}, whole: true}, nil
	}
	t, errInline := inline(text)
	if errors.Is(errInline, ErrMalformed) {
		return Text{}, err // it may have been meant to be a whole one
	}
	return t, errInline
}

// inline reads a text that has other parts than placeholders.
func inline(text string) (Text, error) {
	var t Text
	for {
		at := strings.Index(text, Marker)
		if at < 0 {
			t.plain(text)
			return t, nil
		}
		if at > 0 && text[at-1] == '@' {
			t.plain(text[:at-1] + Marker)
			text = text[at+len(Marker):]
			continue
		}
		open, end := strings.LastIndexByte(text[:at], '<'), strings.IndexByte(text[at:], '>')
		if open < 0 || end < 0 {
			return Text{}, ErrMalformed
		}
		p, err := parse(text[open+1 : at+end])
		if err != nil {
			return Text{}, err
		}
		t.plain(text[:open])
		t.pieces = append(t.pieces, piece{placeholder: &p})
		text = text[at+end+1:]
	}
}

func (t *Text) plain(text string) {
	if text != "" {
		t.pieces = append(t.pieces, piece{plain: text})
	}
}

// parse reads a placeholder from its first byte to its last.
func parse(text string) (Placeholder, error) {
	name, rest, found := strings.Cut(text, Marker)
	switch {
	case !found:
		return Placeholder{}, ErrMalformed
	case isName(name):
	case name != "" && all(name, isQueryByte): // a name, if a wrong one
		return Placeholder{}, ErrName
	default:
		return Placeholder{}, ErrMalformed
	}
	p := Placeholder{Name: name}
	if query, is := strings.CutPrefix(rest, "?"); is {
		end := strings.IndexByte(query, ';')
		if end < 0 {
			end = len(query)
		}
		if !isQuery(query[:end]) {
			return Placeholder{}, ErrQuery
		}
		p.Query, rest = query[:end], query[end:]
	}
	return p.shaped(rest)
}

// shaped reads the form and what is to happen without a value.
func (p Placeholder) shaped(rest string) (Placeholder, error) {
	for form, modifier := range [...]string{File: file, Directory: directory} {
		behind, is := strings.CutPrefix(rest, modifier)
		if is && modifier != "" && (behind == "" || behind[0] == ';') {
			p.Form, rest = Form(form), behind
			break
		}
	}
	p, err := p.without(rest)
	if err == nil && !p.possible() {
		return Placeholder{}, ErrForm
	}
	return p, err
}

func (p Placeholder) possible() bool {
	switch p.Form {
	case Directory:
		return p.Query == "" && p.Absence != Default
	case File:
		return p.Query == "" || IsFileName(p.Query)
	default:
		return true
	}
}

// without reads what is to happen without a value.
func (p Placeholder) without(rest string) (Placeholder, error) {
	text, isDefault := strings.CutPrefix(rest, defaultTo)
	switch {
	case rest == "":
	case rest == optional:
		p.Absence = Omit
	case isDefault && !In(text) && !strings.ContainsAny(text, "<>"):
		p.Absence, p.Default = Default, text
	case rest[0] == ';':
		return Placeholder{}, ErrModifier
	default:
		return Placeholder{}, ErrMalformed
	}
	return p, nil
}

// isName goes by what the API server takes: labels of letters, digits and inner
// hyphens, with dots between.
func isName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || !all(label, isNameByte) {
			return false
		}
	}
	return true
}

func isQuery(s string) bool { return s != "" && len(s) <= maxQuery && all(s, isQueryByte) }

func all(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-'
}

func isQueryByte(c byte) bool {
	return isNameByte(c) || 'A' <= c && c <= 'Z' || c == '_' || c == '.'
}

// Whole returns the placeholder that the text is from its first byte to its last.
func (t Text) Whole() (Placeholder, bool) {
	if !t.whole {
		return Placeholder{}, false
	}
	return *t.pieces[0].placeholder, true
}

// Placeholders lists them in their order.
func (t Text) Placeholders() []Placeholder {
	var list []Placeholder
	for _, p := range t.pieces {
		if p.placeholder != nil {
			list = append(list, *p.placeholder)
		}
	}
	return list
}

// Fill is the text with what value gives for each placeholder in its place.
func (t Text) Fill(value func(Placeholder) string) string {
	var b strings.Builder
	for _, p := range t.pieces {
		if p.placeholder == nil {
			b.WriteString(p.plain)
			continue
		}
		b.WriteString(value(*p.placeholder))
	}
	return b.String()
}
