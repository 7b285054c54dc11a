// SPDX-License-Identifier: Apache-2.0

// Package envexec is the first process of an injected container: it asks the
// broker for the values behind the placeholders of its environment, fills them
// in, and becomes the program that the container is for. It links the standard
// library and the innermost packages only, and never stays: process id, signals,
// exit status and terminal are the kernel's business.
//
// It is configured by variables alone, because the arguments belong to the
// program. Admission sets
//
//	ENV_INJECTOR_CONTAINER           name of the container, for the broker
//	ENV_INJECTOR_BROKER              address:port of the broker, comma-separated, tried in order
//	ENV_INJECTOR_BROKER_SERVER_NAME  name in the broker's certificate
//	ENV_INJECTOR_BROKER_CA           PEM bundle that this certificate must chain to
//	ENV_INJECTOR_CORE_DUMPS          "allow" where the program may dump its memory
//	ENV_INJECTOR_TERMINATION_LOG     the container's terminationMessagePath, if it is not the usual
//
// and whoever writes the container may set
//
//	ENV_INJECTOR_RETRIES             how often to ask again, default 3
//	ENV_INJECTOR_WAIT_BEFORE_RETRY   seconds before the first retry, doubling, default 3
//	ENV_INJECTOR_LOG_LEVEL           error, warn, info (default) or debug
//	ENV_INJECTOR_LOG_FORMAT          json (default) or text
//
// The program sees none of these. All other variables, proxies and Go's own among
// them, and the image's trust store are for the program; the wrapper looks at none.
//
// When the program cannot start, one sentence on standard error and in the
// container's termination message says why, and the exit status is
//
//	125  the wrapper itself failed: no values, a missing setting
//	126  the program was found but cannot be executed
//	127  the program was not found
//	128+ the number of the signal that ended the wrapper before
//
// Nothing is started with a placeholder left in its environment. Where a placeholder
// asks for files, they are written anew at each start into a volume in memory, which
// admission mounts for this container alone, and the environment has their paths.
package envexec

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// The exit statuses of the wrapper's own, as a shell and env(1) have them.
const (
	ExitFailed        = 125
	ExitNotExecutable = 126
	ExitNotFound      = 127
	exitSignal        = 128 // and the signal's number
)

// World is all that the wrapper touches.
type World struct {
	Args           []string // the program's own name first, as in os.Args
	Environ        []string
	Stderr         io.Writer
	TokenFile      string
	FilesDir       string // where the files go that placeholders ask for; in memory
	TerminationLog string // written when it exists already
	Dial           func(ctx context.Context, network, address string) (net.Conn, error)
	Exec           func(path string, argv, environ []string) error
	// Source is where the values come from; nil is the broker.
	Source Source
	// UntilStopped returns a context that ends when a signal ends the container, and a
	// function that leaves signals alone again and says whether one came. Nil heeds none.
	UntilStopped func(context.Context) (context.Context, func() error)
}

// System is the world of a real container. It takes the environment away from this
// process, so that nothing in it is for the libraries that the wrapper is made of.
func System() World {
	environ := os.Environ()
	os.Clearenv()
	return World{
		Args:           os.Args,
		Environ:        environ,
		Stderr:         os.Stderr,
		TokenFile:      brokerapi.TokenFile,
		FilesDir:       brokerapi.FilesDir,
		TerminationLog: brokerapi.TerminationLog,
		Dial:           (&net.Dialer{}).DialContext,
		Exec:           syscall.Exec,
		UntilStopped:   untilStopped,
	}
}

func (w World) untilStopped() (context.Context, func() error) {
	if w.UntilStopped == nil {
		return context.Background(), func() error { return nil }
	}
	return w.UntilStopped(context.Background())
}

// Run becomes the program, or returns the exit status that says why not. With
// the arguments "copy DEST", and outside an injected container, it copies itself.
func Run(w World) int {
	log := newLogger(w.Stderr, variable(w.Environ, brokerapi.EnvLogLevel), variable(w.Environ, brokerapi.EnvLogFormat))
	var err error
	if dest, ok := copyDestination(w.Args, w.Environ); ok {
		if err = copySelf(dest); err == nil {
			log.Info("copied the wrapper", "to", dest)
			return 0
		}
	} else {
		err = attempt(w, log)
	}
	word := lastWord(err)
	log.Error("the container does not start", "error", word)
	leaveMessage(cmp.Or(variable(w.Environ, brokerapi.EnvTerminationLog), w.TerminationLog), word)
	return exitStatus(err)
}

// errBug is all that is said of a panic: its own text may have anything in it.
var errBug = errors.New("the wrapper has met a bug of its own: the log says where")

// attempt is start, but for a panic, which would print what is in registers.
func attempt(w World, log *slog.Logger) (err error) {
	defer func() {
		if recover() != nil {
			log.Error("the wrapper panicked", "at", callers())
			err = errBug
		}
	}()
	return start(w, log)
}

// callers lists who called whom, without arguments.
func callers() []string {
	var list []string
	counters := make([]uintptr, 32)
	frames := runtime.CallersFrames(counters[:runtime.Callers(3, counters)])
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		list = append(list, f.Function+":"+strconv.Itoa(f.Line))
	}
	return list
}

// start returns only when the program did not start.
func start(w World, log *slog.Logger) error {
	release := harden(variable(w.Environ, brokerapi.EnvCoreDumps) == brokerapi.CoreDumpsAllowed, log)
	ctx, stopped := w.untilStopped()
	defer func() { _ = stopped() }()
	if len(w.Args) < 2 {
		return errNoProgram
	}
	argv := w.Args[1:]
	answer, err := answers(ctx, w, log)
	if err != nil {
		return err
	}
	environ, files, err := fill(w.Environ, answer, w.FilesDir)
	if err == nil {
		err = files.write(w.FilesDir)
	}
	wipe(answer)
	if err != nil {
		return err
	}
	path, err := lookup(argv[0], variable(environ, "PATH"))
	if err != nil {
		return err
	}
	if err := kernelLimits().fits(path, argv, environ); err != nil {
		return &startError{program: argv[0], err: err}
	}
	if err := stopped(); err != nil {
		return err
	}
	log.Debug("starting the program", "path", path)
	release()
	return &startError{program: argv[0], err: w.Exec(path, argv, environ)}
}

// wipe empties the answer. The environment itself is made of strings, which
// nothing can empty; it dies with the process image a moment later.
func wipe(answer brokerapi.Response) {
	for _, v := range answer.Values {
		clear(v)
	}
	for _, files := range answer.Directories {
		for _, v := range files {
			clear(v)
		}
	}
}
