// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/emulator/emulatortest"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
	"github.com/akv2k8s/akv2k8s/internal/plan"
)

var lifecycleSeed = flag.Uint64("lifecycle.seed", 0, "the moments at which TestKilledAtAnyMoment kills; 0 draws new ones")

// A life is a namespace in which something changes, and the Controller is killed
// about then.
type life struct {
	namespace string
	vaults    *emulatortest.Instance
	moment    time.Duration // how long after the change
}

// A deed is one thing that a person, or the vault, does in it.
type deed func(context.Context, *life) error

// A tale is what happens in one, and how it must end. The end is all that there is
// in the namespace, in the words of picture.
type tale struct {
	given  []deed
	change deed
	end    []string
}

// The tales of everything that can become of an AzureKeyVaultSecret and its output.
var tales = map[string]tale{
	"Nothing": {
		[]deed{aResource("db")},
		func(context.Context, *life) error { return nil },
		[]string{"Secret out Opaque {password=one(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"Rotation": {
		[]deed{aResource("db", everySecond)},
		rotation("db", "two"),
		[]string{"Secret out Opaque {password=two(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"DataKey": {
		[]deed{aResource("db")},
		respecify("db", func(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output.Secret.DataKey = "renamed" }),
		[]string{"Secret out Opaque {renamed=one(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"KeyGoneFromTheVault": {
		[]deed{aMultiKey("db", `{"a":"c4n4rya","b":"c4n4ryb"}`)},
		rotation("db", `{"b":"c4n4ryb","c":"c4n4ryc"}`),
		[]string{"Secret out Opaque {b=b(db) c=c(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"OutputRenamed": {
		[]deed{aResource("db")},
		respecify("db", intoSecret("other")),
		[]string{"Secret other Opaque {password=one(db)} owners=db by=db", "db True Synced Secret=other"},
	},
	"OutputRenamedBesideAnother": {
		[]deed{aResource("db"), aResource("user", atKey("user"))},
		respecify("db", intoSecret("other")),
		[]string{
			"Secret other Opaque {password=one(db)} owners=db by=db", "Secret out Opaque {user=one(user)} owners=user by=user",
			"db True Synced Secret=other", "user True Synced Secret=out",
		},
	},
	"OutputRenamedToATakenOne": { // what it has stays until it has the new one
		[]deed{aResource("db"), aPersons("theirs", nil)},
		respecify("db", intoSecret("theirs")),
		[]string{
			"Secret out Opaque {password=one(db)} owners=db by=db", "Secret theirs Opaque {theirs=x(kubectl)} owners= by=kubectl",
			"db False OutputTaken Secret=out",
		},
	},
	"OutputDropped": {
		[]deed{aResource("db")},
		respecify("db", func(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output = v2beta1.Output{} }),
		[]string{"db True NoOutput"},
	},
	"SecretBecomesConfigMap": {
		[]deed{aResource("db")},
		respecify("db", func(s *v2beta1.AzureKeyVaultSecretSpec) {
			s.Output = v2beta1.Output{ConfigMap: &v2beta1.ConfigMapOutput{Name: "out", DataKey: "k"}}
		}),
		[]string{"ConfigMap out {k=one(db)} owners=db by=db", "db True Synced ConfigMap=out"},
	},
	"ConfigMapBesideASecret": {
		[]deed{aResource("db", func(s *v2beta1.AzureKeyVaultSecretSpec) {
			s.Output.ConfigMap = &v2beta1.ConfigMapOutput{Name: "out", DataKey: "k"}
		})},
		respecify("db", func(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output.ConfigMap = nil }),
		[]string{"Secret out Opaque {password=one(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"OpaqueBecomesTLS": {
		[]deed{aResource("db", fromCertificate("Opaque"))},
		respecify("db", func(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output.Secret.Type = "kubernetes.io/tls" }),
		[]string{"Secret out kubernetes.io/tls {tls.crt=PEM(db) tls.key=PEM(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"TLSBecomesOpaque": {
		[]deed{aResource("db", fromCertificate("kubernetes.io/tls"))},
		respecify("db", func(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output.Secret.Type = "" }),
		[]string{"Secret out Opaque {password=PEM(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"TypeBesideAPersonsKey": { // nothing of the old one goes
		[]deed{aResource("db", fromCertificate("Opaque")), handEdit(`{"data":{"theirs":"eA=="}}`)},
		respecify("db", func(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output.Secret.Type = "kubernetes.io/tls" }),
		[]string{"Secret out Opaque {password=PFX(db) theirs=x(kubectl)} owners= by=db,kubectl", "db False OutputConflict Secret=out"},
	},
	"ImmutableValue": {
		[]deed{aResource("db", everySecond, unchanging)},
		rotation("db", "two"),
		[]string{"Secret out Opaque immutable {password=two(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"BecomesImmutable": {
		[]deed{aResource("db")},
		respecify("db", unchanging),
		[]string{"Secret out Opaque immutable {password=one(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"ImmutableNoLonger": {
		[]deed{aResource("db", unchanging)},
		respecify("db", func(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output.Secret.Immutable = false }),
		[]string{"Secret out Opaque {password=one(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"Deleted": {[]deed{aResource("db")}, removal("db"), nil},
	"DeletedBesideAnother": {
		[]deed{aResource("db"), aResource("user", atKey("user"))},
		removal("db"),
		[]string{"Secret out Opaque {user=one(user)} owners=user by=user", "user True Synced Secret=out"},
	},
	"DeletedBesideAPersonsKey": {
		[]deed{aResource("db"), handEdit(`{"data":{"theirs":"eA=="}}`)},
		removal("db"),
		[]string{"Secret out Opaque {theirs=x(kubectl)} owners= by=kubectl"},
	},
	"DeletedAdopted": {
		[]deed{aPersons("out", handedToDB), aResource("db", adopting)},
		removal("db"),
		[]string{"Secret out Opaque {theirs=x(kubectl)} owners= by=kubectl"},
	},
	"BothDeleted": {
		[]deed{aResource("db"), aResource("user", atKey("user"))},
		inOrder(removal("db"), removal("user")),
		nil,
	},
	"MadeAnew": {
		[]deed{aResource("db")},
		inOrder(removal("db"), aResource("db")),
		[]string{"Secret out Opaque {password=one(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"ContestedByAYounger": {
		[]deed{aResource("db")},
		aResource("thief"),
		[]string{"Secret out Opaque {password=one(db)} owners=db by=db", "db True Synced Secret=out", "thief False OutputConflict"},
	},
	"ContestedByAnElder": {
		[]deed{aResource("db"), aResource("user", atKey("user"))},
		respecify("db", atKey("user")),
		[]string{"Secret out Opaque {user=one(db)} owners=db,user by=db,user", "db True Synced Secret=out", "user False OutputConflict Secret=out"},
	},
	"WinnerDeleted": {
		[]deed{aResource("db"), aResource("thief")},
		removal("db"),
		[]string{"Secret out Opaque {password=one(thief)} owners=thief by=thief", "thief True Synced Secret=out"},
	},
	"Swapped": {
		[]deed{aResource("db"), aResource("user", atKey("user"))},
		inOrder(respecify("db", atKey("user")), respecify("user", atKey("password"))),
		[]string{"Secret out Opaque {password=one(user) user=one(db)} owners=db,user by=db,user", "db True Synced Secret=out", "user True Synced Secret=out"},
	},
	"HandedOver": {
		[]deed{aPersons("out", nil), aResource("db", everySecond, adopting)},
		handEdit(`{"metadata":{"annotations":{"spv.no/adopt-by":"db"}}}`),
		[]string{"Secret out Opaque adopted {password=one(db) theirs=x(kubectl)} owners= by=db,kubectl", "db True Synced Secret=out"},
	},
	"OfTheOriginal": {
		[]deed{anUnattended("db"), anOriginal("password", "db")},
		attending("db"),
		[]string{"Secret out Opaque {password=one(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"OfTheOriginalShared": {
		[]deed{anUnattended("db"), anUnattended("user", atKey("user")), anOriginal("password,user", "db", "user")},
		inOrder(attending("db"), attending("user")),
		[]string{"Secret out Opaque {password=one(db) user=one(user)} owners=db,user by=db,user", "db True Synced Secret=out", "user True Synced Secret=out"},
	},
	"OfTheOriginalWithAnOldKey": {
		[]deed{anUnattended("db"), anOriginal("password,old", "db")},
		attending("db"),
		[]string{"Secret out Opaque {password=one(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"OwnersStripped": {
		[]deed{aResource("db")},
		handEdit(`{"metadata":{"ownerReferences":null}}`),
		[]string{"Secret out Opaque {password=one(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"EditedByHand": {
		[]deed{aResource("db")},
		handEdit(`{"data":{"password":"eA==","theirs":"eA=="}}`),
		[]string{"Secret out Opaque {password=one(db) theirs=x(kubectl)} owners= by=db,kubectl", "db True Synced Secret=out"},
	},
	"KeyRemovedByHand": {
		[]deed{aResource("db")},
		handEdit(`{"data":null}`),
		[]string{"Secret out Opaque {password=one(db)} owners=db by=db", "db True Synced Secret=out"},
	},
	"OutputDeletedByHand": {
		[]deed{aResource("db")},
		func(ctx context.Context, l *life) error {
			return admin.Delete(ctx, &corev1.Secret{ObjectMeta: l.meta("out")})
		},
		[]string{"Secret out Opaque {password=one(db)} owners=db by=db", "db True Synced Secret=out"},
	},
}

// Whatever is going on when the Controller's process is killed, the next one brings
// it to the same end. Each tale is told several times, with a kill at another moment
// between 0 and 400 ms after its change.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	const rounds, longest = 3, 400 * time.Millisecond
	number := *lifecycleSeed
	if number == 0 {
		number = rand.Uint64()
	}
	moments := rand.New(rand.NewPCG(number, 0))
	vaults, run := lifecycleVaults(t)
	program := run()
	for round := range rounds {
		lives := map[string]*life{}
		for _, name := range slices.Sorted(maps.Keys(tales)) {
			lives[name] = &life{namespace: namespace(t), vaults: vaults, moment: time.Duration(moments.Int64N(int64(longest)))}
		}
		inAllLives(t, lives, preparedLife)
		inAllLives(t, lives, func(ctx context.Context, of tale, l *life) error {
			time.Sleep(longest - l.moment)
			return of.change(ctx, l)
		})
		if err := program.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = program.cmd.Wait() // it was killed, which is an error
		program = run()
		checkEnds(t, lives)
		time.Sleep(1200 * time.Millisecond) // and there it rests, over an interval
		checkEnds(t, lives)
		if t.Failed() {
			t.Fatalf("round %d with -lifecycle.seed=%d", round, number)
		}
	}
	program.stop(t)
}

// lifecycleVaults are vaults, and what runs a Controller that reads them.
func lifecycleVaults(t *testing.T) (*emulatortest.Instance, func() *replica) {
	t.Helper()
	in := emulatortest.Start(t, `
principals: [{ name: node, clientId: 22222222-2222-4222-8222-222222222222, secrets: [c4n4ry-client-secret] }]
vaults:
  - name: my-kv
    permissions: [{ principal: node, roles: [Key Vault Secrets User, Key Vault Certificate User] }]
    certificates: [{ name: cert, subject: CN=one.example }]
`)
	file := filepath.Join(t.TempDir(), "azure.json")
	text := fmt.Sprintf(`{"tenantId": %q, "aadClientId": "22222222-2222-4222-8222-222222222222", "aadClientSecret": "c4n4ry-client-secret"}`, tenant)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return in, func() *replica {
		r := start(t, in.ProxyURL, []string{"CA_BUNDLE=" + in.CAFile, "RUNTIME_NAMESPACE=" + chartNS},
			"--cloudconfig="+file, "--leader-elect=false", "--min-refresh-interval=1s", "--object-labels=story=lifecycle")
		r.ready(t)
		return r
	}
}

// inAllLives does something in all lives at once.
func inAllLives(t *testing.T, lives map[string]*life, do func(context.Context, tale, *life) error) {
	t.Helper()
	var wg sync.WaitGroup
	for name, l := range lives {
		wg.Go(func() {
			if err := do(t.Context(), tales[name], l); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// preparedLife does what is given, one after the other, each when the Controller has
// had its say about those before.
func preparedLife(ctx context.Context, of tale, l *life) error {
	for _, do := range of.given {
		if err := do(ctx, l); err != nil {
			return err
		}
		for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			err := l.settled(ctx)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return err
			}
		}
	}
	return nil
}

// settled says whether everything that is cared for has been seen as it is.
func (l *life) settled(ctx context.Context) error {
	var list v2beta1.AzureKeyVaultSecretList
	if err := admin.List(ctx, &list, client.InNamespace(l.namespace), client.HasLabels{"story"}); err != nil {
		return err
	}
	for i := range list.Items {
		akvs := &list.Items[i]
		if len(akvs.Status.Conditions) == 0 || akvs.Status.ObservedGeneration != akvs.Generation {
			return fmt.Errorf("%s is not settled: %v", akvs.Name, akvs.Status)
		}
	}
	return nil
}

func checkEnds(t *testing.T, lives map[string]*life) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for _, name := range slices.Sorted(maps.Keys(lives)) {
		l := lives[name]
		for {
			got, err := l.picture(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			diff := cmp.Diff(tales[name].end, got)
			if diff == "" {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s, killed %s after the change (-want +got):\n%s", name, l.moment, diff)
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// picture is all that there is: a line for each object. A key is followed by who
// manages it; "gone" is an AzureKeyVaultSecret that does not exist.
func (l *life) picture(ctx context.Context) ([]string, error) {
	var akvs v2beta1.AzureKeyVaultSecretList
	var secrets corev1.SecretList
	var configMaps corev1.ConfigMapList
	in := client.InNamespace(l.namespace)
	if err := errors.Join(admin.List(ctx, &akvs, in), admin.List(ctx, &secrets, in), admin.List(ctx, &configMaps, in)); err != nil {
		return nil, err
	}
	names := map[types.UID]string{}
	for i := range akvs.Items {
		names[akvs.Items[i].UID] = akvs.Items[i].Name
	}
	var out []string
	for i := range configMaps.Items {
		name := configMaps.Items[i].Name
		out = append(out, "ConfigMap "+name+pictureOf(plan.ObserveConfigMap(&configMaps.Items[i]), names))
	}
	for i := range secrets.Items {
		name := secrets.Items[i].Name + " " + string(secrets.Items[i].Type)
		out = append(out, "Secret "+name+pictureOf(plan.ObserveSecret(&secrets.Items[i]), names))
	}
	for i := range akvs.Items {
		out = append(out, kubectlLine(&akvs.Items[i]))
	}
	return out, nil
}

// kubectlLine is what a person reads in `kubectl get`.
func kubectlLine(akvs *v2beta1.AzureKeyVaultSecret) string {
	line := akvs.Name
	if c := meta.FindStatusCondition(akvs.Status.Conditions, v2beta1.ConditionReady); c != nil {
		line += fmt.Sprintf(" %s %s", c.Status, c.Reason)
	}
	if name := akvs.Status.SecretName; name != "" {
		line += " Secret=" + name
	}
	if name := akvs.Status.ConfigMapName; name != "" {
		line += " ConfigMap=" + name
	}
	return line
}

func pictureOf(o *plan.Observed, names map[types.UID]string) string {
	name := func(uid types.UID) string {
		if known, ok := names[uid]; ok {
			return known
		}
		return "gone"
	}
	who := func(managers []string) string {
		var out []string
		for _, m := range managers {
			if uid, ok := strings.CutPrefix(m, "akvs-"); ok {
				m = name(types.UID(uid))
			}
			out = append(out, m)
		}
		slices.Sort(out)
		return strings.Join(slices.Compact(out), ",")
	}
	form := ""
	if o.Immutable {
		form += " immutable"
	}
	if o.Labels[v2beta1.AdoptedLabel] != "" {
		form += " adopted"
	}
	var data, owners []string
	for _, key := range slices.Sorted(maps.Keys(o.Data)) {
		value := strings.TrimPrefix(string(o.Data[key].Reveal()), canary)
		switch {
		case strings.HasPrefix(value, "-----BEGIN "):
			value = "PEM"
		case !utf8.ValidString(value):
			value = "PFX"
		}
		data = append(data, fmt.Sprintf("%s=%s(%s)", key, value, who(o.Managers[key])))
	}
	for _, ref := range o.Owners {
		owners = append(owners, name(ref.UID))
	}
	slices.Sort(owners)
	// What was made anew is the carrier's, too; only its keys must not stay so.
	all := slices.DeleteFunc(slices.Clone(o.All), func(m string) bool { return m == plan.CarrierManager })
	return fmt.Sprintf("%s {%s} owners=%s by=%s", form, strings.Join(data, " "), strings.Join(owners, ","), who(all))
}

func (l *life) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: l.namespace, Name: name}
}

// object is the vault's object for a resource; all lives share a vault.
func (l *life) object(name string) string { return l.namespace + "-" + name }

func (l *life) store(name, value string) error {
	_, err := l.vaults.Emulator.Vaults.SetSecret("my-kv", seed.Secret{Meta: seed.Meta{Name: l.object(name)}, Value: value})
	return err
}

type specChange = func(*v2beta1.AzureKeyVaultSecretSpec)

// anUnattended is an AzureKeyVaultSecret that outputs its object to key password of
// the Secret out, and that no Controller sees yet.
func anUnattended(name string, changes ...specChange) deed {
	return func(ctx context.Context, l *life) error {
		akvs := &v2beta1.AzureKeyVaultSecret{ObjectMeta: l.meta(name), Spec: v2beta1.AzureKeyVaultSecretSpec{
			Vault:  v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: l.object(name), Type: v2beta1.ObjectSecret}},
			Output: v2beta1.Output{Secret: &v2beta1.SecretOutput{Name: "out", DataKey: "password"}},
		}}
		for _, change := range changes {
			change(&akvs.Spec)
		}
		return errors.Join(l.store(name, canary+"one"), admin.Create(ctx, akvs))
	}
}

func attending(name string) deed {
	return func(ctx context.Context, l *life) error {
		return admin.Patch(ctx, &v2beta1.AzureKeyVaultSecret{ObjectMeta: l.meta(name)},
			client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"story":"lifecycle"}}}`)))
	}
}

func aResource(name string, changes ...specChange) deed {
	return inOrder(anUnattended(name, changes...), attending(name))
}

// aMultiKey is a resource of which the vault holds several values.
func aMultiKey(name, text string) deed {
	return inOrder(anUnattended(name, everySecond, func(s *v2beta1.AzureKeyVaultSecretSpec) {
		s.Vault.Object.Type, s.Vault.Object.ContentType = v2beta1.ObjectMultiKeyValue, v2beta1.ContentJSON
		s.Output.Secret.DataKey = ""
	}), func(_ context.Context, l *life) error { return l.store(name, text) }, attending(name))
}

func inOrder(deeds ...deed) deed {
	return func(ctx context.Context, l *life) error {
		for _, do := range deeds {
			if err := do(ctx, l); err != nil {
				return err
			}
		}
		return nil
	}
}

func respecify(name string, change specChange) deed {
	return func(ctx context.Context, l *life) error {
		akvs := &v2beta1.AzureKeyVaultSecret{ObjectMeta: l.meta(name)}
		if err := admin.Get(ctx, client.ObjectKeyFromObject(akvs), akvs); err != nil {
			return err
		}
		before := akvs.DeepCopy()
		change(&akvs.Spec)
		return admin.Patch(ctx, akvs, client.MergeFrom(before))
	}
}

func removal(name string) deed {
	return func(ctx context.Context, l *life) error {
		return admin.Delete(ctx, &v2beta1.AzureKeyVaultSecret{ObjectMeta: l.meta(name)})
	}
}

// rotation puts a new value into the vault; one that is JSON is its own canary.
func rotation(name, text string) deed {
	return func(_ context.Context, l *life) error {
		if strings.HasPrefix(text, "{") {
			return l.store(name, text)
		}
		return l.store(name, canary+text)
	}
}

// aPersons is a Secret that a person made.
func aPersons(name string, annotations map[string]string) deed {
	return func(ctx context.Context, l *life) error {
		s := &corev1.Secret{ObjectMeta: l.meta(name), Data: map[string][]byte{"theirs": []byte("x")}}
		s.Annotations = annotations
		return admin.Create(ctx, s, client.FieldOwner("kubectl"))
	}
}

// handEdit is what a person does to the Secret out.
func handEdit(patch string) deed {
	return func(ctx context.Context, l *life) error {
		return admin.Patch(ctx, &corev1.Secret{ObjectMeta: l.meta("out")}, client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner("kubectl"))
	}
}

// anOriginal is the Secret out as the controller of old made it.
func anOriginal(keys string, owners ...string) deed {
	return func(ctx context.Context, l *life) error {
		s := &corev1.Secret{ObjectMeta: l.meta("out"), Data: map[string][]byte{}}
		for key := range strings.SplitSeq(keys, ",") {
			s.Data[key] = []byte("old")
		}
		no, yes := false, true
		for _, name := range owners {
			akvs := &v2beta1.AzureKeyVaultSecret{}
			if err := admin.Get(ctx, types.NamespacedName{Namespace: l.namespace, Name: name}, akvs); err != nil {
				return err
			}
			s.OwnerReferences = append(s.OwnerReferences, metav1.OwnerReference{
				APIVersion: "spv.no/v2beta1", Kind: "AzureKeyVaultSecret", Name: name, UID: akvs.UID, Controller: &no, BlockOwnerDeletion: &yes,
			})
		}
		return admin.Create(ctx, s, client.FieldOwner(plan.OriginalManager))
	}
}

var handedToDB = map[string]string{v2beta1.AdoptAnnotation: "db"}

func everySecond(s *v2beta1.AzureKeyVaultSecretSpec) {
	s.Refresh = &v2beta1.Refresh{Interval: &metav1.Duration{Duration: time.Second}}
}
func unchanging(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output.Secret.Immutable = true }

func atKey(key string) specChange {
	return func(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output.Secret.DataKey = key }
}

func intoSecret(name string) specChange {
	return func(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output.Secret.Name = name }
}

func fromCertificate(secretType string) specChange {
	return func(s *v2beta1.AzureKeyVaultSecretSpec) {
		s.Vault.Object = v2beta1.VaultObject{Name: "cert", Type: v2beta1.ObjectCertificate}
		s.Output.Secret.Type = secretType
	}
}
