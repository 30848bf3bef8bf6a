// Package fuzz compares Kiln with the Linux of this host on random programs of system
// calls, and looks for kernels that panic or hang.
//
// A program is text (c/exec.c says how it reads) made by Generate from a seed and the table
// in calls.go: calls with arguments that make sense often and not always, in sequences
// whose later calls use what earlier ones gave, with children and, in programs that are
// not compared, threads. One executor runs a batch of them as process 1: Native on this
// host, in namespaces and a root of its own and as a user without rights; Kiln on a
// machine of kernel/hosted in a process of its own. Compare names the programs that
// differ. What is found is shortened (Shrink) and kept in testdata.
package fuzz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"kiln/capstan/tree"
	"kiln/kernel/image"
	"kiln/tests/hosted"
	"kiln/tests/linuxguest"
	guest "kiln/tests/linuxguest/spec"
	"kiln/tests/vmtest"
)

// Executor builds c/exec.c into dir.
func Executor(dir string) (string, error) {
	root, err := vmtest.Root()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "exec")
	msg, err := exec.Command("gcc", "-O1", "-Wall", "-static", "-pthread", "-o", out, filepath.Join(root, "tests", "fuzz", "c", "exec.c")).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("exec.c: %v\n%s", err, msg)
	}
	return out, nil
}

// Program is one that both systems run.
type Program struct {
	Seed uint64
	Text string // without the closing "="
	// Threads says that the calls race with each other, so that only the end counts.
	Threads bool
}

// gen makes one program.
type gen struct {
	*rand.Rand
	lines []string
	off   int
	made  map[string][]int // lines that gave a resource
	// families are calls that have to do with each other, all are all calls.
	families [][]spec
	all      []spec
}

// Quick is how many programs the tests try that are not make accept's: the first seeds,
// whose programs have the calls of calls.go alone and agree with any recent Linux. All
// others have those of morecalls.go, too.
const Quick = 80

// Generate makes the program of a seed.
func Generate(seed uint64) Program {
	g := &gen{Rand: rand.New(rand.NewPCG(seed, 1)), made: map[string][]int{}, families: families, all: all}
	if seed > Quick {
		g.families, g.all = wideFamilies, wideAll
	}
	p := Program{Seed: seed, Threads: seed%4 == 3}
	family := g.IntN(len(g.families) + 2) // beyond: calls of all
	for range 4 + g.IntN(24) {
		g.line(family, p.Threads)
	}
	p.Text = strings.Join(g.lines, "\n") + "\n"
	return p
}

func (g *gen) line(family int, threads bool) {
	switch n := g.IntN(100); {
	case n < 4 && len(g.lines) < 100:
		g.nested("f", family)
	case threads && n < 40 && len(g.lines) < 100:
		g.nested("t", family)
	case n < 9:
		g.lines = append(g.lines, pick(g, "p", "q")+" "+g.mapped())
	default:
		g.call(family)
	}
}

// nested puts some calls into a child or a thread.
func (g *gen) nested(kind string, family int) {
	at := len(g.lines)
	g.lines = append(g.lines, "")
	for range 1 + g.IntN(5) {
		g.call(family)
	}
	g.lines[at] = fmt.Sprintf("%s %d", kind, len(g.lines)-at-1)
}

func (g *gen) call(family int) {
	list := g.all
	if family < len(g.families) && g.IntN(5) > 0 {
		list = g.families[family]
	}
	c := list[g.IntN(len(list))]
	if at := g.put(c); c.makes != "" {
		g.made[c.makes] = append(g.made[c.makes], at)
	}
}

// put adds a call and gives its line.
func (g *gen) put(c spec) int {
	args := make([]string, 6)
	for i := range args {
		args[i] = "i0"
		if i < len(c.args) {
			args[i] = c.args[i](g)
		}
	}
	line := fmt.Sprintf("c %d %s %s", c.nr, c.ret, strings.Join(args, " "))
	if c.after != "" {
		word, rest, _ := strings.Cut(c.after, " ")
		n, more, _ := strings.Cut(rest, " ")
		i, _ := strconv.Atoi(n)
		if a := args[i]; a[0] == 'b' {
			line += " " + strings.TrimSpace(word+" "+a[1:]+" "+more)
		}
	}
	g.lines = append(g.lines, line)
	return len(g.lines) - 1
}

