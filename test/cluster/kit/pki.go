// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

type pair struct{ cert, key []byte }

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func template(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}, err
}

func newAuthority(name string) (*authority, pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, pair{}, err
	}
	t, err := template(pkix.Name{CommonName: name})
	if err != nil {
		return nil, pair{}, err
	}
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, pair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, pair{}, err
	}
	k, err := keyPEM(key)
	return &authority{cert, key, certPEM(der)}, pair{certPEM(der), k}, err
}

// issue makes a certificate good for clients and, with any host, for servers.
func (a *authority) issue(subject pkix.Name, hosts ...string) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	t, err := template(subject)
	if err != nil {
		return pair{}, err
	}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(hosts) > 0 {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, host := range hosts {
		if host == "" {
			continue
		}
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return pair{}, err
	}
	k, err := keyPEM(key)
	return pair{certPEM(der), k}, err
}

func kubeconfig(server string, ca []byte, p pair) []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: akv2k8s-test
clusters: [{name: akv2k8s-test, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: akv2k8s-test, user: {client-certificate-data: %s, client-key-data: %s}}]
contexts: [{name: akv2k8s-test, context: {cluster: akv2k8s-test, user: akv2k8s-test}}]
`, server, b64(ca), b64(p.cert), b64(p.key))
}

// identity is a certificate that some part of the cluster shows to another.
type identity struct {
	name       string
	by         *authority
	subject    pkix.Name
	hosts      []string // none: a client only
	kubeconfig bool     // wanted as a kubeconfig instead of two files
}

// pki writes everything a cluster's parts need to know one another by.
func pki(args []string) error {
	fs := flag.NewFlagSet("pki", flag.ExitOnError)
	dir := fs.String("dir", "pki", "output directory")
	server := fs.String("server", "https://127.0.0.1:6443", "API server address in the kubeconfigs")
	node := fs.String("node", "node", "node name")
	nodeIP := fs.String("node-ip", "", "node address")
	hosts := fs.String("hosts", "", "further names and addresses of the API server, comma-separated")
	_ = fs.Parse(args)

	ca, caPair, err := newAuthority("test-cluster-ca")
	if err != nil {
		return err
	}
	front, frontPair, err := newAuthority("test-cluster-front-proxy-ca")
	if err != nil {
		return err
	}
	files, err := accountKeys()
	if err != nil {
		return err
	}
	caPair.into(files, "ca")
	frontPair.into(files, "front-proxy-ca")
	for _, id := range identities(ca, front, *node, *nodeIP, strings.Split(*hosts, ",")) {
		p, err := id.by.issue(id.subject, id.hosts...)
		if err != nil {
			return err
		}
		if id.kubeconfig {
			files[id.name+".kubeconfig"] = kubeconfig(*server, ca.pem, p)
		} else {
			p.into(files, id.name)
		}
	}
	return write(*dir, files)
}

func identities(ca, front *authority, node, nodeIP string, hosts []string) []identity {
	user := func(name string, groups ...string) pkix.Name {
		return pkix.Name{CommonName: name, Organization: groups}
	}
	server := append([]string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local", "127.0.0.1", nodeIP,
	}, hosts...)
	return []identity{
		{"apiserver", ca, user("kube-apiserver"), server, false},
		{"kubelet-server", ca, user(node), []string{node, nodeIP, "127.0.0.1"}, false},
		{"apiserver-kubelet-client", ca, user("kube-apiserver-kubelet-client", "system:masters"), nil, false},
		{"front-proxy-client", front, user("front-proxy-client"), nil, false},
		{"admin", ca, user("admin", "system:masters"), nil, true},
		{"kube-controller-manager", ca, user("system:kube-controller-manager"), nil, true},
		{"kube-scheduler", ca, user("system:kube-scheduler"), nil, true},
		{"kube-proxy", ca, user("system:kube-proxy"), nil, true},
		{"kubelet", ca, user("system:node:"+node, "system:nodes"), nil, true},
	}
}

// accountKeys is the key pair of service account tokens: RSA, because RS256 is
// what most clusters sign with.
func accountKeys() (map[string][]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	private, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"sa.key": private,
		"sa.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
	}, nil
}

// certificate writes NAME.crt and NAME.key, signed by the CA that pki wrote.
func certificate(args []string) error {
	fs := flag.NewFlagSet("certificate", flag.ExitOnError)
	dir := fs.String("dir", "pki", "directory that holds ca.crt and ca.key")
	out := fs.String("out", ".", "output directory")
	_ = fs.Parse(args)
	if fs.NArg() < 2 {
		return errors.New("usage: kit certificate [flags] NAME HOST [HOST]")
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(*dir, "ca.crt"), filepath.Join(*dir, "ca.key"))
	if err != nil {
		return err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("ca.key cannot sign")
	}
	p, err := (&authority{cert: pair.Leaf, key: key}).issue(pkix.Name{CommonName: fs.Arg(0)}, fs.Args()[1:]...)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	p.into(files, fs.Arg(0))
	return write(*out, files)
}

func (p pair) into(files map[string][]byte, name string) {
	files[name+".crt"], files[name+".key"] = p.cert, p.key
}

func write(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
