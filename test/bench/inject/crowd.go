// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/test/bench"
	"github.com/akv2k8s/akv2k8s/test/bench/launch"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

const (
	// each is how many placeholders a pod of a crowd has.
	each = 5

	crowdLabel = "bench.example/crowd"                                                    // on all that a crowd needs
	crowdGate  = "bench.example/never"                                                    // keeps its pods from being scheduled
	secrets    = "/apis/spv.no/v2beta1/namespaces/" + namespace + "/azurekeyvaultsecrets" // path of the API
)

// emulator is as the cluster's network knows it.
const emulator = bench.Emulator("http://keyvault-emulator." + harness.EmulatorNamespace + ".svc:8081")

// A crowd is pods that exist and run nowhere, and for each a start of the wrapper as
// its container would see it.
type crowd struct {
	starts []launch.Start
	bytes  int // of the wrapper
}

// gather makes n pods, of which so many after another have the same secrets.
func gather(ctx context.Context, api kubernetes.Interface, o order, n, same int) (*crowd, error) {
	if err := stock(ctx, api, (n+same-1)/same*each); err != nil {
		return nil, err
	}
	pods := make([]*corev1.Pod, n)
	tokens := make([]string, n)
	prefix := "c" + strconv.FormatInt(time.Now().UnixMilli(), 36)
	if err := bench.Each(ctx, n, func(ctx context.Context, i int) error {
		pod := gatedPod(fmt.Sprintf("%s-%d", prefix, i), o.Image, i/same*each)
		var err error
		if pods[i], err = api.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			return err
		}
		tokens[i], err = token(ctx, api, pods[i])
		return err
	}); err != nil {
		return nil, fmt.Errorf("making %d pods: %w", n, err)
	}
	wrapper, err := wrapperOf(ctx, pods[0])
	if err != nil {
		return nil, err
	}
	c := &crowd{bytes: len(wrapper)}
	rooms, err := build(o, wrapper)
	if err != nil {
		return nil, err
	}
	for i, pod := range pods {
		start, err := rooms.open(i, pod, tokens[i])
		if err != nil {
			return nil, err
		}
		c.starts = append(c.starts, start)
	}
	return c, nil
}

// disperse deletes what gather made, but for the vault's objects.
func disperse(ctx context.Context, api kubernetes.Interface) error {
	now := int64(0)
	return errors.Join(
		api.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{LabelSelector: crowdLabel}),
		api.CoreV1().RESTClient().Delete().AbsPath(secrets).Param("labelSelector", crowdLabel).Do(ctx).Error(),
	)
}

// stock makes n objects of the vault and an AzureKeyVaultSecret for each.
func stock(ctx context.Context, api kubernetes.Interface, n int) error {
	return bench.Each(ctx, n, func(ctx context.Context, i int) error {
		if err := emulator.SetSecret(ctx, vaultName, crowdObject(i), valueOf(i%each)); err != nil {
			return err
		}
		text, err := json.Marshal(map[string]any{
			"apiVersion": "spv.no/v2beta1", "kind": "AzureKeyVaultSecret",
			"metadata": map[string]any{"name": crowdObject(i), "labels": map[string]string{crowdLabel: ""}},
			"spec":     map[string]any{"vault": map[string]any{"name": vaultName, "object": map[string]string{"type": "secret", "name": crowdObject(i)}}},
		})
		if err != nil {
			return err
		}
		err = api.CoreV1().RESTClient().Post().AbsPath(secrets).SetHeader("Content-Type", "application/json").Body(text).Do(ctx).Error()
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
}

func crowdObject(i int) string { return fmt.Sprintf("bench-crowd-%d", i) }

// gatedPod is a pod that no node gets, with placeholders for the objects from first on.
func gatedPod(podName, image string, first int) *corev1.Pod {
	pod := newPod(podName, image, false)
	pod.Labels = map[string]string{crowdLabel: ""}
	pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: crowdGate}}
	app := &pod.Spec.Containers[0]
	app.Env = nil
	for i := range each {
		app.Env = append(app.Env, corev1.EnvVar{Name: fmt.Sprintf("VALUE_%d", i), Value: crowdObject(first+i) + "@azurekeyvault"})
	}
	return pod
}

// token is what the kubelet would put into the volume that admission added.
func token(ctx context.Context, api kubernetes.Interface, pod *corev1.Pod) (string, error) {
	seconds := int64(brokerapi.TokenSeconds)
	request, err := api.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			Audiences: []string{brokerapi.Audience}, ExpirationSeconds: &seconds,
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return request.Status.Token, nil
}

