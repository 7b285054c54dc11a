// SPDX-License-Identifier: Apache-2.0

package eventgrid_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/akv2k8s/akv2k8s/internal/eventgrid"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

const (
	suffix  = "vault.azure.net"
	id      = "https://sample-kv.vault.azure.net/secrets/newsecret/ee059b2bb5bc48398a53b168c6cdcb10"
	topic   = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/sample-kv"
	created = "Microsoft.KeyVault.SecretNewVersionCreated"
	canary  = "CANARY"
)

// live is what arrives; documented is the sample in the documentation, blank included.
const (
	live = `[{"id":"00eccf70-95a7-4e7c-8299-2eb17ee9ad64","topic":"` + topic + `","subject":"newsecret",
		"eventType":"` + created + `","eventTime":"2026-07-25T01:08:33.1036736Z",
		"data":{"Id":"` + id + `","VaultName":"sample-kv","ObjectType":"Secret","ObjectName":"newsecret",
		"Version":"ee059b2bb5bc48398a53b168c6cdcb10","NBF":null,"EXP":1559081980},"dataVersion":"1","metadataVersion":"1"}]`
	documented = `[{"id":"00eccf70-95a7-4e7c-8299-2eb17ee9ad64","topic":"` + topic + `","subject":"newsecret",
		"eventType":"` + created + `","eventTime":"2026-07-25T01:08:33.1036736Z",
		"data":{"id":"` + id + `","vaultName":"sample-kv","objectType":"Secret","objectName ":"newsecret",
		"version":"ee059b2bb5bc48398a53b168c6cdcb10","nbf":"1559081980","exp":"1559082102"},"dataVersion":"1","metadataVersion":"1"}]`
	cloud = `{"id":"00eccf70-95a7-4e7c-8299-2eb17ee9ad64","source":"` + topic + `","subject":"newsecret",
		"type":"` + created + `","time":"2026-07-25T01:08:33.1036736Z","specversion":"1.0",
		"data":{"Id":"` + id + `","VaultName":"sample-kv","ObjectType":"Secret","ObjectName":"newsecret",
		"Version":"ee059b2bb5bc48398a53b168c6cdcb10","NBF":null,"EXP":null}}`
)

var when = time.Date(2026, 7, 25, 1, 8, 33, 103673600, time.UTC)

func newSecret() eventgrid.Notice {
	return eventgrid.Notice{Event: eventgrid.NewVersion, Vault: "sample-kv", Kind: vault.KindSecret, Name: "newsecret", Time: when}
}

