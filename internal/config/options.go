// SPDX-License-Identifier: Apache-2.0

// Package config turns the flags and environment of each binary into one
// validated struct. Parsing is pure: arguments and variables go in, a struct or
// every problem at once comes out. Values that must stay secret have no flag
// here; they come from files that the struct names.
//
// A flag outranks its variable, a variable its default.
package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrHelp is what parsing yields when help was asked for and printed.
var ErrHelp = flag.ErrHelp

// options collects what one binary understands. Each option is declared once;
// the declaration parses, documents and defaults it.
type options struct {
	flags *flag.FlagSet
	env   map[string]string // flag → variable
	order []string
}

func newOptions(binary, about string, output io.Writer) *options {
	o := &options{flags: flag.NewFlagSet(binary, flag.ContinueOnError), env: map[string]string{}}
	o.flags.SetOutput(output)
	o.flags.Usage = func() { o.usage(about) }
	return o
}

func (o *options) declare(name, env string) {
	o.env[name] = env
	o.order = append(o.order, name)
}

func (o *options) text(p *string, name, env, value, usage string) {
	o.declare(name, env)
	o.flags.StringVar(p, name, value, usage)
}

func (o *options) boolean(p *bool, name, env string, value bool, usage string) {
	o.declare(name, env)
	o.flags.BoolVar(p, name, value, usage)
}

func (o *options) integer(p *int, name, env string, value int, usage string) {
	o.declare(name, env)
	o.flags.IntVar(p, name, value, usage)
}

// duration reads a Go duration, or a plain number as seconds.
func (o *options) duration(p *time.Duration, name, env string, value time.Duration, usage string) {
	o.declare(name, env)
	*p = value
	o.flags.Var((*seconds)(p), name, usage)
}

// seconds is a duration whose bare numbers count seconds.
type seconds time.Duration

func (s *seconds) String() string { return time.Duration(*s).String() }

func (s *seconds) Set(text string) error {
	if n, err := strconv.Atoi(text); err == nil {
		*s = seconds(time.Duration(n) * time.Second)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return errors.New("want a number of seconds or a duration such as 1m30s")
	}
	*s = seconds(d)
	return nil
}

// parse reads arguments, then variables for what the arguments left alone.
func (o *options) parse(args []string, getenv func(string) string) error {
	if err := o.flags.Parse(args); err != nil {
		return err // flag has printed it, with the usage
	}
	if o.flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: this program takes flags only", o.flags.Arg(0))
	}
	given := map[string]bool{}
	o.flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var errs []error
	for _, name := range o.order {
		env := o.env[name]
		if given[name] || env == "" {
			continue
		}
		if text := getenv(env); text != "" {
			if err := o.flags.Set(name, text); err != nil {
				errs = append(errs, fmt.Errorf("variable %s: not a valid value for --%s", env, name))
			}
		}
	}
	return errors.Join(errs...)
}

func (o *options) usage(about string) {
	w := o.flags.Output()
	_, _ = fmt.Fprintf(w, "%s\n\nUsage: %s [flags]\n\n", about, o.flags.Name())
	for _, name := range o.order {
		f := o.flags.Lookup(name)
		var notes []string
		if f.DefValue != "" {
			notes = append(notes, "default "+f.DefValue)
		}
		if o.env[name] != "" {
			notes = append(notes, "variable "+o.env[name])
		}
		_, _ = fmt.Fprintf(w, "  --%s\n        %s", name, f.Usage)
		if len(notes) > 0 {
			_, _ = fmt.Fprintf(w, " (%s)", strings.Join(notes, ", "))
		}
		_, _ = fmt.Fprintln(w)
	}
}

// port, between and oneOf are checks that several binaries share.
func port(what string, number int) error {
	if number < 1 || number > 65535 {
		return fmt.Errorf("%s: %d is not a port", what, number)
	}
	return nil
}

func between(what string, got, least, most int) error {
	if got < least || got > most {
		return fmt.Errorf("%s: %d is not between %d and %d", what, got, least, most)
	}
	return nil
}

func oneOf(what, got string, want ...string) error {
	if slices.Contains(want, got) {
		return nil
	}
	return fmt.Errorf("%s: %q is not one of %s", what, got, strings.Join(want, ", "))
}
