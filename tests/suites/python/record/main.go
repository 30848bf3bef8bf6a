// Record writes tests/suites/python/linux/MODULE.txt: what this host's Linux makes of each
// test of CPython's modules. It needs root. A test passes that passes in both of two runs.
//
//	go run ./tests/suites/python/record [MODULE[:PATTERN...]...]
//
// With patterns only the tests that match are recorded anew.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"kiln/tests/suites"
	"kiln/tests/suites/python"
)

func main() {
	if err := record(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func record(modules []string) error {
	if len(modules) == 0 {
		modules = python.Modules
	}
	dir, err := python.Dir()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "record-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	img := filepath.Join(tmp, "image")
	ctx := context.Background()
	if err := python.Bake(ctx, img); err != nil {
		return err
	}
	for _, what := range modules {
		m, _, part := strings.Cut(what, ":")
		file := filepath.Join(dir, "linux", m+".txt")
		var unit suites.Unit
		for range 2 {
			runs, err := python.Linux(ctx, img, what)
			if err != nil {
				return err
			}
			r := runs[m]
			if r == nil || !r.Ended {
				return fmt.Errorf("%s did not come to its end", m)
			}
			for id, d := range r.Details {
				if r.Unit[id] == suites.Fail {
					fmt.Printf("%s %s\n", id, d)
				}
			}
			if unit == nil {
				unit = r.Unit
				continue
			}
			for id, o := range r.Unit {
				if o != suites.Pass && unit[id] != suites.Fail {
					unit[id] = o
				}
			}
		}
		if part {
			old, err := suites.ReadUnit(file)
			if err != nil {
				return err
			}
			maps.Copy(old, unit)
			unit = old
		}
		if err := unit.Write(file); err != nil {
			return err
		}
		n := map[suites.Outcome]int{}
		for _, o := range unit {
			n[o]++
		}
		fmt.Printf("%s: %d passed, %d failed, %d skipped\n", m, n[suites.Pass], n[suites.Fail], n[suites.Skip])
	}
	return nil
}
