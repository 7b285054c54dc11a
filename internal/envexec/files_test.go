// SPDX-License-Identifier: Apache-2.0

package envexec_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/envexec"
)

// memory is a volume as Kubernetes mounts it, with these options if the test may.
func memory(t *testing.T, options ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "envexec-") //nolint:usetesting // which is on a disk
	if err != nil {
		t.Fatalf("files go into memory, and there is none at /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if len(options) == 0 {
		return dir
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, strings.Join(options, ",")); err != nil {
		t.Skipf("only root can mount a volume: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	return dir
}

func fileOf(t *testing.T, root, value string) error {
	t.Helper()
	return envexec.Write([]string{"A=x@azurekeyvault;file"}, said("x@azurekeyvault", value), root)
}

func holds(t *testing.T, root, want string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(root, "x", "value"))
	if err != nil || string(got) != want {
		t.Errorf("the file holds %q, %v; want %q", got, err, want)
	}
}

// Each of the kernel's refusals has a sentence that says what to do.
func TestFilesReasons(t *testing.T) {
	t.Parallel()
	for err, says := range map[error]string{
		&os.PathError{Op: "write", Path: "/files/x/.tmp", Err: syscall.ENOSPC}: "no space is left in the volume",
		&os.PathError{Op: "open", Path: "/files/x/.tmp", Err: syscall.EROFS}:   "it is mounted read-only",
		&os.PathError{Op: "open", Path: "/files/x/.tmp", Err: syscall.EACCES}:  "the container's user may not write there",
		&os.PathError{Op: "unlink", Path: "/files/x/.tmp", Err: syscall.EPERM}: "the container's user may not write there",
		&os.LinkError{Op: "rename", Old: "/files/x/.tmp", Err: syscall.EIO}:    "input/output error",
	} {
		if got := envexec.Reason(err); !strings.HasPrefix(got, says) || strings.Contains(got, "tmp") {
			t.Errorf("%v: %q", err, got)
		}
	}
}

func TestFilesNeedRoom(t *testing.T) {
	root := memory(t, "size=16k")
	err := fileOf(t, root, strings.Repeat("hunter2", 10_000))
	if err == nil || !strings.Contains(err.Error(), "cannot write the container's files to "+root+": no space is left") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Write() = %v", err)
	}
	if err := fileOf(t, root, "1"); err != nil { // what was begun is gone
		t.Error(err)
	}
	holds(t, root, "1")
	if err := syscall.Mount("", root, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := fileOf(t, root, "2"); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("Write() = %v", err)
	}
}

// A process counts as the program that has the files only if whoever runs the wrapper
// says so, and only as long as it runs: a user that the program changes to must not be
// able to have his own files taken for them.
func TestFilesOfARunningProgram(t *testing.T) {
	other := os.Getppid()
	running := envexec.Life(strconv.Itoa(other))
	number, began, _ := strings.Cut(running, " ")
	if number != strconv.Itoa(other) || began == "" {
		t.Fatalf("Life(%d) = %q", other, running)
	}
	for name, tc := range map[string]struct {
		marker string
		mode   os.FileMode
		owner  int
		stays  bool
	}{
		"Running":     {running, 0o400, os.Getuid(), true},
		"OneOfThem":   {"1 1\n" + running + "\n2 2", 0o400, os.Getuid(), true},
		"Ended":       {number + " 1", 0o400, os.Getuid(), false},
		"Itself":      {envexec.Life("self"), 0o400, os.Getuid(), false},
		"Nobody":      {"", 0o400, os.Getuid(), false},
		"NoNumber":    {"../" + number + " " + began, 0o400, os.Getuid(), false},
		"OfSomebody":  {running, 0o444, 65534, false},
		"NoPlainFile": {running, os.ModeSymlink, os.Getuid(), false},
	} {
		t.Run(name, func(t *testing.T) {
			root := memory(t)
			if err := fileOf(t, root, "1"); err != nil {
				t.Fatal(err)
			}
			marker := filepath.Join(root, ".start")
			path := marker
			if tc.mode&os.ModeSymlink != 0 {
				path = filepath.Join(t.TempDir(), "elsewhere")
			}
			if err := os.Remove(marker); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tc.marker), 0o600); err != nil {
				t.Fatal(err)
			}
			if path != marker {
				if err := os.Symlink(path, marker); err != nil {
					t.Fatal(err)
				}
			}
			if tc.owner != os.Getuid() {
				if err := os.Chown(marker, tc.owner, tc.owner); err != nil {
					t.Skipf("only root can give files away: %v", err)
				}
			}
			if err := fileOf(t, root, "2"); err != nil {
				t.Fatal(err)
			}
			want := "2"
			if tc.stays {
				want = "1"
			}
			holds(t, root, want)
		})
	}
}

// Who was there first keeps what others of the container may do to the volume small.
func TestFilesCloseTheVolume(t *testing.T) {
	root := memory(t)
	if err := os.Chmod(root, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := fileOf(t, root, "1"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(root); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// Many files of a directory arrive whole, binary ones and empty ones too.
func TestFilesOfADirectory(t *testing.T) {
	root, pairs := memory(t), []string{}
	for i := range 300 {
		pairs = append(pairs, fmt.Sprintf("-f.%d_", i), strings.Repeat("\x00", i))
	}
	answer := saidFiles(pairs...)
	if err := envexec.Write([]string{"A=x@azurekeyvault;directory"}, answer, root); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(root, "x"))
	if err != nil || len(entries) != 300 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	for name, want := range answer.Directories["x@azurekeyvault;directory"] {
		if got, err := os.ReadFile(filepath.Join(root, "x", name)); err != nil || string(got) != string(want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if err := envexec.Write([]string{"A=y@azurekeyvault;directory"}, brokerapi.Response{
		Directories: map[string]map[string][]byte{"y@azurekeyvault;directory": {}},
	}, root); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(filepath.Join(root, "y")); err != nil || len(entries) != 0 {
		t.Errorf("a directory without parts: %d files, %v", len(entries), err)
	}
}