// data puts bytes into the arena and gives the argument that points to them.
func (g *gen) data(b []byte) string {
	at := g.room(len(b))
	if len(b) > 0 {
		g.lines = append(g.lines, fmt.Sprintf("d %d %x", at, b))
	}
	return fmt.Sprintf("b%d", at)
}

func (g *gen) room(n int) int {
	n = (n + 15) &^ 15
	if g.off+n > 60000 {
		g.off = 0
	}
	at := g.off
	g.off += n
	return at
}

func pick[T any](g *gen, v ...T) T { return v[g.IntN(len(v))] }

// mapped is an address of the mapping arena.
func (g *gen) mapped() string { return fmt.Sprintf("m%d", g.IntN(64)) }

// Batch is programs in the form that the executor reads.
func Batch(ps []Program) []byte {
	var b bytes.Buffer
	for _, p := range ps {
		b.WriteString(p.Text)
		b.WriteString("=\n")
	}
	return b.Bytes()
}

// limit is the time for a batch: the executor gives each program two seconds.
const limit = 90 * time.Second

// Native runs a batch on this host. It needs root, to map user IDs.
func Native(executor string, ps []Program) (string, error) {
	dir, err := os.MkdirTemp("", "kiln-fuzz-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	b, err := os.ReadFile(executor)
	if err != nil {
		return "", err
	}
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "tmp"), 0o777),
		writeProgram(filepath.Join(dir, "exec"), b), os.WriteFile(filepath.Join(dir, "batch"), Batch(ps), 0o644),
	} {
		if err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/exec", "/batch")
	cmd.Env = []string{}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir, Setsid: true, Pdeathsig: syscall.SIGKILL, UidMappings: ids, GidMappings: ids,
		GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{},
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// writeProgram writes a file that can be executed at once: no child that is forked meanwhile
// has it open for writing (ETXTBSY).
func writeProgram(name string, b []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(name, b, 0o755)
}

// Oracle runs a batch on Debian's Linux 6.1 in QEMU, which is what Kiln is like where this
// host's Linux is another version or configured otherwise.
func Oracle(executor string, ps []Program) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	k, err := linuxguest.Get(ctx)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(executor)
	if err != nil {
		return "", err
	}
	g := &linuxguest.Guest{
		Kernel: k, Files: map[string]string{"exec": string(b), "batch": string(Batch(ps))},
		Spec: guest.Spec{Path: "/exec", Dir: "/", Args: []string{"/exec", "/batch"}},
		Args: []string{"-machine", "q35", "-cpu", "max,la57=off", "-m", "512", "-smp", "2", "-accel", "tcg", "-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none"},
	}
	out, err := g.Run(ctx)
	if err == nil && !strings.Contains(out, "all done\n") {
		err = errors.New("the oracle did not come to the end")
	}
	return out, err
}

// WorkerEnv names the batch that a test binary is to run as Worker.
const WorkerEnv = "KILN_FUZZ_BATCH"

// Kiln runs a batch on Kiln: this test binary again, which calls Worker.
func Kiln(executor string, ps []Program) (string, error) {
	f, err := os.CreateTemp("", "kiln-fuzz-*.batch")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	f.Write(Batch(ps))
	f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), WorkerEnv+"="+f.Name(), "KILN_FUZZ_EXECUTOR="+executor)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, errs.String())
	}
	return strings.ReplaceAll(string(out), "\r", ""), err
}

// Worker is what the process of Kiln does.
func Worker() error {
	root := tree.New()
	for _, d := range []string{"/tmp", "/dev", "/proc", "/sys"} {
		if err := root.Add(d, tree.Dir(0o755)); err != nil {
			return err
		}
	}
	for to, from := range map[string]string{"/exec": os.Getenv("KILN_FUZZ_EXECUTOR"), "/batch": os.Getenv(WorkerEnv)} {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := root.Add(to, tree.File(0o755, b)); err != nil {
			return err
		}
	}
	r := hosted.Run{Root: root, CPUs: 2, Limit: limit - 10*time.Second, Memory: 256 << 20,
		Config: image.Config{Name: "fuzz", Strace: os.Getenv("KILN_STRACE") != "", Program: "/exec", Args: []string{"/exec", "/batch"}}}
	res, err := r.Do()
	os.Stdout.WriteString(res.Output)
	if os.Getenv("KILN_STRACE") != "" || err != nil {
		os.Stderr.WriteString(res.Log)
	}
	if err == nil && res.Status != 0 {
		err = fmt.Errorf("status %d\n%s", res.Status, res.Log)
	}
	return err
}

