// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

var errBadMarker = errors.New("a skip token without a marker")

// bundle renders one version of an object in full; item renders it for a list.
func bundle(c *call, o *object, v *version) any {
	switch c.route.kind {
	case secrets:
		return c.vault.secretBundle(o, v, false)
	case keys:
		return c.vault.keyBundle(o, v)
	default:
		return c.vault.certificateBundle(o, v)
	}
}

func item(c *call, o *object, v *version, id string) any {
	switch c.route.kind {
	case secrets:
		return c.vault.secretItem(o, v, id)
	case keys:
		return c.vault.keyItem(o, v, id)
	default:
		return c.vault.certificateItem(o, v, id)
	}
}

func remove(c *call) (*reply, *failure) {
	o, bad := c.vault.remove(c.route.kind, c.name)
	if bad != nil {
		return nil, bad
	}
	return ok(bundle(c, o, o.latest())), nil
}

func getDeleted(c *call) (*reply, *failure) {
	o, bad := c.vault.deletedObject(c.route.kind, c.name)
	if bad != nil {
		return nil, bad
	}
	return ok(bundle(c, o, o.latest())), nil
}

func recoverDeleted(c *call) (*reply, *failure) {
	o, bad := c.vault.recover(c.route.kind, c.name)
	if bad != nil {
		return nil, bad
	}
	return ok(bundle(c, o, o.latest())), nil
}

func purge(c *call) (*reply, *failure) {
	if bad := c.vault.purge(c.route.kind, c.name); bad != nil {
		return nil, bad
	}
	return &reply{status: http.StatusNoContent}, nil
}

func backUp(c *call) (*reply, *failure) {
	token, bad := c.vault.backup(c.route.kind, c.name)
	if bad != nil {
		return nil, bad
	}
	return ok(map[string]string{"value": base64.RawURLEncoding.EncodeToString(token)}), nil
}

func restore(c *call) (*reply, *failure) {
	var in struct{ Value string }
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	token, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(in.Value, "="))
	if err != nil {
		return nil, badParameter("The backup blob is not base64url.")
	}
	o, bad := c.vault.restore(c.route.kind, token)
	if bad != nil {
		return nil, bad
	}
	return ok(bundle(c, o, o.latest())), nil
}

// page is one page of a list.
type page struct {
	Value    []any   `json:"value"`
	NextLink *string `json:"nextLink"`
}

func listLive(c *call) (*reply, *failure) {
	return listObjects(c, c.vault.shelves[c.route.kind].live)
}

func listDeleted(c *call) (*reply, *failure) {
	return listObjects(c, c.vault.shelves[c.route.kind].deleted)
}

func listObjects(c *call, objects *index) (*reply, *failure) {
	pending := c.request.URL.Query().Get("includePending") == "true"
	return c.page(objects.names(), func(name string) any {
		o := objects.get(name)
		if o.latest() == nil && !pending {
			return nil
		}
		return item(c, o, o.latest(), c.vault.id(c.route.kind, o.name))
	})
}

func listVersions(c *call) (*reply, *failure) {
	o, bad := c.vault.object(c.route.kind, c.name)
	if bad != nil {
		return nil, bad
	}
	ids := make([]string, 0, len(o.versions))
	for _, v := range o.versions {
		ids = append(ids, v.id)
	}
	slices.Sort(ids)
	return c.page(ids, func(id string) any {
		return item(c, o, o.find(id), c.vault.id(c.route.kind, o.name, id))
	})
}

// maxPage is the most that the service puts on a page, and what it puts there unasked.
const maxPage = 25

