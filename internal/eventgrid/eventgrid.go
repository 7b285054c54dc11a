// SPDX-License-Identifier: Apache-2.0

// Package eventgrid reads what Azure Event Grid puts into a Storage queue about
// vaults, in either of its schemas.
//
// A message is a hint and never more: whoever may write to the queue may write
// anything. So nothing is taken from it but which object to look at again, and that
// from one field. Start at Parse.
package eventgrid

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Event is what happened.
type Event string

// The events that concern us. There is none for a deletion, for what is enabled or
// disabled, or for tags and dates that changed.
const (
	NewVersion    Event = "NewVersion"
	NearExpiry    Event = "NearExpiry"
	Expired       Event = "Expired"
	PolicyChanged Event = "PolicyChanged" // who may do what in a vault
)

// Notice says that something happened to an object, or to a whole vault.
type Notice struct {
	Event Event
	Vault string // the vault's name in lower case, never a host
	// Kind and Name are the object's, the name as it was written: the vault takes
	// names in any case. Both are empty for PolicyChanged. Azure does not say whether
	// a certificate's secret and key, which have its name, get notices of their own.
	Kind vault.Kind
	Name string
	// Time is when it happened by Azure's clock; zero when the message does not say.
	Time time.Time
}

// ErrPoison is a message, or an event in one, that will not be understood at the
// next attempt either. Errors that wrap it say why, without a word of the message.
var ErrPoison = errors.New("the message is not an event that can be understood")

// The bounds of a message. A queue takes 64 KiB, and Event Grid's own events nest
// three deep.
const (
	maxBytes  = 64 << 10
	maxDepth  = 16
	maxEvents = 256
)

// Parse reads one message: base64 or JSON, one event or an array of them, in the
// schema of Event Grid or CloudEvents 1.0. suffix is where the vaults are, such as
// vault.azure.net. Events of other services and of types that we do not know are
// left out silently. Notices that were understood are returned even when others
// were not; the error is then an ErrPoison for the rest.
func Parse(message []byte, suffix string) ([]Notice, error) {
	events, err := split(message)
	if err != nil {
		return nil, err
	}
	var notices []Notice
	var errs []error
	for _, raw := range events {
		notice, concerned, err := parseEvent(raw, suffix)
		switch {
		case err != nil && !slices.ContainsFunc(errs, func(e error) bool { return e.Error() == err.Error() }):
			errs = append(errs, err)
		case concerned:
			notices = append(notices, notice)
		}
	}
	return notices, errors.Join(errs...)
}

func poison(why string) error { return fmt.Errorf("%w: %s", ErrPoison, why) }

// split takes the wrapping off and returns the events inside.
func split(message []byte) ([]json.RawMessage, error) {
	if len(message) > maxBytes {
		return nil, poison("it is larger than a queue's messages are")
	}
	text := strings.TrimSpace(string(message))
	if text != "" && text[0] != '{' && text[0] != '[' {
		decoded, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, poison("it is neither JSON nor base64")
		}
		text = strings.TrimSpace(strings.TrimPrefix(string(decoded), "\ufeff"))
	}
	switch {
	case text == "":
		return nil, poison("it is empty")
	case depth(text) > maxDepth:
		return nil, poison("it is nested too deeply")
	case text[0] != '[':
		return []json.RawMessage{json.RawMessage(text)}, nil
	}
	var events []json.RawMessage
	if json.Unmarshal([]byte(text), &events) != nil {
		return nil, poison("it is not valid JSON")
	}
	if len(events) > maxEvents {
		return nil, poison("it holds too many events")
	}
	return events, nil
}

