// Command run runs stress-ng's stressors and prints what differs from Linux.
//
//	go run ./tests/suites/stressng/run [-record] [-on linux|host|kiln] [-v] [STRESSOR...]
//
// Some stressors change the machine (the clock, the CPUs that are online), so what is
// recorded is Debian's kernel in QEMU, never the host's.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"kiln/tests/suites"
	"kiln/tests/suites/jobs"
	"kiln/tests/suites/stressng"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func run() error {
	record := flag.Bool("record", false, "write the results to linux/")
	on := flag.String("on", "kiln", "where: kiln, linux or host")
	verbose := flag.Bool("v", false, "print what every stressor says")
	flag.Parse()
	names, err := flag.Args(), error(nil)
	if len(names) == 0 {
		if names, err = stressng.Stressors(); err != nil {
			return err
		}
	}
	dir, err := stressng.Dir()
	if err != nil {
		return err
	}
	ds, err := suites.ReadDifferences(filepath.Join(dir, "differences.txt"))
	if err != nil {
		return err
	}
	start := time.Now()
	u, said, err := stressng.Run(context.Background(), jobs.Runners[*on], names, func(s string) { fmt.Println(s) })
	if err != nil {
		return err
	}
	n := map[suites.Outcome]int{}
	for _, name := range names {
		n[u[name]]++
		if *verbose || u[name] == suites.Fail {
			fmt.Printf("== %s: %s, status %d\n%s", name, u[name], said[name].Status, said[name].Output)
		}
	}
	fmt.Println(n, time.Since(start).Round(time.Second))
	file := filepath.Join(dir, "linux", stressng.Unit+".txt")
	linux, err := suites.ReadUnit(file)
	if *record {
		if err != nil {
			linux = suites.Unit{}
		}
		maps.Copy(linux, u)
		return linux.Write(file)
	}
	if err != nil {
		return err
	}
	for _, d := range suites.Compare(stressng.Unit, linux, u, ds, true) {
		fmt.Println(" ", d)
	}
	return nil
}