// page cuts the page out of sorted names that the request asks for. The marker in a link is the last name already
// sent, so that additions and deletions between pages neither repeat nor skip anything that stays. What render has no
// form for is not listed.
func (c *call) page(names []string, render func(string) any) (*reply, *failure) {
	query := c.request.URL.Query()
	size := maxPage
	if given := query.Get("maxresults"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < 1 || n > maxPage {
			return nil, badParameter("Property maxresults has an invalid value; it must be in the range 1 to %d.", maxPage)
		}
		size = n
	}
	if token := query.Get("$skiptoken"); token != "" {
		last, err := readMarker(token)
		if err != nil {
			return nil, badParameter("The specified skiptoken is invalid.")
		}
		names = names[sortedAfter(names, last):]
	}
	out, last := page{Value: make([]any, 0, size)}, ""
	for _, name := range names {
		one := render(name)
		switch {
		case one == nil:
		case len(out.Value) == size:
			link := c.nextLink(last, query)
			out.NextLink = &link
			return ok(out), nil
		default:
			out.Value, last = append(out.Value, one), name
		}
	}
	return ok(out), nil
}

func sortedAfter(names []string, last string) int {
	at, found := slices.BinarySearch(names, last)
	if found {
		at++
	}
	return at
}

type marker struct {
	NextMarker     string `json:"NextMarker"`
	TargetLocation int    `json:"TargetLocation"`
}

// nextLink carries the port explicitly, as the service's does: clients that compare hosts must cope.
func (c *call) nextLink(last string, query url.Values) string {
	inner := base64.StdEncoding.EncodeToString([]byte(last))
	raw, _ := json.Marshal(marker{NextMarker: fmt.Sprintf("2!%d!%s", len(inner), inner)}) // strings and numbers only
	rest := url.Values{}
	for _, name := range []string{"maxresults", "includePending"} {
		if given := query.Get(name); given != "" {
			rest.Set(name, given)
		}
	}
	link := fmt.Sprintf("%s:443/%s?api-version=%s&$skiptoken=%s&%s", c.vault.url(), strings.Trim(c.request.URL.Path, "/"),
		url.QueryEscape(query.Get("api-version")), base64.RawURLEncoding.EncodeToString(raw), rest.Encode())
	return strings.TrimSuffix(link, "&")
}

func readMarker(token string) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", fmt.Errorf("decoding a skip token: %w", err)
	}
	var m marker
	if err := json.Unmarshal(raw, &m); err != nil {
		return "", fmt.Errorf("decoding a skip token: %w", err)
	}
	parts := strings.SplitN(m.NextMarker, "!", 3)
	if len(parts) != 3 {
		return "", errBadMarker
	}
	last, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return "", fmt.Errorf("decoding a skip token: %w", err)
	}
	return string(last), nil
}

// attributesIn are the attributes that a client may set.
type attributesIn struct {
	Enabled    *bool  `json:"enabled"`
	NotBefore  *int64 `json:"nbf"`
	Expires    *int64 `json:"exp"`
	Exportable *bool  `json:"exportable"`
}

// fresh are the attributes of a new version.
func (v *vault) fresh(in *attributesIn) attributes {
	now := v.now().Unix()
	out := attributes{Enabled: true, Created: now, Updated: now, RecoveryLevel: recoveryLevel, RecoverableDays: recoverableDays}
	if in != nil {
		in.apply(&out)
	}
	return out
}

func (in *attributesIn) apply(out *attributes) {
	if in.Enabled != nil {
		out.Enabled = *in.Enabled
	}
	if in.NotBefore != nil {
		out.NotBefore = in.NotBefore
	}
	if in.Expires != nil {
		out.Expires = in.Expires
	}
}

// update changes what a PATCH may change on any kind.
func (v *vault) update(ver *version, in *attributesIn, tags map[string]string) {
	if in != nil {
		in.apply(&ver.attributes)
	}
	if tags != nil {
		ver.tags = tags
	}
	ver.attributes.Updated = v.now().Unix()
}

func checkTags(tags map[string]string) *failure {
	if len(tags) > 15 {
		return badParameter("Too many tags specified. The maximum number of tags is 15.")
	}
	for name, value := range tags {
		if len(name) > 512 || len(value) > 512 {
			return badParameter("A tag's name and value must not exceed 512 characters.")
		}
	}
	return nil
}