// wrapperOf takes the wrapper out of the image that admission gave a pod.
func wrapperOf(ctx context.Context, pod *corev1.Pod) ([]byte, error) {
	ref, err := name.ParseReference(wrapperImage(pod), name.Insecure)
	if err != nil {
		return nil, fmt.Errorf("the pod is not injected: %w", err)
	}
	image, err := remote.Image(ref, remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return nil, err
	}
	files := mutate.Extract(image)
	defer func() { _ = files.Close() }()
	for archive := tar.NewReader(files); ; {
		header, err := archive.Next()
		if err != nil {
			return nil, fmt.Errorf("looking for the wrapper in its image: %w", err)
		}
		if path.Base(header.Name) == path.Base(brokerapi.Binary) {
			return io.ReadAll(archive)
		}
	}
}

func wrapperImage(pod *corev1.Pod) string {
	for _, c := range pod.Spec.InitContainers {
		if c.Name == brokerapi.InitContainerName {
			return c.Image
		}
	}
	for _, v := range pod.Spec.Volumes {
		if v.Name == brokerapi.VolumeName && v.Image != nil {
			return v.Image.Reference
		}
	}
	return ""
}

// rooms are directories that containers would have for their root.
type rooms struct{ dir string }

// Paths in a room.
const (
	nothingPath     = "/nothing"
	appPath         = "/app"
	terminationPath = "/dev/termination-log"
)

// build puts the programs into a filesystem in memory, which goes with this process:
// its mounts are its own.
func build(o order, wrapper []byte) (rooms, error) {
	r := rooms{filepath.Join(o.Dir, "rooms")}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return r, err
	}
	if err := syscall.Mount("rooms", r.dir, "tmpfs", 0, ""); err != nil {
		return r, fmt.Errorf("mounting a filesystem in memory: %w", err)
	}
	nothing, err := launch.Nothing(runtime.GOARCH)
	if err != nil {
		return r, err
	}
	app, err := os.ReadFile(filepath.Join(o.Dir, appFile))
	if err != nil {
		return r, err
	}
	for file, text := range map[string][]byte{brokerapi.Binary: wrapper, nothingPath: nothing, appPath: app} {
		if err := os.WriteFile(filepath.Join(r.dir, path.Base(file)), text, 0o700); err != nil {
			return r, err
		}
	}
	return r, nil
}

// open prepares the ith room for a pod.
func (r rooms) open(i int, pod *corev1.Pod, token string) (launch.Start, error) {
	c := pod.Spec.Containers[0]
	if !slices.Equal(c.Command, []string{brokerapi.Binary}) {
		return launch.Start{}, fmt.Errorf("pod %s is not injected", pod.Name)
	}
	room := filepath.Join(r.dir, strconv.Itoa(i))
	for _, dir := range []string{brokerapi.BinaryDir, brokerapi.TokenDir, path.Dir(terminationPath), "/proc"} {
		if err := os.MkdirAll(filepath.Join(room, dir), 0o700); err != nil {
			return launch.Start{}, err
		}
	}
	err := errors.Join(
		syscall.Mount("/proc", filepath.Join(room, "proc"), "", syscall.MS_BIND, ""),
		os.WriteFile(filepath.Join(room, brokerapi.TokenFile), []byte(token), 0o600),
		os.WriteFile(filepath.Join(room, terminationPath), nil, 0o600),
	)
	for _, file := range []string{brokerapi.Binary, nothingPath, appPath} {
		err = errors.Join(err, os.Link(filepath.Join(r.dir, path.Base(file)), filepath.Join(room, file)))
	}
	start := launch.Start{Root: room, Args: append(c.Command, nothingPath), Env: []string{"PATH=/usr/bin:/bin", "HOSTNAME=" + pod.Name}}
	for _, v := range c.Env {
		start.Env = append(start.Env, v.Name+"="+v.Value)
	}
	return start, err
}

// checking is the same start, of the application that looks at the values it gets.
func checking(s launch.Start) launch.Start {
	s.Args = []string{s.Args[0], appPath, strconv.Itoa(each)}
	return s
}

// nothing is a start in the same place without the wrapper.
func nothing(s launch.Start) launch.Start {
	s.Args = []string{nothingPath}
	return s
}
