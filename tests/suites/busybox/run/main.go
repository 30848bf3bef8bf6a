// Command run runs busybox's applets and prints what differs from Linux.
//
//	go run ./tests/suites/busybox/run [-record] [-on linux|host|kiln] [APPLET...]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"kiln/tests/suites"
	"kiln/tests/suites/busybox"
	"kiln/tests/suites/jobs"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func run() error {
	record := flag.Bool("record", false, "write what was printed to output.txt")
	on := flag.String("on", "kiln", "where: kiln, linux or host")
	flag.Parse()
	said, err := busybox.Run(context.Background(), jobs.Runners[*on], busybox.Named(flag.Args()), func(s string) { fmt.Println(s) })
	if err != nil {
		return err
	}
	if *record {
		return busybox.Record(said)
	}
	linux, err := busybox.Recorded()
	if err != nil {
		return err
	}
	n := map[suites.Outcome]int{}
	for name, o := range busybox.Judge(said, linux) {
		n[o]++
		if o != suites.Pass {
			fmt.Printf("== %s\n%s", name, busybox.Diff(linux[name], said[name]))
		}
	}
	fmt.Println(n)
	return nil
}
