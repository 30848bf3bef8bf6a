package hosted

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// item is a subtest of a long list.
type item struct {
	name string
	run  func(t *testing.T)
}

// partEnv is "I/N" in a process that runs one part in N of a list.
const partEnv = "KILN_PART"

// How many processes share a list: most of a case's time is waiting, and where a call is
// missing nearly all.
const (
	fewParts  = 3
	manyParts = 8
)

// inParts runs the items as subtests, in processes beside each other that share the list:
// a process is one machine at a time, whose devices, locks and marks are the process's, and
// what a machine leaves behind (its goroutines have no end) makes the collector slow after
// some hundred.
func inParts(t *testing.T, parts int, items []item) {
	if s := os.Getenv(partEnv); s != "" {
		var i, n int
		if _, err := fmt.Sscanf(s, "%d/%d", &i, &n); err != nil {
			t.Fatal(err)
		}
		for k := i; k < len(items); k += n {
			t.Run(items[k].name, items[k].run)
		}
		return
	}
	pattern := "^" + t.Name() + "$"
	if f := flag.Lookup("test.run").Value.String(); strings.Contains(f, "/") {
		pattern = f
	}
	results := map[string]*result{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run", pattern, "-test.v", "-test.timeout", "25m", fmt.Sprint("-test.short=", testing.Short()))
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d/%d", partEnv, i, parts))
			out, err := cmd.CombinedOutput()
			mu.Lock()
			defer mu.Unlock()
			if !parse(out, t.Name(), results) && err != nil {
				t.Errorf("part %d: %v\n%s", i, err, tail(string(out)))
			}
		})
	}
	wg.Wait()
	for _, it := range items {
		t.Run(it.name, func(t *testing.T) {
			switch r := results[it.name]; {
			case r == nil || r.verdict == "":
				t.Error("its process ended before")
			case r.verdict == "SKIP":
				t.Skip(r.output)
			case r.verdict == "FAIL":
				t.Errorf("\n%s", r.output)
			}
		})
	}
}

// result is what a process said of a subtest.
type result struct{ verdict, output string }

var (
	ranLine     = regexp.MustCompile(`^=== RUN +(\S+)$`)
	verdictLine = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \(`)
)

// parse reads the output of `-test.v` and says whether all of the test's subtests came to
// a verdict and one of them failed, so that the process's status is explained.
func parse(out []byte, test string, into map[string]*result) (explained bool) {
	var at *result
	started := map[string]*result{}
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 64<<20)
	for sc.Scan() {
		line := sc.Text()
		if m := ranLine.FindStringSubmatch(line); m != nil {
			at = nil
			if name, ok := strings.CutPrefix(m[1], test+"/"); ok {
				at = &result{}
				started[name] = at
			}
			continue
		}
		if m := verdictLine.FindStringSubmatch(line); m != nil {
			if name, ok := strings.CutPrefix(m[2], test+"/"); ok && started[name] != nil {
				started[name].verdict = m[1]
				explained = explained || m[1] == "FAIL"
			}
			at = nil
			continue
		}
		if at != nil {
			at.output += line + "\n"
		}
	}
	for name, r := range started {
		into[name] = r
		if r.verdict == "" {
			explained = false
		}
	}
	return explained
}
