// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// files are what the placeholders of a container ask for, by directory and name below
// its volume.
type files struct {
	asked       bool // there may be none all the same: what they ask for need not exist
	directories map[string]map[string]content
}

// content is what is in a file, and who asked for it first.
type content struct {
	data []byte
	by   string
}

// clashError is about two placeholders that ask for one file.
type clashError struct{ path, one, other string }

func (e *clashError) Error() string {
	return fmt.Sprintf("%s and %s ask for the same file, %s, with different contents: leave one of them out", e.one, e.other, e.path)
}

// add notes the files of one placeholder.
func (f *files) add(variable string, p placeholder.Placeholder, entries map[string][]byte) error {
	if f.directories == nil {
		f.directories = map[string]map[string]content{}
	}
	dir := f.directories[p.Name]
	if dir == nil {
		dir = map[string]content{}
		f.directories[p.Name] = dir
	}
	p.Default = "" // which may be secret
	by := fmt.Sprintf("%s (%s)", variable, p)
	for name, data := range entries {
		if !placeholder.IsFileName(name) {
			return errAnswer
		}
		before, twice := dir[name]
		if twice && !bytes.Equal(before.data, data) {
			return &clashError{path: p.Name + "/" + name, one: before.by, other: by}
		}
		if !twice {
			dir[name] = content{data, by}
		}
	}
	return nil
}

// filesError says why a container has not its files.
type filesError struct {
	root string
	err  error
}

func (e *filesError) Error() string {
	if errors.Is(e.err, errNoVolume) {
		return fmt.Sprintf("%v at %s, where placeholders with ;file or ;directory put their files: "+
			"the Env Injector mounts it when it admits a pod, so create the pod again", e.err, e.root)
	}
	return fmt.Sprintf("cannot write the container's files to %s: %s", e.root, filesReason(e.err))
}

func (e *filesError) Unwrap() error { return e.err }

var errNoVolume = errors.New("no volume in memory is mounted")

func filesReason(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "no space is left in the volume: leave some files out, and let the program put nothing there"
	case errors.Is(err, syscall.EROFS):
		return "it is mounted read-only, which is not how the Env Injector mounts it"
	case errors.Is(err, os.ErrPermission):
		return "the container's user may not write there, or not remove what was there before"
	default:
		return reasonOf(err).Error()
	}
}

// write makes the files, for the process's user alone to read. It is the one place where
// values reach a file system, which therefore must be memory.
func (f files) write(root string) error {
	if !f.asked {
		return nil
	}
	if err := f.fill(root); err != nil {
		return &filesError{root, err}
	}
	return nil
}

// fill replaces what is there from an earlier start. A probe or a hook may run the
// wrapper beside the program: it takes the files as the program has left them.
func (f files) fill(root string) error {
	volume, err := open(root)
	if err != nil {
		return err
	}
	defer func() { _ = volume.Close() }()
	others := alive(filepath.Join(root, started))
	if len(others) == 0 {
		err = f.replace(volume)
	}
	if err != nil {
		return err
	}
	lines := strings.Join(append(others, life("self")), "\n")
	return appear(filepath.Join(root, started), 0o400, strings.NewReader(lines))
}

func (f files) replace(volume *os.File) error {
	names, err := volume.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(volume.Name(), name)); err != nil {
			return err
		}
	}
	for name, dir := range f.directories {
		if err := makeDirectory(filepath.Join(volume.Name(), name), dir); err != nil {
			return err
		}
	}
	return nil
}

// tmpfs is the kernel's TMPFS_MAGIC.
const tmpfs = 0x01021994

// open returns the volume, which is this process's until it is closed. Of several
// that start at once, a hook for one, the first does the work.
func open(root string) (*os.File, error) {
	volume, err := os.Open(root) //nolint:gosec // the path is a constant outside tests
	if err != nil {
		return nil, errNoVolume
	}
	fd := int(volume.Fd())
	var fs syscall.Statfs_t
	if err := syscall.Fstatfs(fd, &fs); err != nil || int64(fs.Type) != tmpfs { //nolint:unconvert // it has other sizes on other machines
		_ = volume.Close()
		return nil, errNoVolume
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX); err != nil {
		_ = volume.Close()
		return nil, err
	}
	// Kubernetes lets everybody write there. Where the process is root, a user that the
	// program changes to must not be able to exchange what root reads.
	_ = volume.Chmod(0o755)
	return volume, nil
}

func makeDirectory(path string, dir map[string]content) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o700); err != nil { //nolint:gosec // a directory; the umask may have closed it to us
		return err
	}
	for name, file := range dir {
		if err := appear(filepath.Join(path, name), 0o400, bytes.NewReader(file.data)); err != nil {
			return err
		}
	}
	return nil
}

// started is a file beside the directories, in which no name of one begins with a dot.
// It lists the processes that these files were given to, one a line.
const started = ".start"

// alive lists those that run still, but for this one. The file counts only as ours:
// another user of the container must not keep in it what he has put there.
func alive(path string) []string {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
		return nil
	}
	text, _ := os.ReadFile(path) //nolint:gosec // the path is a constant outside tests
	var list []string
	self := life("self")
	for line := range strings.SplitSeq(string(text), "\n") {
		pid, _, _ := strings.Cut(line, " ")
		if line != "" && line != self && line == life(pid) {
			list = append(list, line)
		}
	}
	return list
}

// life is a process's number and when it began, in ticks since the machine started
// (proc_pid_stat(5), fields 1 and 22), which no other process has had. Both stay when it
// becomes the program.
func life(pid string) string {
	stat, err := os.ReadFile("/proc/" + pid + "/stat") //nolint:gosec // a process's own user may read whatever this may be
	behind := bytes.LastIndexByte(stat, ')')           // of the program's name, which may hold anything
	if err != nil || behind < 0 {
		return ""
	}
	number, _, _ := bytes.Cut(stat, []byte(" "))
	fields := strings.Fields(string(stat[behind+1:]))
	const state, start = 0, 19 // the third field, and the twenty-second
	if len(fields) <= start || fields[state] == "Z" {
		return ""
	}
	return string(number) + " " + fields[start]
}
