package fuzz

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv(WorkerEnv) != "" {
		if err := Worker(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func executor(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give the programs on this host a user of their own")
	}
	e, err := Executor(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const batch = 80

// Random programs do the same on Kiln as on this host's Linux: a few that do not change
// (some 15 seconds), new ones for the time that KILN_FUZZ_TIME gives, which make accept sets.
// KILN_FUZZ_SEED=N runs one seed, or KILN_FUZZ_COUNT from it on.
func TestRandomProgramsDoAsOnLinux(t *testing.T) {
	e := executor(t)
	first, count, d := uint64(1), Quick, time.Duration(0)
	if s := os.Getenv("KILN_FUZZ_TIME"); s != "" {
		first, count = rand.Uint64()>>16, 1<<30
		if d, _ = time.ParseDuration(s); d <= 0 {
			t.Fatalf("KILN_FUZZ_TIME=%s is no time", s)
		}
	}
	brief := os.Getenv("KILN_FUZZ_BRIEF") != ""
	if s := os.Getenv("KILN_FUZZ_SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
		count, d = 1, 0
		if c, _ := strconv.Atoi(os.Getenv("KILN_FUZZ_COUNT")); c > 0 {
			count = c
		}
	}
	programs, others, once := 0, 0, 0
	var found, real []*Finding
	judge := func() {
		r, o, err := Judge(e, found)
		if err != nil {
			t.Fatal(err)
		}
		real, others, once, found = append(real, r...), others+len(found), once+o, nil
	}
	for end := time.Now().Add(d); programs < count && len(real) < 100 && (d == 0 || time.Now().Before(end)); {
		ps := make([]Program, min(batch, count-programs))
		for i := range ps {
			ps[i] = Generate(first + uint64(programs+i))
		}
		programs += len(ps)
		fs, err := Compare(e, ps)
		if err != nil {
			t.Fatalf("seeds from %d: %v", ps[0].Seed, err)
		}
		if found = append(found, fs...); len(found) >= 100 {
			judge()
		}
	}
	judge()
	for _, f := range real {
		if dir := os.Getenv("KILN_FUZZ_SAVE"); dir != "" {
			Shrink(e, f, 40).Save(dir)
		}
		if brief {
			t.Errorf("%d: %s\n%s%s%s", f.Program.Seed, f.Why, f.Linux, f.Kiln, f.Call())
			continue
		}
		t.Error(f)
	}
	t.Logf("%d programs from seed %d; %d did otherwise than this host's Linux, %d of them once, %d than 6.1", programs, first, others, once, len(real))
}

// Every call on every kind of descriptor, and every option of every socket, do the same on Kiln as
// on Linux: a part of them here, all, with new arguments, in make accept, which sets
// KILN_FUZZ_TIME. KILN_SWEEP=N has all with certain arguments, KILN_FUZZ_SEED one program of them.
func TestEveryKindOfDescriptorDoesAsOnLinux(t *testing.T) {
	e := executor(t)
	turn, err := strconv.ParseUint(os.Getenv("KILN_SWEEP"), 10, 64)
	whole := err == nil
	if os.Getenv("KILN_FUZZ_TIME") != "" && !whole {
		turn, whole = rand.Uint64()>>16, true
	}
	ps := Sweep(turn)
	if !whole {
		const share = 25
		some := make([]Program, 0, len(ps)/share+1)
		for i := 0; i < len(ps); i += share {
			some = append(some, ps[i])
		}
		ps = some
	}
	if s := os.Getenv("KILN_FUZZ_SEED"); s != "" {
		if ps = slices.DeleteFunc(Sweep(turn), func(p Program) bool { return fmt.Sprint(p.Seed-sweepSeed) != s }); len(ps) == 0 {
			t.Fatalf("there is no program %s", s)
		}
	}
	var found []*Finding
	for at := 0; at < len(ps); at += batch {
		fs, err := Compare(e, ps[at:min(at+batch, len(ps))])
		if err != nil {
			t.Fatalf("from program %d: %v", at, err)
		}
		found = append(found, fs...)
	}
	real, err := judged(e, found)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range real {
		if os.Getenv("KILN_FUZZ_BRIEF") != "" {
			t.Errorf("%d: %s\n%s%s%s", f.Program.Seed-sweepSeed, f.Why, f.Linux, f.Kiln, f.Call())
			continue
		}
		t.Error(f)
	}
	t.Logf("%d programs of KILN_SWEEP=%d; %d did otherwise than this host's Linux, %d than 6.1", len(ps), turn, len(found), len(real))
}

// judged is Judge again and again: on a busy host a packet of the loopback may be later than the
// next call, more than once.
func judged(e string, fs []*Finding) (_ []*Finding, err error) {
	for i := 0; i < 3 && err == nil && len(fs) > 0; i++ {
		fs, _, err = Judge(e, fs)
	}
	return fs, err
}

// What was found once stays right.
func TestFoundPrograms(t *testing.T) {
	e := executor(t)
	ps, err := Load("testdata")
	if err != nil || len(ps) == 0 {
		t.Fatalf("%d programs, %v", len(ps), err)
	}
	fs, err := Compare(e, ps)
	if err == nil {
		fs, err = judged(e, fs)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fs {
		t.Error(f)
	}
}
