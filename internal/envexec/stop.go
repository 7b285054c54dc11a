// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
)

// stops are the signals that end a container and that Go would answer with an exit
// status of its own or, for SIGQUIT, with the content of registers.
var stops = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM}

// stoppedError says which of them came before the program had started.
type stoppedError struct{ signal syscall.Signal }

func (e *stoppedError) Error() string {
	return fmt.Sprintf("stopped (%s) before the program was started", e.signal)
}

// untilStopped returns a context that ends with a stoppedError when a signal comes
// that is not ignored, and a function that gives the signals back to the program and
// says whether one came in the meantime.
func untilStopped(parent context.Context) (context.Context, func() error) {
	ctx, stop := context.WithCancelCause(parent)
	came, heard := make(chan os.Signal, 1), make(chan struct{})
	if heeded := slices.DeleteFunc(slices.Clone(stops), signal.Ignored); len(heeded) > 0 { // of none it would be all
		signal.Notify(came, heeded...)
	}
	go func() {
		defer close(heard)
		if s, ok := <-came; ok {
			number, _ := s.(syscall.Signal)
			stop(&stoppedError{number})
		}
	}()
	return ctx, sync.OnceValue(func() error {
		signal.Stop(came) // from here on a signal ends the process
		close(came)
		<-heard
		return context.Cause(ctx)
	})
}
