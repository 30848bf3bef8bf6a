package boot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kiln/tests/vmtest"
)

// smpLimit is how long a test of several CPUs may take on a host that has fewer: threads
// that spin wait for others that the host does not run. In full size one runs for five minutes.
var smpLimit = time.Duration(size(5, 15)) * time.Minute

// smp runs a C program on machines with 2 and, in full size, 4 CPUs, and says whether
// lines were printed. args get the number of CPUs.
func smp(t *testing.T, name string, args func(cpus int) []string, want ...string) {
	t.Helper()
	smpFlags(t, name, nil, args, want...)
}

func smpFlags(t *testing.T, name string, more []string, args func(cpus int) []string, want ...string) {
	t.Helper()
	counts := []int{2}
	if accept {
		counts = append(counts, 4)
	}
	for i, m := range machines {
		for _, n := range counts {
			if !accept && i == 1 {
				continue // microvm and pc have the newest and the oldest CPU
			}
			t.Run(fmt.Sprintf("%s/%d", m.name, n), func(t *testing.T) {
				flags := slices.Concat([]string{"-c", strconv.Itoa(n), "-m", "256M"}, m.flags, more)
				out, status := run(t, smpLimit, program(t, name), flags, args(n)...)
				if status != 0 {
					t.Errorf("status %d", status)
				}
				has(t, out, want...)
			})
		}
	}
}

func TestParallelSumAndContendedMutexAreRight(t *testing.T) {
	smp(t, "parsum", func(n int) []string { return []string{strconv.Itoa(2 * n)} }, "sum right\n", "counter right\n")
}

func TestAffinityIsKeptAndEveryWayToAskTellsTheCPU(t *testing.T) {
	smp(t, "affinity", func(n int) []string { return []string{strconv.Itoa(n), strconv.Itoa(size(100, 5000))} },
		"beyond the last: EINVAL\n", "wrong answers: 0\n")
}

func TestMappingChangesReachOtherCPUs(t *testing.T) {
	smp(t, "shootdown", func(n int) []string { return []string{strconv.Itoa(size(50, 500)), strconv.Itoa(n - 1)} },
		"munmap ok\n", "mprotect ok\n", "mremap ok\n", "madvise ok\n", "mmap ok\n", "fork ok\n")
}

func TestForkStormsOfSeveralThreads(t *testing.T) {
	smp(t, "forks", func(n int) []string { return []string{"4", strconv.Itoa(size(25, 1000))} }, ", 0 bad\n")
}

func TestNoWakeUpIsLostUnderTimersAtRandomHighRates(t *testing.T) {
	smp(t, "ticks", func(n int) []string { return []string{strconv.Itoa(size(4, 300)), "3"} },
		"alarms came, expirations came, sleeps ended, turns taken, bytes passed\n", "stuck 0\n")
}

func TestTimeDoesNotRunBackBetweenCPUs(t *testing.T) {
	args := func(n int) []string { return []string{strconv.Itoa(n), strconv.Itoa(size(500, 20000))} }
	t.Run("tsc", func(t *testing.T) { smp(t, "clocks", args, "read, back 0\n") })
	// As where the CPUs' TSCs differ: every clock is the kernel's.
	t.Run("unstable", func(t *testing.T) {
		smpFlags(t, "clocks", []string{"--append", "tsc=unstable"}, args, "read, back 0\n")
	})
}

func TestOneBootAfterAnotherWithFourCPUs(t *testing.T) {
	img := program(t, "hello")
	for i := range size(6, 100) {
		start := time.Now()
		out, status := run(t, bootLimit, img, append([]string{"-c", "4"}, machines[i%len(machines)].flags...))
		if status != 0 || !strings.Contains(out, "hello") {
			t.Fatalf("boot %d: status %d", i, status)
		}
		if accept {
			t.Logf("boot %d: %.1f s", i, time.Since(start).Seconds())
		}
	}
}

// TestCPUsThatAreDisabledAreLeftOut: the MADT lists processors that could be plugged in.
func TestCPUsThatAreDisabledAreLeftOut(t *testing.T) {
	img := program(t, "affinity")
	out := qemu(t, "-M", "q35", "-cpu", "max", "-m", "256", "-nodefaults", "-smp", "2,maxcpus=5", "-kernel", img)
	checkAlive(t, out)
	has(t, out, "2 CPUs, online 2\n")
}

// TestEveryVCPUDoesItsShareOfASum counts the instructions that each vCPU executes in the
// program.
func TestEveryVCPUDoesItsShareOfASum(t *testing.T) {
	root, err := vmtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plugin, log := filepath.Join(dir, "vcpucount.so"), filepath.Join(dir, "log")
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-O2", "-o", plugin, filepath.Join(root, "tests", "bench", "vcpucount.c")).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	// A host that has other work to do gives the two vCPUs unequal time: one ends its half first, and may
	// then take over the rest of the other's when that one is interrupted. It gets ten tries.
	for try := 1; ; try++ {
		total, each := shares(t, plugin, log)
		t.Logf("%s of %.0f instructions", fmt.Sprint(each), total)
		if len(each) != 2 || total < 200e6 {
			t.Fatalf("counted %v", each)
		}
		least := min(each[0], each[1]) / total
		if least >= 0.4 {
			return
		}
		if try == 10 {
			t.Fatalf("one vCPU executed %.0f %% of the program", 100*least)
		}
	}
}

// shares counts what each of two vCPUs executes of a sum by two threads.
func shares(t *testing.T, plugin, log string) (total float64, each []float64) {
	t.Helper()
	// Two threads that add, without the check that one makes alone.
	out := qemu(t, "-M", "microvm", "-cpu", "max", "-m", "256", "-nodefaults", "-smp", "2", "-kernel", program(t, "parsum"),
		"-append", "quiet -- 2 5 bare", "-plugin", plugin, "-d", "plugin", "-D", log)
	checkAlive(t, out)
	has(t, out, "took ")
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`vcpu \d+ insns (\d+)`).FindAllSubmatch(b, -1) {
		n, _ := strconv.ParseFloat(string(m[1]), 64)
		total, each = total+n, append(each, n)
	}
	return total, each
}
