// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// maxWord is how much of a termination message the kubelet keeps.
const maxWord = 4096

// newLogger logs at level (error, warn, info, debug; others are info) in format
// (text or fmt; others are JSON).
func newLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	if l.UnmarshalText([]byte(level)) != nil {
		l = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: l}
	if format == "text" || format == "fmt" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// lastWord is what a person reads: one line, not longer than is kept.
func lastWord(err error) string {
	word := "azure-keyvault-env: " + oneLine(err.Error())
	if len(word) <= maxWord {
		return word
	}
	word = word[:maxWord-len("…")]
	for !utf8.ValidString(word) {
		word = word[:len(word)-1]
	}
	return word + "…"
}

// oneLine turns line breaks (errors.Join makes them) into semicolons and drops
// whatever a terminal would act on.
func oneLine(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\n", "; ")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text)
}

// leaveMessage shows the word in `kubectl describe pod`. The file is made by the
// kubelet; where there is none, nobody would read it.
func leaveMessage(path, word string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0) //nolint:gosec // who chose the path may write there: the container's author
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	_, _ = f.WriteString(word) // the log has it too
}

// exitStatus follows the package's table.
func exitStatus(err error) int {
	if stopped, is := errors.AsType[*stoppedError](err); is {
		return exitSignal + int(stopped.signal)
	}
	if _, ok := errors.AsType[*startError](err); !ok {
		return ExitFailed
	}
	if errors.Is(err, syscall.ENOENT) {
		return ExitNotFound
	}
	return ExitNotExecutable
}
