// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// A kind is what pods come from.
type kind struct {
	ends bool // its pods come to an end
	// manifest is given a name and the template of a pod, from "metadata" on and
	// not indented.
	manifest func(name, template string) string
}

var kinds = map[string]kind{
	"deployment":  {false, workload("apps/v1", "Deployment", "  selector: {matchLabels: {from: NAME}}")},
	"statefulset": {false, workload("apps/v1", "StatefulSet", "  serviceName: none\n  selector: {matchLabels: {from: NAME}}")},
	"daemonset":   {false, workload("apps/v1", "DaemonSet", "  selector: {matchLabels: {from: NAME}}")},
	"job":         {true, workload("batch/v1", "Job", "  backoffLimit: 0")},
	"cronjob":     {true, cronJob},
	"pod":         {false, barePod("name: NAME")},
	"generated":   {false, barePod("generateName: NAME-")},
}

func workload(version, kind, spec string) func(name, template string) string {
	return func(name, template string) string {
		return "\n---\napiVersion: " + version + "\nkind: " + kind + "\nmetadata: {name: " + name + "}\nspec:\n" +
			strings.ReplaceAll(spec, "NAME", name) + "\n  template:\n" + indented(4, template)
	}
}

func cronJob(name, template string) string {
	return `
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: ` + name + `}
spec:
  schedule: "* * * * *"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
` + indented(8, template)
}

func barePod(named string) func(name, template string) string {
	return func(name, template string) string {
		return "\n---\napiVersion: v1\nkind: Pod\n" +
			strings.Replace(template, "metadata: {", "metadata: {"+strings.ReplaceAll(named, "NAME", name)+", ", 1)
	}
}

func indented(by int, text string) string {
	pad := strings.Repeat(" ", by)
	return pad + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+pad) + "\n"
}

// everyContainer is the template of a pod with a container of each sort, whose
// own container has this placeholder.
func (k kind) everyContainer(name, text string) string {
	restart, command := "Always", "[/app, report]"
	if k.ends {
		restart, command = "Never", `[/app, exit, "0"]`
	}
	return `
metadata: {labels: {from: ` + name + `}}
spec:
  restartPolicy: ` + restart + `
  terminationGracePeriodSeconds: 5
  initContainers:
  - name: before
    image: ` + appImage + `
    command: [/app, exit, "0"]
    env: [{name: VALUE, value: before@azurekeyvault}]
  - name: beside
    image: ` + appImage + `
    restartPolicy: Always
    env: [{name: VALUE, value: beside@azurekeyvault}]
  containers:
  - name: app
    image: ` + appImage + `
    command: ` + command + `
    env: [{name: VALUE, value: '` + text + `'}]
`
}

// podsOfEveryKind have their values in every container, and none is there whose
// placeholder is wrong: its owner says why.
func podsOfEveryKind(s *story) {
	values := map[string]string{}
	for _, name := range []string{"before", "beside", "app"} {
		values[name] = s.secret(name)
		s.akvs(name, "secret", name, "")
	}
	var manifests strings.Builder
	for name, k := range kinds {
		manifests.WriteString(k.manifest(name, k.everyContainer(name, "app@azurekeyvault")))
	}
	_, err := s.try(manifests.String(), "create", "-f", "-")
	s.ok(err)
	said := map[string]string{} // by kubectl
	for name, k := range kinds {
		if _, err := s.try(k.manifest("bad-"+name, k.everyContainer("bad-"+name, "app@azurekeyvault?")), "create", "-f", "-"); err != nil {
			said[name] = err.Error()
			s.keep("kubectl.txt", err.Error())
		}
	}
	for name := range kinds {
		for _, pod := range s.podsFrom(name) {
			for container, r := range s.reports(pod, len(values)) {
				s.got(r, map[string]string{"VALUE": values[container]})
			}
		}
	}
	for name := range kinds {
		s.refusedByItsOwner("bad-"+name, said[name])
	}
}

// podsFrom waits for those of one of kinds: a CronJob takes up to a minute.
func (s *story) podsFrom(name string) []string {
	s.Helper()
	var pods []string
	s.eventually(name+" should have a pod", func() error {
		text, err := s.try("", "get", "pods", "-l", "from="+name, "-o", "jsonpath={.items[*].metadata.name}")
		if pods = strings.Fields(text); err == nil && len(pods) == 0 {
			err = errors.New("it has none")
		}
		return err
	})
	return pods
}

// refusedByItsOwner looks for the sentence where a person does: what kubectl has
// not said is in an event of the pod's owner.
func (s *story) refusedByItsOwner(name, said string) {
	s.Helper()
	if said == "" {
		s.eventually("the owner of "+name+"'s pods should say why there are none", func() error {
			text, err := s.try("", "get", "events", "--field-selector", "reason=FailedCreate",
				"-o", `jsonpath={range .items[*]}{.involvedObject.name}{" "}{.message}{"\n"}{end}`)
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, name) {
					said = line
					return nil
				}
			}
			return errors.Join(err, fmt.Errorf("no event of it in %d bytes", len(text)))
		})
	}
	for _, word := range []string{`container "app"`, "VALUE", placeholder.ErrQuery.Error()} {
		if !strings.Contains(said, word) {
			s.Errorf("%s: %q is missing in %q", name, word, said)
		}
	}
	if pods := s.kubectl("get", "pods", "-l", "from="+name, "-o", "name"); pods != "" {
		s.Errorf("%s: there are %s", name, pods)
	}
}
