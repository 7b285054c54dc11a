// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// Claim is whom a token says that it speaks for. Nobody has confirmed it: a log may
// name it as claimed, and nothing is ever granted to it.
type Claim struct {
	Namespace      string
	ServiceAccount string
	Pod            string
	UID            string
}

// maxTokenBytes is far above a service account's token, which has about 1 KiB.
const maxTokenBytes = 16 << 10

// lateness is for how long after its end a token is left to the API server: that
// allows one minute for clocks that differ, and its clock may differ from ours.
const lateness = 2 * time.Minute

// Screen finds tokens that cannot be valid ones of a pod for the broker, so that
// strangers cost the API server nothing. It returns RuleNone where only the API
// server can tell. No signature is looked at: Screen may refuse, never grant.
func Screen(token string, now time.Time) (Claim, Rule) {
	c, ok := claimsOf(token)
	if !ok {
		return Claim{}, RuleTokenMalformed
	}
	claim := c.claim()
	for _, refusal := range screens {
		if refusal.holds(c, claim, now) {
			return claim.printable(), refusal.rule
		}
	}
	return claim, RuleNone
}

var screens = []struct {
	rule  Rule
	holds func(c claims, claim Claim, now time.Time) bool
}{
	{RuleTokenMalformed, func(c claims, _ Claim, _ time.Time) bool { return !isIssuer(c.Issuer) || c.Expires <= 0 }},
	{RuleTokenAudience, func(c claims, _ Claim, _ time.Time) bool { return !slices.Contains(c.Audience, brokerapi.Audience) }},
	{RuleTokenUnbound, func(_ claims, claim Claim, _ time.Time) bool { return claim != claim.printable() || claim.incomplete() }},
	{RuleTokenExpired, func(c claims, _ Claim, now time.Time) bool {
		return float64(now.Add(-lateness).Unix()) > c.Expires
	}},
}

// claims are those that the API server writes into a token that is bound to a pod.
type claims struct {
	Issuer     string   `json:"iss"`
	Audience   audience `json:"aud"`
	Expires    float64  `json:"exp"` // Unix time
	Kubernetes struct {
		Namespace      string `json:"namespace"`
		Pod            object `json:"pod"`
		ServiceAccount object `json:"serviceaccount"`
	} `json:"kubernetes.io"` //nolint:tagliatelle // the name is Kubernetes'
}

type object struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// audience is one text or several (RFC 7519 section 4.1.3).
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a))
}

// claimsOf takes a signed JWT in its compact form apart (RFC 7515 section 7.1).
func claimsOf(token string) (claims, bool) {
	parts := strings.Split(token, ".")
	if len(token) > maxTokenBytes || len(parts) != 3 || parts[2] == "" {
		return claims{}, false
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	var c claims
	ok := part(parts[0], &header) && part(parts[1], &c) && header.Algorithm != "" && !strings.EqualFold(header.Algorithm, "none")
	if _, err := base64.RawURLEncoding.DecodeString(parts[2]); err != nil {
		return claims{}, false
	}
	return c, ok
}

func part(text string, into any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && json.Unmarshal(raw, into) == nil
}

// isIssuer holds for what an API server takes for --service-account-issuer.
func isIssuer(text string) bool {
	_, err := url.Parse(text)
	return text != "" && (err == nil || !strings.Contains(text, ":"))
}

func (c claims) claim() Claim {
	k := c.Kubernetes
	return Claim{Namespace: k.Namespace, ServiceAccount: k.ServiceAccount.Name, Pod: k.Pod.Name, UID: k.Pod.UID}
}

func (c Claim) incomplete() bool {
	return c.Namespace == "" || c.ServiceAccount == "" || c.Pod == "" || c.UID == ""
}

// An identifier has the characters and length of names and UIDs in Kubernetes.
var identifier = regexp.MustCompile(`\A[-.0-9A-Za-z]{1,253}\z`)

// printable is the claim without whatever is no name: a stranger must not write
// texts into the log.
func (c Claim) printable() Claim {
	for _, field := range []*string{&c.Namespace, &c.ServiceAccount, &c.Pod, &c.UID} {
		if !identifier.MatchString(*field) {
			*field = ""
		}
	}
	return c
}
