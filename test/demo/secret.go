// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

// etcdDir is where the test cluster's etcd keeps its files.
const etcdDir = "/run/akv2k8s-cluster/etcd"

// privatePEM is the key as the product gives it: PKCS#1 for RSA, SEC 1 for EC.
// It is worked out here from what the vault holds, not by the product's code.
func privatePEM(held harness.Certificate) (string, error) {
	block, _ := pem.Decode([]byte(held.KeyPEM))
	if block == nil {
		return "", errors.New("the vault shows no private key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return "", errors.New("the vault shows no PKCS#8 key")
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})), nil
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(k)
		return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), err
	default:
		return "", errors.New("the vault's key is neither RSA nor EC")
	}
}

func digests(held harness.Certificate) (map[string]string, error) {
	key, err := privatePEM(held)
	if err != nil {
		return nil, err
	}
	sum := func(text string) string { d := sha256.Sum256([]byte(text)); return hex.EncodeToString(d[:]) }
	return map[string]string{"MY_PUBLIC_KEY": sum(held.LeafPEM), "MY_PRIVATE_KEY": sum(key)}, nil
}

// A needle is one way in which a key could be written down.
type needle struct {
	how  string
	text []byte
}

type haystack []needle

// needles looks for the middle of the key, so that neither headers nor line ends
// of one form hide another.
func needles(held harness.Certificate) haystack {
	key, err := privatePEM(held)
	if err != nil {
		return nil
	}
	lines := strings.Split(key, "\n")
	two := lines[len(lines)/2-1] + "\n" + lines[len(lines)/2]
	escaped, _ := json.Marshal(two)
	block, _ := pem.Decode([]byte(key))
	list := haystack{
		{"as it is", []byte(two)},
		{"escaped as in JSON", bytes.Trim(escaped, `"`)},
		{"as one line", []byte(lines[len(lines)/2])},
		{"as DER", block.Bytes[len(block.Bytes)/2 : len(block.Bytes)/2+48]},
	}
	// Base64 of a part depends on where the part begins: three alignments. The
	// first and last characters belong to neighbours and are left out.
	for offset := range 3 {
		padded := append(bytes.Repeat([]byte{'x'}, offset), two...)
		text := base64.StdEncoding.EncodeToString(padded)
		list = append(list, needle{"in base64", []byte(text[4 : len(text)-4])})
	}
	return list
}

// in says how the key is found in data; empty is not at all.
func (h haystack) in(data []byte) string {
	for _, n := range h {
		if bytes.Contains(data, n.text) {
			return n.how
		}
	}
	return ""
}

// search looks through every file of etcd. It answers "skipped" where the
// cluster's etcd is not ours to read.
func (d *demo) search(ctx context.Context) (string, error) {
	if !d.cluster.Local() {
		d.shown("skipped: etcd of this cluster cannot be read from here", 1)
		return "skipped", nil
	}
	held, err := d.cluster.Vault().Certificate(ctx, vaultName, certificate)
	if err != nil {
		return "", err
	}
	look := needles(held)
	if len(look) == 0 {
		return "", errors.New("nothing to search for")
	}
	d.typed("grep -r --binary-files=text -e KEY -e BASE64 -e ESCAPED " + etcdDir)
	var found string
	var files, size int
	err = filepath.WalkDir(etcdDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files, size = files+1, size+len(data)
		if how := look.in(data); how != "" {
			found = how + " in " + strings.TrimPrefix(path, etcdDir+"/")
		}
		return nil
	})
	if err == nil && files == 0 {
		err = fmt.Errorf("no file in %s", etcdDir)
	}
	d.shown(fmt.Sprintf("%d files, %d MiB, %d patterns", files, size>>20, len(look)), 1)
	return found, err
}

// follows waits until the Secret is what the vault holds.
func (d *demo) follows(ctx context.Context) error {
	held, err := d.cluster.Vault().Certificate(ctx, vaultName, certificate)
	if err != nil {
		return err
	}
	key, err := privatePEM(held)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if d.secretIs(ctx, held.ChainPEM, key) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %[2]s the Secret %[1]s is still not what the vault holds", secretName, patience)
		case <-time.After(time.Second):
		}
	}
}

func (d *demo) secretIs(ctx context.Context, chain, key string) bool {
	text, err := d.cluster.Kubectl(ctx, "", "get", "secret", secretName, "-o", "json")
	if err != nil {
		return false
	}
	var secret struct {
		Type string            `json:"type"`
		Data map[string][]byte `json:"data"`
	}
	if json.Unmarshal([]byte(text), &secret) != nil {
		return false
	}
	return secret.Type == "kubernetes.io/tls" && string(secret.Data["tls.crt"]) == chain && string(secret.Data["tls.key"]) == key
}

// tidy removes what the demo made: the whole test cluster, or on another one the
// example and the two releases.
func (d *demo) tidy(ctx context.Context) {
	if d.cluster.Local() {
		if err := d.cluster.Down(ctx); err != nil {
			d.failed(err, "make cluster-down")
		}
		return
	}
	if err := d.cluster.Uninstall(ctx); err != nil {
		d.failed(err, "helm list -A")
	}
	for _, args := range [][]string{
		{"delete", "pod", podName, "--ignore-not-found", "--wait=false"},
		{"delete", "akvs", akvsName, "--ignore-not-found"},
		{"label", "namespace", "default", "azure-key-vault-env-injection-"},
	} {
		_, _ = d.cluster.Kubectl(ctx, "", args...)
	}
}
