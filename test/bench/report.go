// SPDX-License-Identifier: Apache-2.0

// Package bench has what measurements of whole processes share: the figures and
// what they must reach, and readings of a process, of its metrics and of an API
// server's audit log. The programs below it say what is measured.
package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Figure is one number that a program prints.
type Figure struct {
	Name string
	Unit string
	// Most is what the number may be at most; NoGoal is for a number that only informs.
	Most float64
	// Below says that Most itself is too much.
	Below bool
	// Least, where it is set, is what the number must be at least, and Most says nothing.
	Least float64
}

// NoGoal is the Most of a figure that only informs.
const NoGoal = math.MaxFloat64

func (f Figure) reached(number float64) bool {
	if f.Least > 0 {
		return number >= f.Least
	}
	return number < f.Most || number == f.Most && !f.Below
}

func (f Figure) goal() string {
	switch {
	case f.Least > 0:
		return "at least " + format(f.Least)
	case f.Most == NoGoal:
		return ""
	case f.Below:
		return "less than " + format(f.Most)
	default:
		return "at most " + format(f.Most)
	}
}

// Report prints figures as they come and remembers which missed their goal. It is
// for one goroutine.
type Report struct {
	out, notes io.Writer
	figures    []Figure
	only       string
	told       map[string]result
	missed     []string
	began      time.Time
}

// result is what the table says of a figure.
type result struct{ number, remark string }

// NewReport prints lines of figures to out and everything else to notes. Figures
// whose name does not start with only are left out.
func NewReport(out, notes io.Writer, figures []Figure, only string) *Report {
	return &Report{out: out, notes: notes, figures: figures, only: only, told: map[string]result{}, began: time.Now()}
}

// Wants says whether any figure whose name starts so is asked for.
func (r *Report) Wants(prefixes ...string) bool {
	return slices.ContainsFunc(r.figures, func(f Figure) bool {
		return strings.HasPrefix(f.Name, r.only) &&
			slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(f.Name, p) })
	})
}

// Tell prints a figure. Its name must be one of those that the report was made for.
func (r *Report) Tell(name string, number float64) {
	f := r.figure(name)
	if !r.open(name) {
		return
	}
	_, _ = fmt.Fprintln(r.out, "BENCH", f.Name, format(number), f.Unit)
	if f.reached(number) {
		r.told[name] = result{number: format(number)}
	} else {
		r.told[name] = result{format(number), "missed"}
		r.missed = append(r.missed, fmt.Sprintf("%s is %s %s, want %s", f.Name, format(number), f.Unit, f.goal()))
	}
}

// Fail says of each figure that has not been told that it could not be measured.
func (r *Report) Fail(err error, names ...string) {
	for _, name := range names {
		if r.open(name) {
			r.told[name] = result{"-", "failed"}
			r.Note("BENCH %s failed: %v", name, err)
			r.missed = append(r.missed, fmt.Sprintf("%s could not be measured: %v", name, err))
		}
	}
}

// Note says something that is no figure.
func (r *Report) Note(text string, args ...any) {
	_, _ = fmt.Fprintf(r.notes, "# "+text+"\n", args...)
}

// Conclude sets what was measured against the goals, and says whether none was missed.
func (r *Report) Conclude() bool {
	r.table()
	if len(r.missed) == 0 {
		r.Note("no figure misses its goal")
		return true
	}
	r.Note("%d figures miss their goal:", len(r.missed))
	for _, sentence := range r.missed {
		r.Note("  %s", sentence)
	}
	return false
}

// table lists the figures in the order in which the program names them.
func (r *Report) table() {
	w := tabwriter.NewWriter(r.notes, 0, 0, 2, ' ', 0)
	for _, f := range r.figures {
		if it, told := r.told[f.Name]; told {
			_, _ = fmt.Fprintf(w, "# %s\t%s\t%s\t%s\t%s\n", f.Name, it.number, f.Unit, f.goal(), it.remark)
		}
	}
	_ = w.Flush()
}

func (r *Report) figure(name string) Figure {
	i := slices.IndexFunc(r.figures, func(f Figure) bool { return f.Name == name })
	if i < 0 {
		panic("no figure is called " + name)
	}
	return r.figures[i]
}

func (r *Report) open(name string) bool {
	return strings.HasPrefix(name, r.only) && r.told[name] == result{}
}

// format keeps three decimals, which is more than any figure is exact to.
func format(number float64) string {
	return strconv.FormatFloat(math.Round(number*1000)/1000, 'f', -1, 64)
}

// Percentile is the smallest value that at least p percent of the values do not
// exceed (nearest rank). There must be a value.
func Percentile(values []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// PerMinute is a rate.
func PerMinute(n float64, in time.Duration) float64 { return n / in.Minutes() }
