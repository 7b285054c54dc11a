// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
)

// What becomes of outputs where garbage collection works beside the Controller.
var outputStories = []tale{
	{"SecretAndConfigMapOfOneResource", secretAndConfigMap},
	{"ASharedSecretLosesWhatOneKept", sharedSecretLosesOne},
	{"ARenamedOutputMoves", renamedOutputMoves},
	{"AnotherTypeIsMadeAnew", anotherTypeIsMadeAnew},
	{"AnOrphanedOutputStays", orphanedOutputStays},
	{"AnAdoptedSecretOutlivesItsResource", adoptedSecretStays},
}

func secretAndConfigMap(s *story) {
	s.reach = inSecret
	value := s.secret("it")
	s.akvs("it", "secret", "it", "{secret: {name: out, dataKey: value}, configMap: {name: out, dataKey: text}}")
	s.becomes("out", "value", value)
	s.eventually("ConfigMap out should hold the vault's value", func() error {
		got, err := s.try("", "get", "configmap", "out", "-o", "jsonpath={.data.text}")
		if err == nil && got != value {
			err = fmt.Errorf("it holds %d other bytes", len(got))
		}
		return err
	})
	s.oneClear(s.says(v2beta1.ReasonSynced), "Secret out and ConfigMap out")
	s.kubectl("delete", "akvs", "it")
	s.wait("delete", "secret/out", "configmap/out")
}

func sharedSecretLosesOne(s *story) {
	s.reach = inSecret
	first, second := s.secret("it"), s.secret("other")
	s.akvs("it", "secret", "it", opaque("out"))
	s.becomes("out", "value", first)
	s.akvs("other", "secret", "other", "{secret: {name: out, dataKey: second}}")
	uid := s.becomes("out", "second", second).Metadata.UID
	s.kubectl("delete", "akvs", "it")
	s.eventually("the key of the one that is gone should go", func() error {
		if out := s.output("out"); len(out.Data) != 1 {
			return fmt.Errorf("it holds %d keys", len(out.Data))
		}
		return nil
	})
	if s.becomes("out", "second", second).Metadata.UID != uid {
		s.Error("the Secret was made anew")
	}
}

func renamedOutputMoves(s *story) {
	s.reach = inSecret
	value := s.secret("it")
	s.akvs("it", "secret", "it", opaque("before"))
	s.becomes("before", "value", value)
	s.akvs("it", "secret", "it", opaque("after"))
	s.becomes("after", "value", value)
	s.wait("delete", "secret/before")
}

func anotherTypeIsMadeAnew(s *story) {
	s.reach = inSecret
	s.secret("it")
	s.akvs("it", "secret", "it", opaque("out"))
	s.says(v2beta1.ReasonSynced)
	s.kubectl("annotate", "secret", "out", "team=theirs")
	s.akvs("it", "secret", "it", "{secret: {name: out, dataKey: value, type: example.com/other}}")
	s.eventually("the Secret should be of the other type, with what others wrote on it", func() error {
		got, err := s.try("", "get", "secret", "out", "-o", "jsonpath={.type} {.metadata.annotations.team}")
		if err == nil && got != "example.com/other theirs" {
			err = errors.New(got)
		}
		return err
	})
}

func orphanedOutputStays(s *story) {
	s.reach = inSecret
	value := s.secret("it")
	s.akvs("it", "secret", "it", opaque("out"))
	s.becomes("out", "value", value)
	s.kubectl("delete", "akvs", "it", "--cascade=orphan")
	s.eventually("the Controller should let go of the Secret", func() error {
		got, err := s.try("", "get", "secret", "out", "-o", "jsonpath={.metadata.labels}{.metadata.ownerReferences}")
		if err == nil && got != "" {
			err = errors.New(got)
		}
		return err
	})
	s.becomes("out", "value", value)
}

func adoptedSecretStays(s *story) {
	s.reach = inSecret
	value := s.secret("it")
	s.kubectl("create", "secret", "generic", "out", "--from-literal=theirs=mine")
	s.akvs("it", "secret", "it", "{secret: {name: out, dataKey: value, adopt: true}}")
	s.oneClear(s.says(v2beta1.ReasonOutputTaken), "spv.no/adopt-by")
	s.kubectl("annotate", "secret", "out", "spv.no/adopt-by=it")
	s.kubectl("annotate", "akvs", "it", "spv.no/refresh=now")
	s.becomes("out", "value", value)
	s.says(v2beta1.ReasonSynced)
	if owners := s.kubectl("get", "secret", "out", "-o", "jsonpath={.metadata.ownerReferences}"); owners != "" {
		s.Errorf("it is owned by %s", owners)
	}
	s.kubectl("delete", "akvs", "it")
	s.eventually("only what was somebody else's should be left", func() error {
		out := s.output("out")
		if string(out.Data["theirs"]) != "mine" || len(out.Data) != 1 {
			return fmt.Errorf("it holds %d keys", len(out.Data))
		}
		return nil
	})
	if labels := s.kubectl("get", "secret", "out", "-o", "jsonpath={.metadata.labels}"); strings.Contains(labels, "spv.no") {
		s.Errorf("our labels are left: %s", labels)
	}
}
