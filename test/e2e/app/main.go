// SPDX-License-Identifier: Apache-2.0

// Command app is the application of the end-to-end tests: one static binary in an
// image that holds nothing else. It tells what it was started with, values as
// SHA-256 alone, and then does what its first argument says.
//
//	app report…    stay until SIGTERM, then exit with 43
//	app exit N     exit with N
//	app check NAME SHA-256 WHO
//	               exit with 0 if the variable has that digest, and tell the first
//	               process's log WHO has checked it
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// onSIGTERM tells an application that ended by itself from one that was killed
// (137, 143) and from the wrapper (125 to 127).
const onSIGTERM = 43

// A report is the one line of output, behind the word REPORT.
type report struct {
	Args         []string          `json:"args"`
	PID          int               `json:"pid"`
	UID          int               `json:"uid"`
	Dir          string            `json:"dir"`
	Digests      map[string]string `json:"digests"`      // SHA-256 of each variable
	Placeholders []string          `json:"placeholders"` // variables that still hold one
	Proc         []string          `json:"proc"`         // names in /proc/1/environ
	Writable     bool              `json:"writable"`     // the root file system
	CoreLimit    uint64            `json:"coreLimit"`
	Files        map[string]file   `json:"files"` // those that placeholders ask for, by path below their volume
	// Surroundings is what a program inherits besides, by where it was read. Numbers of
	// pipes, which differ from one container to the next, are left out.
	Surroundings map[string]string `json:"surroundings"`
}

type file struct {
	SHA256 string `json:"sha256"`
	Mode   string `json:"mode"` // of the file, and of its directory
	UID    uint32 `json:"uid"`
}

// The kernel shows a process's timerslack_ns to no other thread of it than the first, which
// only an init can keep.
func init() { runtime.LockOSThread() } //nolint:gochecknoinits // see above

func main() {
	if len(os.Args) == 5 && os.Args[1] == "check" {
		check(os.Args[2], os.Args[3], os.Args[4])
		return
	}
	if err := json.NewEncoder(prefixed{}).Encode(look()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if len(os.Args) == 3 && os.Args[1] == "exit" {
		code, _ := strconv.Atoi(os.Args[2])
		os.Exit(code)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	os.Exit(onSIGTERM)
}

func check(name, want, who string) {
	sum := sha256.Sum256([]byte(os.Getenv(name)))
	if hex.EncodeToString(sum[:]) != want {
		fmt.Println("it is another value")
		os.Exit(1)
	}
	log, err := os.OpenFile("/proc/1/fd/1", os.O_WRONLY, 0)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_, _ = fmt.Fprintln(log, "CHECKED", who)
}

// files passes over what begins with a dot, which no name does.
func files(root string) map[string]file {
	found := map[string]file{}
	paths, _ := filepath.Glob(root + "/[^.]*/*")
	for _, path := range paths {
		data, err := os.ReadFile(path)
		info, errInfo := os.Stat(path)
		dir, errDir := os.Stat(filepath.Dir(path))
		if err := errors.Join(err, errInfo, errDir); err != nil {
			found[path] = file{Mode: err.Error()}
			continue
		}
		sum := sha256.Sum256(data)
		found[strings.TrimPrefix(path, root+"/")] = file{
			hex.EncodeToString(sum[:]), info.Mode().String() + " " + dir.Mode().String(), info.Sys().(*syscall.Stat_t).Uid,
		}
	}
	return found
}

type prefixed struct{}

func (prefixed) Write(line []byte) (int, error) {
	_, err := os.Stdout.Write(append([]byte("REPORT "), line...))
	return len(line), err
}

// inherited are files of a process that tell what its parent left it. Of status and
// limits each line is an entry of its own.
var inherited = []string{"coredump_filter", "oom_score_adj", "timerslack_ns", "personality", "limits", "status"}

// ofItself are the lines of status that are about the process and no legacy.
var ofItself = regexp.MustCompile(`^(Name|State|Tgid|Ngid|Pid|PPid|FDSize|NStgid|NSpid|Vm|Rss|Huge|Threads|SigQ|SigCgt|SigBlk|SigPnd|ShdPnd|voluntary|nonvoluntary|Mems|Cpus|Kthread)`)

func surroundings() map[string]string {
	s := map[string]string{}
	for _, name := range inherited {
		text, err := os.ReadFile("/proc/self/" + name)
		if err != nil {
			text = []byte(err.Error())
		}
		for line := range strings.Lines(string(text)) {
			if key, value, is := strings.Cut(line, ":"); is && name == "status" {
				if !ofItself.MatchString(key) {
					s[name+" "+key] = strings.TrimSpace(value)
				}
				continue
			}
			key, _, _ := strings.Cut(line, "  ")
			if name != "limits" {
				key = ""
			}
			s[strings.TrimSpace(name+" "+key)] = strings.TrimSpace(line)
		}
	}
	stat, _ := os.ReadFile("/proc/self/stat")
	if fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])); len(fields) > 38 {
		s["session"] = strings.Join(fields[2:5], " ") // group, session, terminal
		s["priority"] = strings.Join(append(fields[15:17], fields[37:39]...), " ")
	}
	files, _ := os.ReadDir("/proc/self/fd")
	for _, file := range files {
		if to, err := os.Readlink("/proc/self/fd/" + file.Name()); err == nil { // else it is that of the directory
			kind, _, _ := strings.Cut(to, "[")
			s["file "+file.Name()] = kind
		}
	}
	return s
}

func look() report {
	r := report{Args: os.Args, PID: os.Getpid(), UID: os.Getuid(), Digests: map[string]string{}, Surroundings: surroundings()}
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		sum := sha256.Sum256([]byte(value))
		r.Digests[name] = hex.EncodeToString(sum[:])
		if strings.Contains(value, "@azurekeyvault") {
			r.Placeholders = append(r.Placeholders, name)
		}
	}
	r.Dir, _ = os.Getwd()
	environ, err := os.ReadFile("/proc/1/environ")
	if err != nil {
		r.Proc = []string{"unreadable"}
	}
	for entry := range strings.SplitSeq(strings.TrimRight(string(environ), "\x00"), "\x00") {
		name, _, _ := strings.Cut(entry, "=")
		r.Proc = append(r.Proc, name)
	}
	if f, err := os.Create("/probe"); err == nil {
		r.Writable = true
		_ = f.Close()
	}
	r.Files = files("/var/run/secrets/azure-keyvault")
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_CORE, &limit) == nil {
		r.CoreLimit = limit.Cur
	}
	return r
}
