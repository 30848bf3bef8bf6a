package boot

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestProgramThatEatsAllMemoryIsKilledByName(t *testing.T) {
	img := program(t, "eater")
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			out, status := run(t, 2*bootLimit, img, append([]string{"-m", "128M"}, m.flags...))
			if status != 137 {
				t.Errorf("status %d, want 137", status)
			}
			lines := regexp.MustCompile(`out of memory: killed process 1 \(eater\), [0-9]+ MB`).FindAllString(out, -1)
			if len(lines) != 1 {
				t.Errorf("%d lines name the victim: %q", len(lines), lines)
			}
			// Most of the machine's memory was its to have.
			has(t, out, "16 MB\n", "64 MB\n")
		})
	}
}

func TestUnknownSystemCallIsENOSYSAndLoggedOnce(t *testing.T) {
	out, status := run(t, bootLimit, program(t, "lacking"), nil)
	if status != 0 {
		t.Errorf("status %d", status)
	}
	if n := strings.Count(out, ": ENOSYS 100 of 100 times\n"); n != 5 {
		t.Errorf("%d of 5 calls were ENOSYS each time", n)
	}
	for _, name := range []string{"called bpf,", "called kexec_load,", "call 1000,"} {
		if n := strings.Count(out, name); n != 1 {
			t.Errorf("%q is logged %d times", name, n)
		}
	}
}

// The lines that rflags prints on Linux where a test knows them without Linux.
func TestFlagsAndSegmentBasesOfTheProgramDoNotReachTheKernel(t *testing.T) {
	img := program(t, "rflags")
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			out, status := run(t, bootLimit, img, m.flags)
			if status != 0 {
				t.Errorf("status %d", status)
			}
			for _, f := range []string{"DF", "AC", "NT", "ID", "AC|DF|NT"} {
				has(t, out, "getpid with "+f+": right 1, kept 1\n")
			}
			has(t, out, "getpid with TF: right 1, trapped 1\n", "handler: DF 0 TF 0\n", "fault with a kernel-half GS base: kept 1\n",
				"alive with null selectors\n")
			for _, f := range []string{"DF", "AC", "NT", "all"} {
				has(t, out, "fault with "+f+": kept 1\n")
			}
			if strings.Contains(out, ": NO\n") || strings.Contains(out, "wrong") {
				t.Error("a line says no")
			}
		})
	}
}

// A program's IRETQ and far RET give on every machine what they give on this Linux: Debian's
// QEMU reads their frames with the kernel's rights, and Wine began to loop there.
func TestProgramsReturnByIRET(t *testing.T) {
	want, err := exec.Command(compile(t, "iret", "")).Output()
	if err != nil {
		t.Fatalf("on Linux: %v", err)
	}
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			got, status := run(t, bootLimit, program(t, "iret"), m.flags)
			if status != 0 || !strings.Contains(got, string(want)) {
				t.Errorf("status %d\n%s\non Linux:\n%s", status, tail(got), want)
			}
		})
	}
}

// 32-bit code has no way into the kernel of its own, and there is none such code: whoever
// jumps there gets SIGSEGV where it stands.
func TestProgramsComeIntoNo32BitCode(t *testing.T) {
	for _, m := range machines {
		for _, n := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s/%d", m.name, n), func(t *testing.T) {
				out, status := run(t, bootLimit, program(t, "compat"), append([]string{"-c", fmt.Sprint(n)}, m.flags...))
				if status != 0 {
					t.Errorf("status %d", status)
				}
				has(t, out, fmt.Sprintf("%d CPUs, 6 ways, let in 0 times\n", n))
			})
		}
	}
}

// What own mappings give on this Linux is what they give on Kiln.
func TestReadAndWriteBetweenAFileAndItsOwnMappingEndAndAreRight(t *testing.T) {
	want, err := exec.Command(compile(t, "ownmap", "")).Output()
	if err != nil {
		t.Fatalf("on Linux: %v", err)
	}
	got, status := run(t, 2*bootLimit, program(t, "ownmap"), nil)
	if status != 0 {
		t.Errorf("status %d", status)
	}
	diff(t, string(want), got)
}

// diff compares line by line and names the first lines that differ.
func diff(t *testing.T, want, got string) {
	t.Helper()
	w, g := strings.Split(strings.TrimSpace(want), "\n"), strings.Split(strings.TrimSpace(got), "\n")
	n := 0
	for i := range max(len(w), len(g)) {
		a, b := "(nothing)", "(nothing)"
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			t.Errorf("line %d: Linux %q, Kiln %q", i+1, a, b)
			if n++; n == 5 {
				return
			}
		}
	}
}

func TestThreadProgressesBesideOneThatSpinsWhileTheKernelCollectsGarbage(t *testing.T) {
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			out, status := run(t, 3*bootLimit, program(t, "spingc"), m.flags, map[bool]string{false: "1500", true: "40000"}[accept])
			if status != 0 {
				t.Errorf("status %d", status)
			}
			has(t, out, "rounds beside a spinning thread, spun: 1\n")
		})
	}
}

