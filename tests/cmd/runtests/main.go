// Runtests is `make test`: formatting, vet, layering, unit tests, a race pass and
// the boots, beside which the fuzz targets run, with one closing line "N passed, N failed, N skipped". It exits
// non-zero if anything failed or nothing ran.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"kiln/apps"
	"kiln/capstan/catalogue"
	"kiln/tests/fuzztargets"
	"kiln/tests/rotation"
	"kiln/tests/vmtest"
)

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// onTwo are the boots that are made with two CPUs as well: one of each kind (ends, faults,
// memory, signals and vector state, threads, load on the network, catalogue, reset). The
// tests that are about several CPUs choose them themselves.
const onTwo = "TestExitStatus|TestWhatKills|TestProgramThatEats|TestVectorState|TestThreadProgresses|TestThreadAndFork|" +
	"TestWebServers|TestConnectionsThatDoNotRead|TestEveryWayOfLinking|TestCatalogue|TestOneBootAfterAnotherServes|TestRebootSystemCall"

type tally struct{ passed, failed, skipped int }

func main() {
	var n tally
	start := time.Now()
	n.command("gofmt", "sh", "-c", `f=$(gofmt -l $(git ls-files '*.go')); echo "$f"; test -z "$f"`)
	n.command("go vet", "go", "vet", "./...")
	// One QEMU at a time: packages run one after another where boots are involved.
	turn, _ := rotation.Turn()
	turns := []string{fmt.Sprintf("%s=%d", rotation.Env, turn)}
	n.goTest("unit", turns, append([]string{"-timeout", "15m", "-p", "2"}, nonBoot()...)...)
	n.goTest("race", []string{"CGO_ENABLED=1"}, append([]string{"-timeout", "15m", "-race"}, racePackages()...)...)
	fmt.Println(rotation.Say(catalogue.New(apps.FS).Names()))
	fuzzed := fuzz(turn)
	n.goTest("boots", turns, "-timeout", "40m", "-p", "1", "./tests/boot/...")
	n.goTest("boots with 2 CPUs", []string{"KILN_CPUS=2"}, "-timeout", "20m", "-run", onTwo, "./tests/boot")
	n.fuzzed(fuzzed())
	fmt.Printf("took %s\n", time.Since(start).Round(time.Second))
	fmt.Printf("%d passed, %d failed, %d skipped\n", n.passed, n.failed, n.skipped)
	if n.failed > 0 || n.passed == 0 {
		os.Exit(1)
	}
}

// fuzzTime is how long each fuzz target runs.
const fuzzTime = 20 * time.Second

// fuzz runs the fuzz targets in the time that the boots leave idle: of two processors that is
// most of one. What it returns ends them and gives the results.
func fuzz(turn int) func() []fuzztargets.Result {
	root, err := vmtest.Root()
	if err != nil {
		return func() []fuzztargets.Result { return []fuzztargets.Result{{Err: err}} }
	}
	ctx, cancel := context.WithCancel(context.Background())
	all := make(chan []fuzztargets.Result)
	go func() {
		var l []fuzztargets.Result
		for r := range fuzztargets.Background(ctx, root, turn, fuzzTime) {
			l = append(l, r)
		}
		all <- l
	}()
	return func() []fuzztargets.Result { cancel(); return <-all }
}

// fuzzed counts what the fuzz targets gave. Those that the boots left no time for are the
// first at another turn.
func (n *tally) fuzzed(l []fuzztargets.Result) {
	fmt.Printf("== fuzz targets, %v each, while there were boots\n", fuzzTime)
	for _, r := range l {
		switch {
		case r.Err != nil:
			fmt.Printf("--- FAIL: %v: %v\n", r.Target, r.Err)
			n.failed++
		case r.Stopped:
			fmt.Printf("not to its end: %v\n", r.Target)
		default:
			fmt.Printf("ok  %v %d inputs\n", r.Target, r.Execs)
			n.passed++
		}
	}
}

func (n *tally) command(name string, argv ...string) {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		fmt.Printf("--- FAIL: %s\n%s\n", name, out)
		n.failed++
		return
	}
	fmt.Printf("ok  %s\n", name)
	n.passed++
}

// goTest runs packages with -json, counts tests (not packages), and prints the
// output of what failed.
func (n *tally) goTest(stage string, env []string, args ...string) {
	fmt.Printf("== %s\n", stage)
	cmd := exec.Command("go", append([]string{"test", "-json", "-count=1"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Printf("--- FAIL: %s: %v\n", stage, err)
		n.failed++
		return
	}
	before := n.failed
	output := map[string][]string{}
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var e event
		if json.Unmarshal(sc.Bytes(), &e) != nil {
			fmt.Println(sc.Text())
			continue
		}
		n.event(&e, output)
	}
	if err := cmd.Wait(); err != nil && n.failed == before {
		fmt.Printf("--- FAIL: %s: %v\n", stage, err)
		n.failed++
	}
}

func (n *tally) event(e *event, output map[string][]string) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		output[key] = append(output[key], e.Output)
	case "pass", "skip":
		if e.Test == "" {
			if e.Action == "pass" {
				fmt.Printf("ok  %s %.1fs\n", e.Package, e.Elapsed)
			}
		} else if e.Action == "skip" {
			fmt.Printf("skipped %s: %s", key, strings.Join(output[key], ""))
			n.skipped++
		} else {
			n.passed++
		}
		delete(output, key)
	case "fail", "build-fail":
		fmt.Printf("--- FAIL: %s\n%s", key, strings.Join(output[key], ""))
		if e.Test != "" || len(output[key]) > 0 {
			n.failed++
		}
		delete(output, key)
	}
}

func packages() []string {
	out, err := exec.Command("go", "list", "./...").Output()
	if err != nil {
		fmt.Println("go list:", err)
		os.Exit(1)
	}
	return strings.Fields(string(out))
}

// nonBoot is everything that does not start QEMU.
func nonBoot() []string {
	var l []string
	for _, p := range packages() {
		if !strings.HasPrefix(p, "kiln/tests/boot") {
			l = append(l, p)
		}
	}
	return l
}

// racePackages are those above the seam with concurrency of their own.
func racePackages() []string {
	var l []string
	for _, p := range packages() {
		for _, w := range []string{"kiln/kernel/mm", "kiln/kernel/timer", "kiln/kernel/task", "kiln/kernel/wait", "kiln/fs", "kiln/net", "kiln/drivers", "kiln/syscalls", "kiln/tests/hosted"} {
			if p == w || strings.HasPrefix(p, w+"/") {
				l = append(l, p)
			}
		}
	}
	return l
}