var (
	reLine = regexp.MustCompile(`^(\d+)(?:\.\d+)? `)
	reCall = regexp.MustCompile(`^\.(\d+) `)
)

// split sorts output by program, whose number it takes away.
func split(out string, n int) []string {
	parts := make([]string, n)
	for l := range strings.Lines(out) {
		if m := reLine.FindStringSubmatch(l); m != nil {
			if i, _ := strconv.Atoi(m[1]); i < n {
				parts[i] += l[len(m[1]):]
			}
		}
	}
	return parts
}

// Finding is a program on which Kiln is not like Linux.
type Finding struct {
	Program     Program
	Linux, Kiln string // what differs first
	Why         string
	Kernel      bool   // Kiln's kernel ended before its time
	said        string // all that Kiln said
	host        string // all that this host's Linux said
}

func (f *Finding) Error() string {
	return fmt.Sprintf("seed %d: %s\nLinux: %sKiln:  %s\n%s", f.Program.Seed, f.Why, f.Linux, f.Kiln, f.Program.Text)
}

// Call is the line of the program that gave the difference, with what its pointers point to.
func (f *Finding) Call() string {
	m := reCall.FindStringSubmatch(f.Linux)
	if m == nil {
		return ""
	}
	lines := strings.Split(f.Program.Text, "\n")
	i, err := strconv.Atoi(m[1])
	if err != nil || i >= len(lines) {
		return ""
	}
	out := lines[i]
	for _, w := range strings.Fields(lines[i]) {
		for _, l := range lines[:i] {
			if strings.HasPrefix(l, "d "+strings.TrimPrefix(w, "b")+" ") && w[0] == 'b' {
				out += " | " + l
			}
		}
		if n, err := strconv.Atoi(strings.Trim(w, "rR")); err == nil && n < len(lines) && (w[0] == 'r' || w[0] == 'R') {
			out += " | " + w + ": " + lines[n]
		}
	}
	return out
}

// Compare runs a batch on both.
func Compare(executor string, ps []Program) ([]*Finding, error) {
	type end struct {
		out string
		err error
	}
	there := make(chan end, 1)
	go func() { out, err := Kiln(executor, ps); there <- end{out, err} }()
	linux, err := Native(executor, ps)
	here := <-there
	if err != nil || !strings.HasSuffix(linux, "all done\n") {
		return nil, fmt.Errorf("on this host: %v\n%.2000s", err, linux)
	}
	kiln, err := here.out, here.err
	var out []*Finding
	want, got := split(linux, len(ps)), split(kiln, len(ps))
	for i, p := range ps {
		if f := compareOne(p, want[i], got[i]); f != nil {
			f.said, f.host = got[i], want[i]
			out = append(out, f)
			if err != nil {
				break // those behind it did not run
			}
		}
	}
	if err != nil {
		if len(out) == 0 {
			return nil, fmt.Errorf("Kiln ended early: %w\n%s", err, kiln)
		}
		out[0].Kernel = true
		out[0].Why = fmt.Sprintf("the kernel: %.6000s", err)
	}
	return out, nil
}

