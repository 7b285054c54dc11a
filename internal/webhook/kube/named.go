// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// ConfigMap returns the keys of a ConfigMap with those texts that hold placeholders, or
// nil if there is none. What it holds as bytes, the kubelet does not make variables of
// either. The API server is asked each time: what is decided about a pod is to be what
// its containers will find a moment later.
func (s *Source) ConfigMap(ctx context.Context, namespace, name string) (map[string]string, error) {
	return s.together(ctx, "ConfigMap", namespace, name, func(ctx context.Context) (map[string]string, error) {
		var object corev1.ConfigMap
		found, err := s.get(ctx, namespace, name, &object)
		if !found {
			return nil, err
		}
		return texts(object.Data), nil
	})
}

// SecretTexts is the same of a Secret.
func (s *Source) SecretTexts(ctx context.Context, namespace, name string) (map[string]string, error) {
	return s.together(ctx, "Secret", namespace, name, func(ctx context.Context) (map[string]string, error) {
		var object corev1.Secret
		found, err := s.get(ctx, namespace, name, &object)
		if !found {
			return nil, err
		}
		return texts(object.Data), nil
	})
}

// readTimeout bounds a read that many wait for.
const readTimeout = 5 * time.Second

// together has those who ask for one object at one time share a read, which outlives the
// first of them: a hundred pods of one Job name the same.
func (s *Source) together(ctx context.Context, kind, namespace, name string, read func(context.Context) (map[string]string, error)) (map[string]string, error) {
	answer := s.flights.DoChan(kind+"/"+namespace+"/"+name, func() (any, error) {
		shared, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		return read(shared)
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case a := <-answer:
		texts, _ := a.Val.(map[string]string)
		return texts, a.Err
	}
}

// texts is never nil: what exists may be empty. Whatever is no placeholder's business
// goes no further.
func texts[T ~string | ~[]byte](data map[string]T) map[string]string {
	out := make(map[string]string, len(data))
	for key, bytes := range data {
		text := ""
		if s := string(bytes); placeholder.In(s) {
			text = s
		}
		out[key] = text
	}
	return out
}

func (s *Source) get(ctx context.Context, namespace, name string, into client.Object) (bool, error) {
	err := s.live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, into)
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading %T %s/%s: %w", into, namespace, name, err)
	default:
		return true, nil
	}
}

// maxPullSecrets bounds what one pod may cost the API server.
const maxPullSecrets = 16

// PullSecrets reads the named Secrets, then those that the service account names.
// One that cannot be used says why.
func (s *Source) PullSecrets(ctx context.Context, namespace, account string, names []string) []inject.PullSecret {
	named, unusable := s.namedBy(ctx, namespace, account)
	for _, name := range named {
		if name != "" && !slices.Contains(names, name) {
			names = append(slices.Clone(names), name)
		}
	}
	names = names[:min(len(names), maxPullSecrets)]
	found := make([]inject.PullSecret, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { found[i] = s.pullSecret(ctx, namespace, name) })
	}
	all.Wait()
	return append(found, unusable...)
}

func (s *Source) namedBy(ctx context.Context, namespace, account string) ([]string, []inject.PullSecret) {
	var sa corev1.ServiceAccount
	if err := s.live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: account}, &sa); err != nil {
		return nil, []inject.PullSecret{inject.UnusableAccount(account, reason(err))}
	}
	var names []string
	for _, ref := range sa.ImagePullSecrets {
		names = append(names, ref.Name)
	}
	return names, nil
}

func (s *Source) pullSecret(ctx context.Context, namespace, name string) inject.PullSecret {
	var found corev1.Secret
	if err := s.live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &found); err != nil {
		return inject.UnusablePullSecret(name, reason(err))
	}
	keys := map[corev1.SecretType]string{
		corev1.SecretTypeDockerConfigJson: corev1.DockerConfigJsonKey,
		corev1.SecretTypeDockercfg:        corev1.DockerConfigKey,
	}
	key, ok := keys[found.Type]
	if !ok { // another Secret is nothing that we have any business with
		return inject.UnusablePullSecret(name, inject.NoDocker)
	}
	return inject.PullSecret{Name: name, Type: found.Type, Config: secret.New(found.Data[key])}
}

// Account reads what a service account says of its identity. It fails where the API server
// does.
func (s *Source) Account(ctx context.Context, namespace, name string) (inject.Account, error) {
	var sa corev1.ServiceAccount
	err := s.live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &sa)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return inject.Account{Name: name, Unreadable: reason(err)}, nil
	case err != nil:
		return inject.Account{}, fmt.Errorf("reading service account %s/%s: %w", namespace, name, err)
	}
	return inject.Account{Name: name, ClientID: sa.Annotations[inject.AnnotationClientID], TenantID: sa.Annotations[inject.AnnotationTenantID]}, nil
}

// reason is why an object could not be read, for people.
func reason(err error) string {
	switch {
	case apierrors.IsNotFound(err):
		return inject.Missing
	case apierrors.IsForbidden(err):
		return inject.Unreadable
	}
	return inject.Unanswered
}
