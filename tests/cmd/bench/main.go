// Bench is `make bench`: the same static programs and servers on Kiln and in a Linux
// guest on the same QEMU line in the same run, as a table with the ratio and this
// step's limit. Costs are guest instructions where the clock can count them
// (-icount shift=0,sleep=off, or the plugin tests/bench/insncount.c) and seconds
// otherwise. It exits 1 if a limit does not hold.
//
//	bench [ROW...]   only the rows whose name begins so
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"kiln/tests/linuxguest"
	"kiln/tests/vmtest"
)

// row is one line of the table. Limit 0 means that the row only informs.
type row struct {
	measure string
	kiln    float64
	linux   float64 // 0: not measured
	limit   float64
	ratio   bool    // the limit is on kiln/linux
	most    float64 // besides, kiln is at most this; 0: no such limit
	atLeast bool    // the limit is a floor
	unit    string
	rivals  string
	err     error
}

func (r *row) value() float64 {
	if r.ratio && r.linux != 0 {
		return r.kiln / r.linux
	}
	return r.kiln
}

func (r *row) holds() bool {
	switch {
	case r.err != nil, r.most != 0 && r.kiln > r.most:
		return false
	case r.limit == 0:
		return true
	case r.atLeast:
		return r.value() >= r.limit
	}
	return r.value() <= r.limit
}

type bench struct {
	ctx    context.Context
	dir    string // scratch
	root   string
	pack   string
	linux  *linuxguest.Kernel
	plugin string
	hello  string
	micro  string
	procs  string
	ops    string
	rows   []row
	want   []string
}

func main() {
	b := &bench{ctx: context.Background(), want: os.Args[1:]}
	if err := b.setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	defer os.RemoveAll(b.dir)
	b.section("boot", b.boot)
	b.section("first output", b.firstOutput)
	b.section("size", b.sizes)
	b.section("memory", b.memory)
	b.section("calls", b.calls)
	b.section("processes", b.processes)
	b.section("operations", b.operations)
	b.section("cpus", b.cpus)
	b.section("load", b.load)
	if !b.print() {
		os.RemoveAll(b.dir)
		os.Exit(1)
	}
}

func (b *bench) section(name string, f func() []row) {
	if len(b.want) > 0 {
		found := false
		for _, w := range b.want {
			found = found || strings.HasPrefix(name, w)
		}
		if !found {
			return
		}
	}
	fmt.Fprintf(os.Stderr, "measuring: %s\n", name)
	b.rows = append(b.rows, f()...)
}

func (b *bench) setUp() (err error) {
	if b.root, err = vmtest.Root(); err != nil {
		return err
	}
	if b.pack, err = vmtest.Pack(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "kilnbench"); err != nil {
		return err
	}
	if b.linux, err = linuxguest.Get(b.ctx); err != nil {
		return err
	}
	src := filepath.Join(b.root, "tests", "bench")
	b.plugin, b.hello = filepath.Join(b.dir, "insncount.so"), filepath.Join(b.dir, "hello")
	b.micro, b.procs, b.ops = filepath.Join(b.dir, "micro"), filepath.Join(b.dir, "procs"), filepath.Join(b.dir, "ops")
	for _, c := range [][]string{
		{"-shared", "-fPIC", "-O2", "-o", b.plugin, filepath.Join(src, "insncount.c")},
		{"-static", "-O2", "-o", b.hello, filepath.Join(src, "hello.c")},
		{"-static", "-O2", "-o", b.micro, filepath.Join(src, "micro.c")},
		{"-static", "-O2", "-o", b.procs, filepath.Join(src, "procs.c")},
		{"-static", "-O2", "-pthread", "-o", b.ops, filepath.Join(src, "ops.c")},
	} {
		if out, err := exec.Command("gcc", c...).CombinedOutput(); err != nil {
			return fmt.Errorf("gcc %s: %v\n%s", strings.Join(c, " "), err, out)
		}
	}
	return nil
}

func (b *bench) print() bool {
	w := tabwriter.NewWriter(os.Stdout, 2, 8, 2, ' ', 0)
	fmt.Fprintln(w, "measure\tKiln\tLinux guest\tratio\tlimit\trivals\t")
	ok := true
	for i := range b.rows {
		r := &b.rows[i]
		if r.err != nil {
			fmt.Fprintf(w, "%s\tfailed: %v\t\t\t\t\tFAIL\n", r.measure, r.err)
			ok = false
			continue
		}
		linux, ratio, limit, mark := "-", "-", "-", ""
		if r.linux != 0 {
			linux, ratio = num(r.linux, r.unit), fmt.Sprintf("%.3f", r.kiln/r.linux)
		}
		if r.limit != 0 {
			u := r.unit
			if r.ratio {
				u = ""
			}
			limit = num(r.limit, u)
			if r.atLeast {
				limit = ">= " + limit
			}
			if r.most != 0 {
				limit += ", " + num(r.most, r.unit)
			}
			if mark = "ok"; !r.holds() {
				mark, ok = "FAIL", false
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.measure, num(r.kiln, r.unit), linux, ratio, limit, r.rivals, mark)
	}
	w.Flush()
	return ok
}

func num(v float64, unit string) string {
	switch {
	case v >= 1e6 && unit == "insns":
		return fmt.Sprintf("%.2f M", v/1e6)
	case unit == "insns":
		return fmt.Sprintf("%.0f %s", v, unit)
	case v == float64(int64(v)):
		return strings.TrimSpace(fmt.Sprintf("%.0f %s", v, unit))
	}
	return strings.TrimSpace(fmt.Sprintf("%.3g %s", v, unit))
}