// Judge says which findings count: those that both systems repeat, and on which Linux 6.1
// is not of Kiln's opinion either. It returns besides how many came but once.
func Judge(executor string, fs []*Finding) (real []*Finding, once int, err error) {
	var again []*Finding
	for len(fs) > 0 {
		n := min(len(fs), 40)
		var ps []Program
		for _, f := range fs[:n] {
			if f.Kernel {
				real = append(real, f)
				continue
			}
			ps = append(ps, f.Program)
		}
		fs = fs[n:]
		got, err := Compare(executor, ps)
		if err != nil {
			return nil, 0, err
		}
		once += len(ps) - len(got)
		again = append(again, got...)
	}
	if len(again) == 0 {
		return real, once, nil
	}
	var ps []Program
	for _, f := range again {
		ps = append(ps, f.Program)
	}
	out, err := Oracle(executor, ps)
	if err != nil {
		return nil, 0, fmt.Errorf("%w\n%.3000s", err, out)
	}
	for i, said := range split(out, len(ps)) {
		if f := compareOne(ps[i], said, again[i].said); f != nil && !late(f, again[i].host) {
			f.said, f.Why = again[i].said, "different"
			if f.Linux != again[i].Linux {
				f.Why = "different, and this host says " + again[i].Linux
			}
			real = append(real, f)
		}
	}
	return real, once, nil
}

// late says that a call was interrupted on the Linux in QEMU, which is slow, before the
// time was over that it had, and not on this host, which is of Kiln's opinion.
func late(f *Finding, host string) bool {
	return strings.HasSuffix(f.Linux, " = -1 errno 4\n") && strings.Contains(host, f.Kiln)
}

// excused says whether a difference is one between Linux 6.1, which Kiln is like, and
// later versions, which this host may have, or is known.
func excused(linux, kiln string) bool {
	_, linux, _ = strings.Cut(linux, " ")
	_, kiln, _ = strings.Cut(kiln, " ")
	for _, e := range [][2]string{
		{"91 = -1 errno 95\n", "91 = 0\n"},             // fchmod of an anonymous inode
		{"93 = -1 errno 95\n", "93 = 0\n"},             // fchown of one
		{"16 = -1 errno 22\n", "16 = -1 errno 25\n"},   // ioctl of an epoll set (6.9)
		{"1 = -1 errno 22\n", "1 = 8\n"},               // more than a word written to an eventfd (6.6)
		{"303 = -1 errno 2\n", "303 = -1 errno 22\n"},  // AT_HANDLE_FID and its kin (6.5, 6.13), and a path to nothing
		{"303 = -1 errno 20\n", "303 = -1 errno 22\n"}, // the same, through a file
		// Known differences (docs/caveats.md).
		{"303 = 0\n", "303 = -1 errno 95\n"},           // a handle of the root, whose file system is another
		{"303 = -1 errno 75\n", "303 = -1 errno 95\n"}, // the same, in too little room
		{"303 = -1 errno 22\n", "303 = -1 errno 95\n"}, // the same, in too much
		{"303 = -1 errno 14\n", "303 = -1 errno 95\n"}, // the same, and nowhere to tell its mount
		{"35 = -1 errno 4\n", "35 = ok\n"},             // PR_SET_TIMERSLACK of centuries, which Linux makes use of
		{"325 = -1 errno 12\n", "325 = 0\n"},           // memory to be run alone, which Linux protects by a key
		{"230 = -1 errno 4\n", "230 = ok\n"},           // a clock of CPU time had gone on more
		{"72 = 0\n", "72 = -1 errno 3\n"},              // F_SETOWN_EX of 2, which on Linux is a kernel thread
	} {
		if linux == e[0] && kiln == e[1] {
			return true
		}
	}
	if linux == "25 = -1 errno 14\n" && strings.HasPrefix(kiln, "25 = page ") {
		return true // mremap over a moved mapping and its neighbour, which are one here
	}
	if at, ok := strings.CutPrefix(linux, "died of 11 at "); ok && kiln == "died of 7 at "+at {
		return true // a write to what may be read only, beyond its file's end: hosted is not told which it is
	}
	l, k := reQueue.FindStringSubmatch(linux), reQueue.FindStringSubmatch(kiln)
	return l != nil && k != nil && l[1] == k[1]
}

// absent are calls with what Kiln does not have (docs/caveats.md), and how it refuses them.
var absent = []struct {
	call    *regexp.Regexp
	refused string
}{
	{regexp.MustCompile(`^c 54 v \S+ i1 i42 `), " 54 = -1 errno 92\n"},              // SO_PEEK_OFF of UDP
	{regexp.MustCompile(`^c 44 v \S+ \S+ \S+ i\d*[13579] `), " 44 = -1 errno 95\n"}, // MSG_OOB of TCP
}

