// SPDX-License-Identifier: Apache-2.0

package deps_test

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// nobody may write nowhere in a root that belongs to root.
const nobody = 65534

// The wrapper starts a program where there is nothing but the two of them and
// what admission mounts: no /etc, no /proc, no /tmp, no trust store, no shell.
func TestNeedsNothing(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can change the root directory: run go test ./test/deps as root")
	}
	root, here := t.TempDir(), runtime.GOOS+"/"+runtime.GOARCH
	for file, pkg := range map[string]string{"azure-keyvault-env": program, "show": module + "test/deps/testdata/show"} {
		run(t.Context(), t, here, "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(root, file), pkg)
	}
	token := filepath.Join(root, brokerapi.TokenFile)
	if err := os.MkdirAll(filepath.Dir(token), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(token, []byte("pod-token"), 0o644); err != nil {
		t.Fatal(err)
	}
	broker := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer pod-token" {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"values":{"db@azurekeyvault":"aHVudGVyPTI="}}`)
	}))
	defer broker.Close()

	cmd := exec.CommandContext(t.Context(), "/azure-keyvault-env", "/show")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Env = []string{
		"PASSWORD=db@azurekeyvault", "LD_PRELOAD=/nowhere", "GODEBUG=fips140=only", "GOTRACEBACK=crash",
		brokerapi.EnvContainer + "=app",
		brokerapi.EnvBroker + "=" + broker.Listener.Addr().String(),
		brokerapi.EnvServerName + "=example.com",
		brokerapi.EnvCABundle + "=" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: broker.Certificate().Raw})),
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	want := "user 65534\nwrites false\nPASSWORD=hunter=2\nLD_PRELOAD=/nowhere\nGODEBUG=fips140=only\nGOTRACEBACK=crash\n"
	if d := cmp.Diff(want, string(out)); d != "" || err != nil || stderr.String() != "" {
		t.Errorf("%v, standard error %q, standard output -want +got\n%s", err, stderr.String(), d)
	}
}
