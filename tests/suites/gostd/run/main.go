// Command run runs the tests of packages of Go's standard library and prints what differs.
//
//	go run ./tests/suites/gostd/run [-record] [-on host|linux|kiln] [-run EXPR] [-o FILE] PACKAGE...
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"kiln/tests/suites"
	"kiln/tests/suites/gostd"
	"kiln/tests/suites/jobs"
)

func main() {
	record := flag.Bool("record", false, "write the results to linux/")
	on := flag.String("on", "kiln", "where: kiln, host or linux")
	expr := flag.String("run", "", "which tests")
	out := flag.String("o", "", "file for what the tests say")
	flag.Parse()
	runner := jobs.Runners[*on]
	dir, err := gostd.Dir()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ds, err := suites.ReadDifferences(filepath.Join(dir, "differences.txt"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	pkgs := flag.Args()
	if len(pkgs) == 0 {
		pkgs = gostd.Packages
	}
	for _, pkg := range pkgs {
		start := time.Now()
		r, err := gostd.Run(context.Background(), runner, pkg, *expr)
		if r != nil && *out != "" {
			os.WriteFile(*out, []byte(r.Output), 0o644)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", pkg, err)
		}
		if r == nil {
			continue
		}
		n := map[suites.Outcome]int{}
		for _, o := range r.Unit {
			n[o]++
		}
		fmt.Println(pkg, n, r.Notes, time.Since(start).Round(time.Second))
		file := filepath.Join(dir, "linux", gostd.Unit(pkg)+".txt")
		if *record {
			if err := r.Unit.Write(file); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			continue
		}
		linux, err := suites.ReadUnit(file)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		for _, d := range suites.Compare(gostd.Unit(pkg), linux, r.Unit, ds, *expr != "") {
			fmt.Println(" ", d)
		}
	}
}