// isAbsent says whether a difference is that Kiln refuses one of those.
func isAbsent(p Program, linux, kiln string) bool {
	m := reCall.FindStringSubmatch(linux)
	if m == nil {
		return false
	}
	lines := strings.Split(p.Text, "\n")
	i, err := strconv.Atoi(m[1])
	if err != nil || i >= len(lines) {
		return false
	}
	for _, a := range absent {
		if strings.HasSuffix(kiln, a.refused) && a.call.MatchString(lines[i]) {
			return true
		}
	}
	return false
}

// reList is how long a list of directory entries is, which is another for the root, whose
// directories are others.
var reList = regexp.MustCompile(`^217 = \d+\n$`)

func listed(said string) bool {
	_, said, _ = strings.Cut(said, " ")
	return reList.MatchString(said)
}

// reQueue is what semctl, shmctl and msgctl tell of the system: what programs before have left.
var reQueue = regexp.MustCompile(`^(31|66|71) = \d+\n$`)

func compareOne(p Program, linux, kiln string) *Finding {
	if strings.Contains(linux, "HANG") || strings.Contains(linux, "ends 6200") {
		return nil // Linux has not ended it either
	}
	if p.Threads {
		if w, g := lastLine(linux), lastLine(kiln); !strings.Contains(g, " ends ") || strings.Contains(kiln, "HANG") {
			return &Finding{Program: p, Linux: w + "\n", Kiln: g + "\n", Why: "it does not end"}
		}
		return nil
	}
	w, g := strings.SplitAfter(linux, "\n"), strings.SplitAfter(kiln, "\n")
	for i := range max(len(w), len(g)) {
		a, b := "(nothing)\n", "(nothing)\n"
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if excused(a, b) || a != b && isAbsent(p, a, b) || a != b && strings.Contains(p.Text, " 2f00\n") && listed(a) && listed(b) {
			return nil // what follows may differ for it
		}
		if a != b {
			return &Finding{Program: p, Linux: a, Kiln: b, Why: "different"}
		}
	}
	return nil
}

func lastLine(s string) string {
	s = strings.TrimSuffix(s, "\n")
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// Shrink takes lines away from a program as long as Kiln differs in the same way.
func Shrink(executor string, f *Finding, rounds int) *Finding {
	call := func(f *Finding) string {
		_, rest, _ := strings.Cut(f.Linux, " ")
		_, k, _ := strings.Cut(f.Kiln, " ")
		return rest + k
	}
	lines := strings.Split(strings.TrimSuffix(f.Program.Text, "\n"), "\n")
	for n := len(lines) / 2; n > 0; n /= 2 {
		for at := len(lines) - n; at >= 0 && rounds > 0; at -= n {
			var ps []Program
			// A line that is taken away leaves its number behind: others refer to it.
			try := append([]string(nil), lines...)
			for i := at; i < at+n; i++ {
				try[i] = "x"
			}
			ps = append(ps, Program{f.Program.Seed, strings.Join(try, "\n") + "\n", f.Program.Threads})
			rounds--
			fs, err := Compare(executor, ps)
			if err == nil && len(fs) == 1 && call(fs[0]) == call(f) {
				lines, f = try, fs[0]
			}
		}
	}
	for len(lines) > 0 && lines[len(lines)-1] == "x" {
		lines = lines[:len(lines)-1]
	}
	f.Program.Text = strings.Join(lines, "\n") + "\n"
	return f
}

// Save keeps a finding in a folder as a seed for TestFoundPrograms.
func (f *Finding) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	head := fmt.Sprintf("# seed %d\n", f.Program.Seed)
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.prog", f.Program.Seed)), []byte(head+f.Program.Text), 0o644)
}

// Load reads a folder of saved programs, several of them in a file parted by lines "=".
func Load(dir string) (ps []Program, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.prog"))
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		b, rerr := os.ReadFile(n)
		err = errors.Join(err, rerr)
		for one := range strings.SplitSeq(strings.TrimSuffix(string(b), "=\n"), "=\n") {
			head, text, _ := strings.Cut(one, "\n")
			p := Program{Text: text, Threads: strings.Contains(text, "\nt ")}
			fmt.Sscanf(head, "# seed %d", &p.Seed)
			ps = append(ps, p)
		}
	}
	return ps, err
}