// event is one without a time, in the schema of Event Grid.
func event(kind, id string) string {
	raw, _ := json.Marshal(map[string]any{"eventType": kind, "topic": topic, "data": map[string]any{"Id": id}})
	return string(raw)
}

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func TestParse(t *testing.T) {
	t.Parallel()
	at := func(event eventgrid.Event, kind vault.Kind, name string) []eventgrid.Notice {
		return []eventgrid.Notice{{Event: event, Vault: "sample-kv", Kind: kind, Name: name}}
	}
	const base = "https://sample-kv.vault.azure.net"
	for name, tc := range map[string]struct {
		message string
		want    []eventgrid.Notice
	}{
		"Live":                   {live, []eventgrid.Notice{newSecret()}},
		"LiveInBase64":           {encode(live), []eventgrid.Notice{newSecret()}},
		"LinesAroundBase64":      {"\n" + encode(live) + "\r\n", []eventgrid.Notice{newSecret()}},
		"AlsoAfterAMark":         {encode("\ufeff" + live), []eventgrid.Notice{newSecret()}},
		"Documented":             {documented, []eventgrid.Notice{newSecret()}},
		"CloudEvent":             {cloud, []eventgrid.Notice{newSecret()}},
		"CloudEventInBase64":     {encode(cloud), []eventgrid.Notice{newSecret()}},
		"BatchOfCloudEvents":     {"[" + cloud + "," + cloud + "]", []eventgrid.Notice{newSecret(), newSecret()}},
		"BothSchemasInOne":       {"[" + cloud + "," + event("Microsoft.KeyVault.KeyExpired", base+"/keys/k") + "]", append([]eventgrid.Notice{newSecret()}, at(eventgrid.Expired, vault.KindKey, "k")...)},
		"NoEvent":                {"[]", nil},
		"SecretNearExpiry":       {event("Microsoft.KeyVault.SecretNearExpiry", id), at(eventgrid.NearExpiry, vault.KindSecret, "newsecret")},
		"SecretExpired":          {event("Microsoft.KeyVault.SecretExpired", id), at(eventgrid.Expired, vault.KindSecret, "newsecret")},
		"CertificateNewVersion":  {event("Microsoft.KeyVault.CertificateNewVersionCreated", base+"/certificates/c/ee059b2bb5bc48398a53b168c6cdcb10"), at(eventgrid.NewVersion, vault.KindCertificate, "c")},
		"CertificateNearExpiry":  {event("Microsoft.KeyVault.CertificateNearExpiry", base+"/certificates/c"), at(eventgrid.NearExpiry, vault.KindCertificate, "c")},
		"CertificateExpired":     {event("Microsoft.KeyVault.CertificateExpired", base+"/certificates/c"), at(eventgrid.Expired, vault.KindCertificate, "c")},
		"KeyNewVersion":          {event("Microsoft.KeyVault.KeyNewVersionCreated", base+"/keys/k"), at(eventgrid.NewVersion, vault.KindKey, "k")},
		"KeyNearExpiry":          {event("Microsoft.KeyVault.KeyNearExpiry", base+"/keys/k"), at(eventgrid.NearExpiry, vault.KindKey, "k")},
		"IDBeatsType":            {event(created, base+"/keys/k"), at(eventgrid.NewVersion, vault.KindKey, "k")},
		"AnyCase":                {event(strings.ToUpper(created), "HTTPS://Sample-KV.Vault.Azure.Net/Secrets/NewSecret/"), at(eventgrid.NewVersion, vault.KindSecret, "NewSecret")},
		"ExplicitPort":           {event(created, "https://sample-kv.vault.azure.net:443/secrets/a"), at(eventgrid.NewVersion, vault.KindSecret, "a")},
		"PolicyByAddress":        {event("Microsoft.KeyVault.VaultAccessPolicyChanged", base+"/"), at(eventgrid.PolicyChanged, "", "")},
		"PolicyByResource":       {event("Microsoft.KeyVault.VaultAccessPolicyChanged", topic), at(eventgrid.PolicyChanged, "", "")},
		"PolicyByTopic":          {event("Microsoft.KeyVault.VaultAccessPolicyChanged", ""), at(eventgrid.PolicyChanged, "", "")},
		"SubscriptionValidation": {`[{"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationCode":"512d38b6"}}]`, nil},
		"AnotherService":         {event("Microsoft.Storage.BlobCreated", "x"), nil},
		"AnotherServiceNoData":   {`{"specversion":"1.0","type":"com.example.thing","source":"x","id":"1"}`, nil},
		"TypeOfTheFuture":        {event("Microsoft.KeyVault.SecretDeleted", id), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := eventgrid.Parse([]byte(tc.message), suffix)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPoison(t *testing.T) {
	t.Parallel()
	for name, message := range map[string]string{
		"Empty":            "",
		"Blank":            " \n",
		"Text":             canary + " is no base64!",
		"BinaryInBase64":   encode("\x00\xff" + canary),
		"NothingInBase64":  encode(" "),
		"TwiceInBase64":    encode(encode(live)),
		"Truncated":        live[:len(live)-2],
		"TwoTexts":         live + live,
		"Number":           encode("17"),
		"ArrayOfStrings":   `["` + canary + `"]`,
		"Null":             "[null]",
		"NoType":           `{"data":{"Id":"` + id + `"}}`,
		"TypeIsNoString":   `{"eventType":{"` + canary + `":1},"data":{"Id":"` + id + `"}}`,
		"OldCloudEvent":    strings.Replace(cloud, `"1.0"`, `"0.3"`, 1),
		"NoData":           `{"eventType":"` + created + `"}`,
		"DataIsNull":       `{"eventType":"` + created + `","data":null}`,
		"DataIsText":       `{"eventType":"` + created + `","data":"` + canary + `"}`,
		"NoID":             event(created, ""),
		"IDTwice":          `{"eventType":"` + created + `","data":{"Id":"` + id + `","id":"` + id + `"}}`,
		"PlainHTTP":        event(created, strings.Replace(id, "https", "http", 1)),
		"AnotherCloud":     event(created, "https://sample-kv.vault.azure.cn/secrets/a"),
		"AnotherHost":      event(created, "https://sample-kv.vault.azure.net.example.com/secrets/a"),
		"AnotherPort":      event(created, "https://sample-kv.vault.azure.net:8443/secrets/a"),
		"UserBeforeHost":   event(created, "https://x.vault.azure.net@example.com/secrets/a"),
		"TwoLabels":        event(created, "https://a.sample-kv.vault.azure.net/secrets/a"),
		"OnlyTheSuffix":    event(created, "https://vault.azure.net/secrets/a"),
		"VaultNameTooLong": event(created, "https://"+strings.Repeat("a", 25)+".vault.azure.net/secrets/a"),
		"Collection":       event(created, "https://sample-kv.vault.azure.net/storage/a"),
		"NoObject":         event(created, "https://sample-kv.vault.azure.net/secrets"),
		"DeeperPath":       event(created, id+"/"+canary),
		"ObjectName":       event(created, "https://sample-kv.vault.azure.net/secrets/a_b"),
		"EscapedName":      event(created, "https://sample-kv.vault.azure.net/secrets/a%2Fb"),
		"Dots":             event(created, "https://sample-kv.vault.azure.net/secrets/.."),
		"NameTooLong":      event(created, "https://sample-kv.vault.azure.net/secrets/"+strings.Repeat("a", 128)),
		"Version":          event(created, "https://sample-kv.vault.azure.net/secrets/a/"+canary),
		"Query":            event(created, id+"?"+canary),
		"Fragment":         event(created, id+"#"+canary),
		"PolicyOfNobody":   `{"eventType":"Microsoft.KeyVault.VaultAccessPolicyChanged","topic":"` + canary + `","data":{}}`,
		"TooLarge":         `[` + strings.Repeat(" ", 64<<10) + `]`,
		"TooDeep":          strings.Repeat("[", 17) + strings.Repeat("]", 17),
		"MuchTooDeep":      strings.Repeat(`{"a":`, 10_000),
		"TooMany":          "[" + strings.TrimSuffix(strings.Repeat("{},", 257), ",") + "]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := eventgrid.Parse([]byte(message), suffix)
			if !errors.Is(err, eventgrid.ErrPoison) {
				t.Fatalf("got %v, want ErrPoison", err)
			}
			if len(got) != 0 {
				t.Errorf("got notices %v", got)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error quotes the message: %v", err)
			}
		})
	}
}

// One bad event does not take the good ones with it, and the same reason is said once.
func TestGoodAmongBad(t *testing.T) {
	t.Parallel()
	got, err := eventgrid.Parse([]byte("["+event(created, "")+","+cloud+","+event(created, "")+"]"), suffix)
	if !errors.Is(err, eventgrid.ErrPoison) || strings.Count(err.Error(), "\n") != 0 {
		t.Errorf("got error %v", err)
	}
	if diff := cmp.Diff([]eventgrid.Notice{newSecret()}, got); diff != "" {
		t.Error(diff)
	}
}

func TestDevelopmentSuffix(t *testing.T) {
	t.Parallel()
	got, err := eventgrid.Parse([]byte(event(created, "https://kv1.vault.localhost:8443/secrets/a")), "vault.localhost:8443")
	if err != nil || len(got) != 1 || got[0].Vault != "kv1" {
		t.Errorf("got %v, %v", got, err)
	}
}

// What is written in any spelling that real senders use means the same.
func TestSpellings(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		respell := func(name string) string {
			blank := rapid.SampledFrom([]string{"", " ", "\t"})
			change := rapid.SampledFrom([]func(string) string{strings.ToLower, strings.ToUpper, func(s string) string { return s }})
			return blank.Draw(t, "before") + change.Draw(t, "case")(name) + blank.Draw(t, "after")
		}
		date := rapid.SampledFrom([]any{nil, "1559081980", 1559081980, 1.5e9, "", true, map[string]any{}})
		data := map[string]any{respell("Id"): id, respell("NBF"): date.Draw(t, "nbf"), respell("EXP"): date.Draw(t, "exp")}
		raw, err := json.Marshal(map[string]any{
			respell("eventType"): created, respell("eventTime"): when.Format(time.RFC3339Nano), respell("data"): data,
		})
		if err != nil {
			t.Fatal(err)
		}
		message := string(raw)
		if rapid.Bool().Draw(t, "array") {
			message = "[" + message + "]"
		}
		if rapid.Bool().Draw(t, "base64") {
			message = encode(message)
		}
		got, err := eventgrid.Parse([]byte(message), suffix)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]eventgrid.Notice{newSecret()}, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// check holds for whatever anybody puts into a queue.
func check(tb testing.TB, message []byte) {
	tb.Helper()
	got, err := eventgrid.Parse(message, suffix)
	if err != nil && !errors.Is(err, eventgrid.ErrPoison) {
		tb.Errorf("the error is no ErrPoison: %v", err)
	}
	kinds := []vault.Kind{vault.KindSecret, vault.KindCertificate, vault.KindKey}
	for _, n := range got {
		whole := n.Event == eventgrid.PolicyChanged
		if n.Vault != strings.ToLower(n.Vault) || strings.ContainsAny(n.Vault+n.Name, "/.:@%") || n.Vault == "" || (n.Name == "") != whole {
			tb.Errorf("names were let through: %+v", n)
		}
		if slices.Contains(kinds, n.Kind) == whole {
			tb.Errorf("the kind does not fit: %+v", n)
		}
	}
	again, err2 := eventgrid.Parse(message, suffix)
	if diff := cmp.Diff(got, again); diff != "" || fmt.Sprint(err) != fmt.Sprint(err2) {
		tb.Errorf("read twice, understood differently: %s", diff)
	}
}

func TestNeverPanics(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		check(t, rapid.SliceOf(rapid.Byte()).Draw(r, "message"))
	})
}

func FuzzParse(f *testing.F) {
	seeds := map[string]string{"live": live, "documented": documented, "cloud": cloud, "base64": encode(live), "policy": event("Microsoft.KeyVault.VaultAccessPolicyChanged", topic)}
	for _, name := range slices.Sorted(maps.Keys(seeds)) {
		f.Add([]byte(seeds[name]))
	}
	f.Add([]byte(strings.Repeat("[", 100)))
	f.Add([]byte(`{"eventType":"` + created + `","data":{"Id":"https://a%2e.vault.azure.net/secrets/%2e%2e"}}`))
	f.Fuzz(func(t *testing.T, message []byte) { check(t, message) })
}
