package boot

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

const bootLimit = 60 * time.Second

func TestStaticHelloRunsOnEveryMachine(t *testing.T) {
	img := program(t, "hello")
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			out, status := run(t, bootLimit, img, m.flags, "of", "the world")
			if status != 0 || !strings.Contains(out, "hello of the world\n") {
				t.Errorf("status %d, console %q", status, out)
			}
		})
	}
}

// death is a way to end and what the host and the console are told.
type death struct {
	how    string
	status int
	report []string // parts of the one report; nil: none is due
}

var deaths = []death{
	{"null", 139, []string{"killed by SIGSEGV", "writing address 0x0,"}},
	{"read", 139, []string{"killed by SIGSEGV", "reading address 0x123456789000, no mapping"}},
	{"write", 139, []string{"killed by SIGSEGV", "writing address 0x123456789000, no mapping"}},
	{"jump", 139, []string{"killed by SIGSEGV", "executing address 0x123456789000, no mapping"}},
	{"kernel", 139, []string{"killed by SIGSEGV", "reading address 0xffffffff80000000"}},
	{"noncanonical", 139, []string{"killed by SIGSEGV", "general protection"}},
	{"text", 139, []string{"killed by SIGSEGV", "writing address"}},
	{"noexec", 139, []string{"killed by SIGSEGV", "executing address"}},
	{"stack", 139, []string{"killed by SIGSEGV", "writing address"}},
	{"hlt", 139, []string{"killed by SIGSEGV", "general protection", "code f4"}},
	{"cli", 139, []string{"killed by SIGSEGV", "general protection", "code fa"}},
	{"out", 139, []string{"killed by SIGSEGV", "general protection", "code e6 80"}},
	{"ud2", 132, []string{"killed by SIGILL", "code 0f 0b"}},
	{"int3", 133, []string{"killed by SIGTRAP"}},
	{"div", 136, []string{"killed by SIGFPE"}},
	{"abort", 134, nil},
	{"sigterm", 143, nil},
	{"sigkill", 137, nil},
	{"bus", 135, []string{"killed by SIGBUS", "writing address"}},
	{"badstack", 139, []string{"killed by SIGSEGV"}},
}

var (
	reKilled = regexp.MustCompile(`\bkilled by SIG`)
	// The parts that every report has: the thread, where, in which mapping, with what.
	reReport = regexp.MustCompile(`end\[1\] killed by SIG[A-Z]+ \([^)]+\) in thread "end" \(1\)[^\n]*\n\s+at rip 0x[0-9a-f]+ in ([^\n]+), code ([^\n]+)\n`)
)

func (d *death) check(t *testing.T, out string, status int) {
	t.Helper()
	if status != d.status {
		t.Errorf("status %d, want %d", status, d.status)
	}
	has(t, out, "ending by "+d.how+"\n")
	if strings.Contains(out, "still here") {
		t.Error("the program went on")
	}
	n := len(reKilled.FindAllString(out, -1))
	if d.report == nil {
		if n > 1 {
			t.Errorf("%d reports", n)
		}
		return
	}
	if n != 1 {
		t.Errorf("%d reports, want one", n)
	}
	if !reReport.MatchString(out) {
		t.Error("the report lacks thread, place, mapping or instruction")
	}
	has(t, out, d.report...)
}

// Every death, on the machine that users get.
func TestWhatKillsAProgramIsReportedOnceAndGivesLinuxsStatus(t *testing.T) {
	img := program(t, "end")
	for _, d := range deaths {
		t.Run(d.how, func(t *testing.T) {
			out, status := run(t, bootLimit, img, nil, d.how)
			d.check(t, out, status)
		})
	}
}

// One of each kind, on the machines whose CPU or firmware differ.
func TestExitStatusComesBackFromEveryMachine(t *testing.T) {
	img := program(t, "end")
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			for _, c := range []struct {
				args   []string
				status int
			}{{[]string{"exit", "0"}, 0}, {[]string{"exit", "42"}, 42}, {[]string{"exit_group"}, 300 & 0xff}} {
				if out, status := run(t, bootLimit, img, m.flags, c.args...); status != c.status {
					t.Errorf("%v: status %d, want %d:\n%s", c.args, status, c.status, tail(out))
				}
			}
			if m.name == "microvm" {
				return // TestWhatKills... has them all
			}
			for _, d := range deaths {
				switch d.how {
				case "null", "hlt", "ud2", "div", "abort", "stack":
					t.Run(d.how, func(t *testing.T) {
						out, status := run(t, bootLimit, img, m.flags, d.how)
						d.check(t, out, status)
					})
				}
			}
		})
	}
}

// The pieces that a report must name rightly, once each: a null pointer in the program's
// own text, a stack that grew into its guard, a jump into data.
func TestReportNamesTheMapping(t *testing.T) {
	img := program(t, "end")
	for how, want := range map[string]string{
		"null":   `at rip 0x[0-9a-f]+ in \S*end\+0x[0-9a-f]+ \(r-x\), code `,
		"text":   `writing address 0x[0-9a-f]+, \S*end\+0x[0-9a-f]+ \(r-x\)`,
		"noexec": `executing address 0x[0-9a-f]+, \S.* \(rw-\)`,
		"stack":  `rsp 0x[0-9a-f]+ in (\[stack\]|no mapping)`,
		"bus":    `writing address 0x[0-9a-f]+, \S.* \(rw-\)`,
	} {
		t.Run(how, func(t *testing.T) {
			out, _ := run(t, bootLimit, img, nil, how)
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("nothing like %q", want)
			}
		})
	}
}
