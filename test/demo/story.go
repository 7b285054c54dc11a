// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// A story prints what happens for a person to follow: chapters, steps, the
// command that a user would type, and what came of it. On a terminal it uses
// colour, elsewhere none.
type story struct {
	out    io.Writer
	colour bool
	start  time.Time
	steps  int
}

func newStory(out *os.File) *story {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &story{out: out, colour: terminal && os.Getenv("NO_COLOR") == "", start: time.Now()}
}

// The few colours: SGR codes of ECMA-48.
const (
	bold  = "1"
	faint = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (s *story) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// print ignores what a person's terminal does not take: there is nobody to tell.
func (s *story) print(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format, args...) }

func (s *story) chapter(title string) {
	s.print("\n%s\n", s.paint(bold, title))
}

func (s *story) step(what string) {
	s.steps++
	s.print("\n%s %s\n", s.paint(bold, fmt.Sprintf("%d.", s.steps)), what)
}

// typed shows a command as a user would type it.
func (s *story) typed(command string) {
	s.print("   %s\n", s.paint(cyan, "$ "+strings.ReplaceAll(strings.TrimSpace(command), "\n", "\n   > ")))
}

// shown is output of a command, at most limit lines of it.
func (s *story) shown(output string, limit int) {
	lines := strings.Split(strings.TrimRight(output, "\n"), "\n")
	for i, line := range lines {
		if i == limit {
			s.print("   %s\n", s.paint(faint, fmt.Sprintf("… %d more lines", len(lines)-limit)))
			return
		}
		s.print("   %s\n", s.paint(faint, line))
	}
}

func (s *story) proved(format string, args ...any) {
	s.print("   %s\n", s.paint(green, "✓ "+fmt.Sprintf(format, args...)))
}

func (s *story) failed(err error, look string) {
	s.print("\n%s\n", s.paint(red, "✗ "+err.Error()))
	if look != "" {
		s.print("  Where to look: %s\n", look)
	}
}

func (s *story) elapsed() time.Duration { return time.Since(s.start).Round(time.Second) }
