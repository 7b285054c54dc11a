// SPDX-License-Identifier: Apache-2.0

package grant_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/grant"
)

type fields = map[string]any

// claims are those of a token as the API server makes it, from now on.
func claims(change ...func(fields)) fields {
	c := fields{
		"iss": "https://kubernetes.default.svc.cluster.local", "sub": "system:serviceaccount:team:account",
		"aud": []string{brokerapi.Audience},
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Unix() + brokerapi.TokenSeconds, "jti": "9ed4cd12-7d1a-4ca5-9f46-1b2e5a0ba9f7",
		"kubernetes.io": fields{
			"namespace": "team", "node": fields{"name": "node", "uid": "node-uid"},
			"pod": fields{"name": "web", "uid": "uid"}, "serviceaccount": fields{"name": "account", "uid": "account-uid"},
		},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

// jwt is a token whose signature nobody made.
func jwt(header any, claims any) string {
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return part(header) + "." + part(claims) + ".c2lnbmF0dXJl"
}

var rs256 = fields{"alg": "RS256", "kid": "k"}

func with(name string, value any) func(fields) { return func(c fields) { c[name] = value } }

func within(name string, value any) func(fields) {
	return func(c fields) { c["kubernetes.io"].(fields)[name] = value }
}

var theirs = grant.Claim{Namespace: "team", ServiceAccount: "account", Pod: "web", UID: "uid"}

// What could be valid is left to the API server.
func TestScreenPasses(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{
		"AsItIsMade":     jwt(rs256, claims()),
		"OneAudience":    jwt(rs256, claims(with("aud", brokerapi.Audience))),
		"OneOfAudiences": jwt(rs256, claims(with("aud", []string{"else", brokerapi.Audience}))),
		"IssuerNoURL":    jwt(rs256, claims(with("iss", "kubernetes/serviceaccount"))),
		"NotYetBegun":    jwt(rs256, claims(with("nbf", now.Unix()+3600))), // clocks are the API server's affair
		"JustOver":       jwt(rs256, claims(with("exp", now.Add(-2*time.Minute).Unix()))),
		"FractionalEnd":  jwt(rs256, claims(with("exp", float64(now.Unix())+0.5))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if claim, rule := grant.Screen(token, now); rule != grant.RuleNone || claim != theirs {
				t.Errorf("Screen() = %+v, %s", claim, rule)
			}
		})
	}
}

func TestScreenRefuses(t *testing.T) {
	t.Parallel()
	good := jwt(rs256, claims())
	head, rest, _ := strings.Cut(good, ".")
	body, _, _ := strings.Cut(rest, ".")
	text := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	const line = "x\nlevel=INFO"
	for name, tc := range map[string]struct {
		token string
		want  grant.Rule
		claim grant.Claim
	}{
		"Empty":           {"", grant.RuleTokenMalformed, grant.Claim{}},
		"Opaque":          {"abc", grant.RuleTokenMalformed, grant.Claim{}},
		"TwoParts":        {head + "." + body, grant.RuleTokenMalformed, grant.Claim{}},
		"FourParts":       {good + ".x", grant.RuleTokenMalformed, grant.Claim{}},
		"NotSigned":       {head + "." + body + ".", grant.RuleTokenMalformed, grant.Claim{}},
		"NoBase64":        {head + "." + body + ".=", grant.RuleTokenMalformed, grant.Claim{}},
		"NoJSON":          {head + "." + text("x") + ".eA", grant.RuleTokenMalformed, grant.Claim{}},
		"TwoDocuments":    {head + "." + text("{}{}") + ".eA", grant.RuleTokenMalformed, grant.Claim{}},
		"HeaderNoJSON":    {text("x") + "." + body + ".eA", grant.RuleTokenMalformed, grant.Claim{}},
		"NoAlgorithm":     {jwt(fields{}, claims()), grant.RuleTokenMalformed, grant.Claim{}},
		"AlgorithmNone":   {jwt(fields{"alg": "None"}, claims()), grant.RuleTokenMalformed, grant.Claim{}},
		"TooLong":         {jwt(rs256, claims(with("x", strings.Repeat("x", 16<<10)))), grant.RuleTokenMalformed, grant.Claim{}},
		"NoIssuer":        {jwt(rs256, claims(with("iss", ""))), grant.RuleTokenMalformed, theirs},
		"IssuerNoAddress": {jwt(rs256, claims(with("iss", "a b:c"))), grant.RuleTokenMalformed, theirs},
		"NoEnd":           {jwt(rs256, claims(with("exp", nil))), grant.RuleTokenMalformed, theirs},
		"EndIsText":       {jwt(rs256, claims(with("exp", "never"))), grant.RuleTokenMalformed, grant.Claim{}},
		"NoAudience":      {jwt(rs256, claims(with("aud", nil))), grant.RuleTokenAudience, theirs},
		"APIServer":       {jwt(rs256, claims(with("aud", []string{"https://kubernetes.default.svc"}))), grant.RuleTokenAudience, theirs},
		"AlmostAudience":  {jwt(rs256, claims(with("aud", brokerapi.Audience+" "))), grant.RuleTokenAudience, theirs},
		"NotBound":        {jwt(rs256, claims(within("pod", nil))), grant.RuleTokenUnbound, grant.Claim{Namespace: "team", ServiceAccount: "account"}},
		"BoundToSecret":   {jwt(rs256, claims(within("pod", nil), within("secret", fields{"name": "s", "uid": "u"}))), grant.RuleTokenUnbound, grant.Claim{Namespace: "team", ServiceAccount: "account"}},
		"NotKubernetes":   {jwt(rs256, claims(with("kubernetes.io", nil))), grant.RuleTokenUnbound, grant.Claim{}},
		"NoUID":           {jwt(rs256, claims(within("pod", fields{"name": "web"}))), grant.RuleTokenUnbound, grant.Claim{Namespace: "team", ServiceAccount: "account", Pod: "web"}},
		"NamesNobodyHas":  {jwt(rs256, claims(within("namespace", line))), grant.RuleTokenUnbound, grant.Claim{ServiceAccount: "account", Pod: "web", UID: "uid"}},
		"AndOtherwise":    {jwt(rs256, claims(within("namespace", line), with("aud", "x"))), grant.RuleTokenAudience, grant.Claim{ServiceAccount: "account", Pod: "web", UID: "uid"}},
		"Expired":         {jwt(rs256, claims(with("exp", now.Add(-2*time.Minute).Unix()-1))), grant.RuleTokenExpired, theirs},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claim, rule := grant.Screen(tc.token, now)
			if rule != tc.want || claim != tc.claim {
				t.Errorf("Screen() = %+v, %s", claim, rule)
			}
			if s := rule.Sentence(); s == grant.RuleNone.Sentence() {
				t.Errorf("%s has no sentence of its own", rule)
			}
		})
	}
}

// Whatever a token says, it is refused, or says who it claims to be in words that a
// log can hold.
func FuzzScreen(f *testing.F) {
	f.Add(`{"alg":"RS256"}`, `{}`, "x")
	for _, c := range []fields{claims(), claims(with("aud", "x")), claims(within("pod", nil)), claims(with("exp", 1e300))} {
		text, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(`{"alg":"RS256"}`, string(text), "x")
		f.Add(`{"alg":"none"}`, string(text), "")
	}
	f.Fuzz(func(t *testing.T, header, body, signature string) {
		encode := base64.RawURLEncoding.EncodeToString
		for _, token := range []string{encode([]byte(header)) + "." + encode([]byte(body)) + "." + encode([]byte(signature)), body} {
			claim, rule := grant.Screen(token, now)
			for _, name := range []string{claim.Namespace, claim.ServiceAccount, claim.Pod, claim.UID} {
				if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) || len(name) > 253 || rule == grant.RuleNone && name == "" {
					t.Errorf("%s with the name %q", rule, name)
				}
			}
		}
	})
}
