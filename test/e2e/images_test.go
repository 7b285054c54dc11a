// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

// An imageKind is an image of the application, and what starts in a container of
// it. Where no command is given, the image's registry says what that is.
type imageKind struct {
	push      []string // flags of test/cluster/push
	app       string   // where the application is; empty: /app
	files     []string // what else is in it: shell, passwd, or what push takes
	container string   // YAML of the container: its command or args
	want      []string // what the application is started with
}

// imageKinds by the name of their image and of their container. WORD is a
// variable of the container, with the value "two".
var imageKinds = map[string]imageKind{
	"scratch": {
		push: []string{"-entrypoint", "/app report", "-cmd", "from-image"},
		want: []string{"/app", "report", "from-image"},
	},
	"entrypoint-only": {push: []string{"-entrypoint", "/app report"}, want: []string{"/app", "report"}},
	"cmd-only":        {push: []string{"-cmd", "/app report only-cmd"}, want: []string{"/app", "report", "only-cmd"}},
	"command": {
		push:      []string{"-entrypoint", "/nothing", "-cmd", "never"},
		container: "command: [/app, report, '$(WORD)', '$$(WORD)', '$$', 'a  b']",
		want:      []string{"/app", "report", "two", "$(WORD)", "$", "a  b"},
	},
	"args": {
		push:      []string{"-entrypoint", "/app report", "-cmd", "never"},
		container: "args: [from-pod, '$(WORD)$$x']",
		want:      []string{"/app", "report", "from-pod", "two$x"},
	},
	// What Kubernetes would replace in a pod stays as it is in an image.
	"literal": {
		push: []string{"-entrypoint", `["/app", "report", "$(WORD)"]`, "-cmd", `["$$(WORD)", "$$", "$WORD", "$(NONE)$"]`},
		want: []string{"/app", "report", "$(WORD)", "$$(WORD)", "$$", "$WORD", "$(NONE)$"},
	},
	"shell": {
		push:  []string{"-entrypoint", `["/bin/sh", "-c"]`, "-cmd", `["exec /app report $$ \"$(echo sub)\" \"$WORD\""]`},
		files: []string{"shell"},
		want:  []string{"/app", "report", "1", "sub", "two"},
	},
	// As of gcr.io/distroless: no shell, a user by name, a program to look for.
	"distroless": {
		push: []string{
			"-user", "nonroot", "-workdir", "/home/nonroot", "-env", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
			"-entrypoint", "app report",
		},
		app:   "/usr/local/bin/app",
		files: []string{"passwd", "/home/nonroot/", "/tmp/"},
		want:  []string{"app", "report"},
	},
	"numeric-user": {push: []string{"-user", "4711:4712", "-entrypoint", "/app report"}, want: []string{"/app", "report"}},
	"relative": {
		push: []string{"-workdir", "/srv", "-entrypoint", "./app report"}, app: "/srv/app",
		want: []string{"./app", "report"},
	},
}

// nothing is an image that says nothing about what it runs.
const nothing = "nothing"

// image is where the image of a kind is.
func image(kind string) string { return harness.Registry + "/e2e/" + kind + ":1" }

// pushImages makes every image of one layer with the application, and pushes it.
func pushImages(ctx context.Context, dir, app string) error {
	passwd := filepath.Join(dir, "passwd")
	if err := os.WriteFile(passwd, []byte("root:x:0:0::/root:/\nnonroot:x:65532:65532::/home/nonroot:/\n"), 0o600); err != nil {
		return err
	}
	content := map[string][]string{
		"passwd": {passwd + "=/etc/passwd"},
		"shell":  {harness.StateDir + "/bin/busybox=/bin/busybox", "/bin/sh=>busybox"},
	}
	push := func(name string, kind imageKind) error {
		if kind.app == "" {
			kind.app = "/app"
		}
		args := append(slices.Clone(kind.push), "e2e/"+name+":1", app+"="+kind.app)
		for _, file := range kind.files {
			if known, ok := content[file]; ok {
				args = append(args, known...)
				continue
			}
			args = append(args, file)
		}
		return the.Push(ctx, args...)
	}
	for name, kind := range imageKinds {
		if err := push(name, kind); err != nil {
			return err
		}
	}
	if err := push(nothing, imageKind{}); err != nil {
		return err
	}
	return push("app", imageKinds["scratch"])
}

// imagesOfEveryKind run in one pod, each beside a twin that has no placeholder
// and is left alone: nothing but the value may tell the two apart.
func imagesOfEveryKind(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	var containers strings.Builder
	for name, kind := range imageKinds {
		for suffix, env := range map[string]string{"": "{name: VALUE, value: it@azurekeyvault}, ", "-twin": ""} {
			fmt.Fprintf(&containers, `
  - name: %s
    image: %s
    env: [%s{name: WORD, value: two}]
    %s
`, name+suffix, image(name), env, kind.container)
		}
	}
	s.apply(`
apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  terminationGracePeriodSeconds: 5
  containers:` + containers.String())
	reports := s.reports("app", 2*len(imageKinds))
	for name, kind := range imageKinds {
		r, twin := reports[name], reports[name+"-twin"]
		s.got(r, map[string]string{"VALUE": value})
		if !slices.Equal(r.Args, kind.want) {
			s.Errorf("%s: arguments %q; want %q", name, r.Args, kind.want)
		}
		delete(r.Digests, "VALUE")
		if r.UID != twin.UID || r.Dir != twin.Dir || !slices.Equal(r.Args, twin.Args) || !maps.Equal(r.Digests, twin.Digests) {
			s.Errorf("%s is not started as without a placeholder: -without +with\n%s", name, cmp.Diff(twin, r))
		}
	}
	message := s.applyFails(strings.Replace(pod("    image: "+image(nothing)+"\n    env: [{name: VALUE, value: it@azurekeyvault}]\n"),
		"name: app}", "name: nothing}", 1))
	for _, word := range []string{`container "app"`, image(nothing), "neither entrypoint nor cmd", "set the container's command"} {
		if !strings.Contains(message, word) {
			s.Errorf("%q is missing in %q", word, message)
		}
	}
}