func TestSpinningProgramIsStoppedByTheHost(t *testing.T) {
	m := bootAlone(t, program(t, "spin"))
	m.WaitFor(t, "spinning\n", bootLimit)
	start := time.Now()
	if status := m.Stop(t, 20*time.Second); status != 143 {
		t.Errorf("status %d, want 143", status)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
	checkAlive(t, m.Console())
}

func TestMappingsEndAtAnEdgeWithENOMEM(t *testing.T) {
	out, status := run(t, 2*bootLimit, program(t, "maps"), []string{"-m", "128M"}, "65530")
	if status != 0 {
		t.Errorf("status %d", status)
	}
	m := regexp.MustCompile(`round [01]: ([0-9]+) mappings`).FindAllStringSubmatch(out, -1)
	// vm.max_map_count is 65,530; the machine's memory holds as many.
	if len(m) != 2 || m[0][1] != m[1][1] || m[0][1] < "65500" || len(m[0][1]) != 5 {
		t.Errorf("the two rounds made %q mappings: want the same, 65,500 at least", m)
	}
	has(t, out, "afterwards: ok\n")
	hasNot(t, out, "A LEAK")
	for _, e := range regexp.MustCompile(`refused with (\w+)`).FindAllStringSubmatch(out, -1) {
		if e[1] != "ENOMEM" {
			t.Errorf("refused with %s", e[1])
		}
	}
}

func TestDatagramsThatNobodyReadsEndAtAnEdge(t *testing.T) {
	n := map[bool]string{false: "20000", true: "100000"}[accept]
	out, status := run(t, 4*bootLimit, program(t, "dgrams"), []string{"-m", "128M"}, n)
	if status != 0 {
		t.Errorf("status %d", status)
	}
	has(t, out, "udp: some or all queued\n", "unix: all that was taken came\n", "serving\n")
	hasNot(t, out, "A LEAK")
	for _, e := range regexp.MustCompile(`refused with (\w+)`).FindAllStringSubmatch(out, -1) {
		switch e[1] {
		case "EAGAIN", "ENOBUFS", "ENOMEM", "EMFILE", "ENFILE":
		default:
			t.Errorf("refused with %s", e[1])
		}
	}
}

func TestVectorStateSurvivesEveryWayIntoTheKernel(t *testing.T) {
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			rounds := fmt.Sprint(size(300, 5000))
			out, status := run(t, 3*bootLimit, program(t, "vectors"), m.flags, rounds)
			if status != 0 {
				t.Errorf("status %d", status)
			}
			has(t, out, rounds+" rounds in three threads, alarms: 1, states lost: 0\n")
		})
	}
}

// Threads and forks at the end of memory, with the collector busy: refused, or somebody
// else is killed by name, and afterwards all is as before.
func TestThreadAndForkStormsAtTheEndOfMemoryEndAtAnEdge(t *testing.T) {
	for _, m := range machines[:size(1, len(machines))] {
		t.Run(m.name, func(t *testing.T) {
			out, status := run(t, time.Duration(size(180, 1200))*time.Second, program(t, "storm"), append([]string{"-m", "128M"}, m.flags...),
				map[bool]string{false: "1", true: "5"}[accept])
			if status != 0 {
				t.Errorf("status %d", status)
			}
			has(t, out, "storm over\n")
			hasNot(t, out, "WRONG")
			hasNot(t, out, "A LEAK")
			hasNot(t, out, "killed process 1 ")
		})
	}
}

// A fork bomb meets RLIMIT_NPROC, or the end of memory or of the kernel's budget, and the
// machine lives on.
func TestForkBombsMeetALimitAndTheMachineLivesOn(t *testing.T) {
	for _, m := range machines[:size(1, len(machines))] {
		t.Run(m.name, func(t *testing.T) {
			out, status := run(t, time.Duration(size(120, 600))*time.Second, program(t, "crowd"),
				append([]string{"-m", map[bool]string{false: "64M", true: "128M"}[accept]}, m.flags...), "bomb", fmt.Sprint(size(1000, 10000)))
			if status != 0 {
				t.Errorf("status %d", status)
			}
			for _, who := range []string{"a user", "root"} {
				has(t, out, who+": met the edge yes, bounded\n", who+": many were there, then 1 alive, fork works: yes\n")
			}
			has(t, out, "crowd over\n")
			hasNot(t, out, "WRONG")
			hasNot(t, out, "killed process 1 ")
		})
	}
}

// Memory ends among processes of many sizes: who volunteered dies first, then who has most
// and is not exempt; the others live, and process 1 goes on.
func TestOutOfMemoryTakesTheProcessesThatLinuxWouldChoose(t *testing.T) {
	out, status := run(t, 2*bootLimit, program(t, "crowd"), append([]string{"-m", "128M"}, machines[0].flags...), "oom", "90")
	if status != 0 {
		t.Errorf("status %d", status)
	}
	has(t, out, "volunteer died of signal 9\n", "greedy died of signal 9\n", "small lives\n", "exempt lives\n", "middle lives\n", "fork works: yes\n", "crowd over\n")
	hasNot(t, out, "WRONG")
	if n := strings.Count(out, "out of memory: killed process "); n != 2 {
		t.Errorf("%d lines name a victim", n)
	}
}