// depth is how deep a JSON text nests, before anything walks down there. What is
// not JSON gets some number.
func depth(text string) int {
	now, most, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			most = max(most, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return most
}

// fields are an object's, by name in lower case and without blanks: the documented
// sample of an event and real ones differ in both.
type fields map[string]json.RawMessage

func parseFields(raw json.RawMessage) (fields, error) {
	var given map[string]json.RawMessage
	if json.Unmarshal(raw, &given) != nil || given == nil {
		return nil, poison("it is not a JSON object")
	}
	out := fields{}
	for name, value := range given {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, taken := out[name]; taken {
			return nil, poison("a field is there twice")
		}
		out[name] = value
	}
	return out, nil
}

// text is a field's, and empty for one that is missing or not a string.
func (f fields) text(name string) string {
	var out string
	if json.Unmarshal(f[name], &out) != nil {
		return ""
	}
	return strings.TrimSpace(out)
}

// envelope is what we use of an event in either schema.
type envelope struct {
	kind, source string
	time         time.Time
	data         json.RawMessage
}

func parseEnvelope(raw json.RawMessage) (envelope, error) {
	f, err := parseFields(raw)
	if err != nil {
		return envelope{}, err
	}
	names := struct{ kind, source, time string }{"eventtype", "topic", "eventtime"}
	if _, is := f["specversion"]; is {
		if f.text("specversion") != "1.0" {
			return envelope{}, poison("it has a version of CloudEvents other than 1.0")
		}
		names.kind, names.source, names.time = "type", "source", "time"
	}
	out := envelope{kind: f.text(names.kind), source: f.text(names.source), data: f["data"]}
	if out.kind == "" {
		return envelope{}, poison("it has no event type")
	}
	// A time that cannot be read is worth no message.
	out.time, _ = time.Parse(time.RFC3339, f.text(names.time))
	return out, nil
}

const prefix = "microsoft.keyvault."

// events are the types that concern us, without the prefix and in lower case.
var events = map[string]Event{
	"secretnewversioncreated": NewVersion, "secretnearexpiry": NearExpiry, "secretexpired": Expired,
	"certificatenewversioncreated": NewVersion, "certificatenearexpiry": NearExpiry, "certificateexpired": Expired,
	"keynewversioncreated": NewVersion, "keynearexpiry": NearExpiry, "keyexpired": Expired,
	"vaultaccesspolicychanged": PolicyChanged,
}

// parseEvent also reports whether the event concerns us at all.
func parseEvent(raw json.RawMessage, suffix string) (Notice, bool, error) {
	e, err := parseEnvelope(raw)
	if err != nil {
		return Notice{}, false, err
	}
	name, ours := strings.CutPrefix(strings.ToLower(e.kind), prefix)
	event, known := events[name]
	if !ours || !known {
		return Notice{}, false, nil
	}
	notice := Notice{Event: event, Time: e.time}
	data, err := parseFields(e.data)
	switch {
	case err != nil:
		return Notice{}, false, poison("it has no data")
	case event == PolicyChanged:
		notice.Vault, err = parseVault(data.text("id"), e.source, suffix)
	default:
		err = notice.parseID(data.text("id"), suffix)
	}
	return notice, err == nil, err
}

var (
	vaultPattern   = regexp.MustCompile(`\A[a-z0-9-]{3,24}\z`)
	objectPattern  = regexp.MustCompile(`\A[0-9A-Za-z-]{1,127}\z`)
	versionPattern = regexp.MustCompile(`\A[0-9A-Fa-f]{32}\z`)
)

var collections = map[string]vault.Kind{
	"secrets": vault.KindSecret, "certificates": vault.KindCertificate, "keys": vault.KindKey,
}

// parseID reads https://VAULT.SUFFIX/COLLECTION/NAME/VERSION, the version optional.
func (n *Notice) parseID(id, suffix string) error {
	name, path, err := cutVault(id, suffix)
	if err != nil {
		return err
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) != 2 && len(parts) != 3 {
		return poison("the id of its data names no object")
	}
	kind, known := collections[strings.ToLower(parts[0])]
	switch {
	case !known:
		return poison("the id of its data is in no collection of a vault")
	case !objectPattern.MatchString(parts[1]), len(parts) == 3 && !versionPattern.MatchString(parts[2]):
		return poison("the id of its data names no object")
	}
	n.Vault, n.Kind, n.Name = name, kind, parts[1]
	return nil
}

// cutVault takes the vault's name off a URL, if it is where our vaults are.
func cutVault(id, suffix string) (string, string, error) {
	u, err := url.Parse(id)
	if err != nil || !strings.EqualFold(u.Scheme, "https") || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", poison("the id of its data is not an address in a vault")
	}
	host := strings.TrimSuffix(strings.ToLower(u.Host), ":443")
	name, below := strings.CutSuffix(host, "."+strings.TrimSuffix(strings.ToLower(suffix), ":443"))
	if !below || !vaultPattern.MatchString(name) {
		return "", "", poison("the id of its data is in no vault of this cloud")
	}
	return name, u.EscapedPath(), nil
}

var resourcePattern = regexp.MustCompile(`(?i)\A/subscriptions/[^/]{1,64}/resourcegroups/[^/]{1,128}/providers/microsoft\.keyvault/vaults/([a-z0-9-]{3,24})\z`)

// parseVault finds the vault whose policy changed. No object has an id then, so that
// the vault's own resource id will do, as Event Grid itself names the source.
func parseVault(id, source, suffix string) (string, error) {
	for _, candidate := range []string{id, source} {
		if found := resourcePattern.FindStringSubmatch(candidate); found != nil {
			return strings.ToLower(found[1]), nil
		}
		if name, _, err := cutVault(candidate, suffix); err == nil {
			return name, nil
		}
	}
	return "", poison("it names no vault of this cloud")
}
