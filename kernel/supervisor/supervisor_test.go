package supervisor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/image"
)

// world is a Host on a clock of its own. What a program does in each run is a script.
type world struct {
	t    *testing.T
	sup  *Supervisor
	conf image.Config

	mu     sync.Mutex
	now    time.Duration
	timers []*alarm
	runs   map[string]*life
	script map[string]behaviour
	events []string // starts, signals, kills and ends in order
	log    []string
	check  map[string]func(run int) error
	status uint32
	done   chan struct{}
}

type alarm struct {
	at   time.Duration
	f    func()
	dead bool
}

// life is a run of a program.
type life struct {
	n, left int
	gone    bool
}

// behaviour is what a program does: how long a run lasts (0: until it is told to end),
// with which status, how it takes its stop signal.
type behaviour struct {
	lasts  time.Duration
	status func(run int) uint32
	start  func(run int) error
	deaf   bool
	onStop uint32 // status when it is asked to stop
}

func code(n uint32) func(int) uint32 { return func(int) uint32 { return n << 8 } }

func newWorld(t *testing.T, programs ...image.Program) *world {
	for i := range programs {
		if programs[i].Program == "" && programs[i].Pipeline == nil {
			programs[i].Program = "/bin/" + programs[i].Name
		}
	}
	w := &world{t: t, conf: image.Config{Programs: programs}, runs: map[string]*life{}, script: map[string]behaviour{},
		check: map[string]func(int) error{}, done: make(chan struct{})}
	if err := w.conf.CheckPrograms(); err != nil {
		t.Fatal(err)
	}
	w.sup = New(programs, w)
	return w
}

func (w *world) note(format string, args ...any) {
	w.events = append(w.events, fmt.Sprintf(format, args...))
}

func (w *world) Start(p *image.Program, run int) ([]int32, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.script[p.Name]
	if b.start != nil {
		if err := b.start(run); err != nil {
			w.note("no %s", p.Name)
			return nil, err
		}
	}
	n := len(p.Stages())
	l := &life{n: run, left: n}
	w.runs[p.Name] = l
	w.note("%d %s", w.now.Milliseconds(), p.Name)
	pids := make([]int32, n)
	if b.lasts > 0 {
		st := uint32(0)
		if b.status != nil {
			st = b.status(run)
		}
		w.at(b.lasts, func() { w.die(p.Name, l, st) })
	}
	return pids, nil
}

// die ends a run; called with mu held. Every stage but the last ends with status 0.
func (w *world) die(name string, l *life, status uint32) {
	if l.left == 0 || w.runs[name] != l {
		return
	}
	for i := range l.left {
		st := uint32(0)
		if i == l.left-1 {
			st = status
		}
		w.sup.Ended(name, l.n, i, st)
	}
	l.left = 0
	w.note("end %s", name)
}

func (w *world) Signal(name string, sig int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("%s to %s", strings.TrimPrefix(unix.SignalName(unix.Signal(sig)), "SIG"), name)
	if b := w.script[name]; !b.deaf {
		st := b.onStop
		if st == 0 {
			st = uint32(sig)
		}
		l := w.runs[name]
		w.at(time.Millisecond, func() { w.die(name, l, st&^0x10000) })
	}
}

func (w *world) Kill(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.runs[name]
	if l == nil || l.gone {
		return
	}
	if l.left > 0 {
		w.note("KILL to %s", name)
	}
	w.at(time.Millisecond, func() {
		w.die(name, l, uint32(unix.SIGKILL))
		if !l.gone {
			l.gone = true
			w.sup.Gone(name, l.n)
		}
	})
}

func (w *world) Check(p *image.Program, _ time.Duration, _ <-chan struct{}) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.check[p.Name]; f != nil {
		return f(w.runs[p.Name].n)
	}
	return nil
}

func (w *world) at(d time.Duration, f func()) *alarm {
	a := &alarm{at: w.now + d, f: f}
	w.timers = append(w.timers, a)
	return a
}

func (w *world) After(d time.Duration, f func()) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.at(d, func() { w.mu.Unlock(); f(); w.mu.Lock() })
	return func() { w.mu.Lock(); a.dead = true; w.mu.Unlock() }
}

func (w *world) Now() time.Duration { w.mu.Lock(); defer w.mu.Unlock(); return w.now }

func (w *world) Log(level, format string, args ...any) {
	w.mu.Lock()
	w.log = append(w.log, level+" "+fmt.Sprintf(format, args...))
	w.mu.Unlock()
}

func (w *world) Finished(status uint32) { w.status = status; close(w.done) }

// run goes on to the end, one timer after another once everything is at rest.
func (w *world) run() *world {
	go w.sup.Run()
	for range 20000 {
		synctest.Wait() // until everything is at rest
		select {
		case <-w.done:
			return w
		default:
		}
		w.mu.Lock()
		slices.SortStableFunc(w.timers, func(a, b *alarm) int { return int(a.at - b.at) })
		for len(w.timers) > 0 && w.timers[0].dead {
			w.timers = w.timers[1:]
		}
		if len(w.timers) > 0 {
			a := w.timers[0]
			w.timers = w.timers[1:]
			w.now = max(w.now, a.at)
			a.f()
		}
		w.mu.Unlock()
	}
	w.t.Fatalf("no end; events %q, log %q", w.events, w.log)
	return w
}

func (w *world) want(status uint32, events ...string) {
	w.t.Helper()
	if w.status != status {
		w.t.Errorf("status %#x, not %#x", w.status, status)
	}
	if !slices.Equal(w.events, events) {
		w.t.Errorf("events\n%q, not\n%q\nlog %q", w.events, events, w.log)
	}
}

func after(p, is string) []image.After { return []image.After{{Program: p, Is: is}} }

func TestStartOrderFollowsWhatEachProgramWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t,
			image.Program{Name: "main", Essential: true, After: append(after("db", image.IsHealthy), after("migrate", image.IsEnded)...)},
			image.Program{Name: "db", Health: &image.Health{TCP: 1}},
			image.Program{Name: "migrate", After: after("db", image.IsStarted)},
		)
		w.script["main"] = behaviour{lasts: time.Second, status: code(7)}
		w.script["migrate"] = behaviour{lasts: 50 * time.Millisecond}
		up := 100 * time.Millisecond
		w.check["db"] = func(int) error {
			if w.now < up {
				return unix.ECONNREFUSED
			}
			return nil
		}
		w.run().want(7<<8, "0 db", "0 migrate", "end migrate", "250 main", "end main", "TERM to db", "end db")
	})
}

func TestRestartsBackOffUpToTheMaximumAndThenItHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, image.Program{Name: "a", Restart: image.RestartOnFailure, MaxRestarts: 4, Backoff: image.Duration(10 * time.Millisecond),
			BackoffMax: image.Duration(40 * time.Millisecond)})
		w.script["a"] = behaviour{lasts: time.Millisecond, status: code(3)}
		// A run takes 1 ms and 1 ms to be gone; then 10, 20, 40 and 40 ms pass.
		w.run().want(3<<8, "0 a", "end a", "12 a", "end a", "34 a", "end a", "76 a", "end a", "118 a", "end a")
	})
}

func TestARunThatLastedStartsTheCountAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, image.Program{Name: "a", Restart: image.RestartOnFailure, MaxRestarts: 1, BackoffMax: image.DefaultBackoff})
		w.script["a"] = behaviour{lasts: time.Duration(image.StableTime), status: func(run int) uint32 {
			if run == 4 {
				return 0
			}
			return 1 << 8
		}}
		w.run()
		if w.status != 0 || len(w.events) != 8 {
			t.Errorf("status %#x after %q", w.status, w.events)
		}
	})
}

func TestAlwaysRestartsAProgramThatEndedWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, image.Program{Name: "a", Restart: image.RestartAlways}, image.Program{Name: "b", Essential: true})
		w.script["a"] = behaviour{lasts: 100 * time.Millisecond}
		w.script["b"] = behaviour{lasts: 500 * time.Millisecond}
		w.run().want(0, "0 a", "0 b", "end a", "201 a", "end a", "end b")
	})
}

func TestTheMachineEndsWithItsEssentialProgramAndStopsTheOthersInReverseOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, image.Program{Name: "a", Patience: image.Duration(time.Second)}, image.Program{Name: "b", StopSignal: "QUIT"},
			image.Program{Name: "c", Essential: true})
		w.script["a"] = behaviour{deaf: true}
		w.script["b"] = behaviour{onStop: 5 << 8}
		w.script["c"] = behaviour{lasts: time.Millisecond, status: code(0)}
		w.run().want(0, "0 a", "0 b", "0 c", "end c", "QUIT to b", "end b", "TERM to a", "KILL to a", "end a")
		if w.now < time.Second || w.now > 1100*time.Millisecond {
			t.Errorf("it took %v with a patience of a second", w.now)
		}
	})
}

func TestStopGivesTheEssentialProgramsStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, image.Program{Name: "a"}, image.Program{Name: "b", Essential: true, Restart: image.RestartAlways}, image.Program{Name: "c"})
		w.script["b"] = behaviour{onStop: 9 << 8}
		w.at(time.Second, w.sup.Stop)
		w.run().want(9<<8, "0 a", "0 b", "0 c", "TERM to c", "end c", "TERM to b", "end b", "TERM to a", "end a")
	})
}

func TestWithoutAnEssentialProgramTheFirstFailureCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, image.Program{Name: "a", IfFailed: image.FailIgnore}, image.Program{Name: "b"})
		w.script["a"] = behaviour{lasts: time.Millisecond, status: code(4)}
		w.script["b"] = behaviour{lasts: time.Second}
		w.run().want(4<<8, "0 a", "0 b", "end a", "end b")

		w = newWorld(t, image.Program{Name: "a"}, image.Program{Name: "b"})
		w.at(time.Second, w.sup.Stop)
		// Who obeys the stop signal has not failed.
		w.run().want(0, "0 a", "0 b", "TERM to b", "end b", "TERM to a", "end a")
	})
}

func TestAFailureForGoodEndsTheMachineOrNotAsConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, image.Program{Name: "a"}, image.Program{Name: "b", Essential: true})
		w.script["a"] = behaviour{lasts: time.Millisecond, status: code(4)}
		w.run().want(4<<8, "0 a", "0 b", "end a", "TERM to b", "end b")

		w = newWorld(t, image.Program{Name: "a", IfFailed: image.FailIgnore}, image.Program{Name: "b", Essential: true},
			image.Program{Name: "c", After: after("a", image.IsEnded), IfFailed: image.FailIgnore})
		w.script["a"] = behaviour{lasts: time.Millisecond, status: code(4)}
		w.script["b"] = behaviour{lasts: time.Second}
		w.run().want(0, "0 a", "0 b", "end a", "end b")
		if !slices.Contains(w.log, "error c: not started: a, which it waits for, has failed") {
			t.Errorf("log %q", w.log)
		}
	})
}

func TestAProgramThatCannotBeStartedHasTheShellsStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for errno, want := range map[unix.Errno]uint32{unix.ENOENT: 127, unix.EACCES: 126} {
			w := newWorld(t, image.Program{Name: "a", Restart: image.RestartOnFailure, MaxRestarts: 2})
			w.script["a"] = behaviour{start: func(int) error { return fmt.Errorf("/bin/a cannot be started: %w", errno) }}
			w.run().want(want<<8, "no a", "no a", "no a")
		}
	})
}

func TestAnUnhealthyProgramIsRestartedOrEndsTheMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		health := image.Health{TCP: 1, Interval: image.Duration(100 * time.Millisecond), Retries: 3}
		w := newWorld(t, image.Program{Name: "a", Health: &health}, image.Program{Name: "b", Essential: true})
		w.script["a"] = behaviour{}
		w.script["b"] = behaviour{lasts: time.Second}
		w.check["a"] = func(run int) error {
			if run == 1 && w.now > 150*time.Millisecond {
				return errors.New("hangs")
			}
			return nil
		}
		// Healthy at 0 and 100 ms, then three failures.
		w.run().want(0, "0 a", "0 b", "TERM to a", "end a", "502 a", "end b", "TERM to a", "end a")

		health.IfUnhealthy = image.UnhealthyEnd
		for _, failed := range []string{"", image.FailIgnore} {
			w = newWorld(t, image.Program{Name: "a", Health: &health, IfFailed: failed}, image.Program{Name: "b", Essential: true})
			w.script["a"] = behaviour{onStop: 0x10000} // it ends with status 0
			w.check["a"] = func(int) error {
				if w.now > 150*time.Millisecond {
					return errors.New("hangs")
				}
				return nil
			}
			w.run().want(1<<8, "0 a", "0 b", "TERM to a", "end a", "TERM to b", "end b")
		}
	})
}

func TestFailuresBeforeTheFirstSuccessCountOnlyAfterTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, image.Program{Name: "a", Health: &image.Health{TCP: 1, Interval: image.Duration(time.Second), Retries: 2,
			Grace: image.Duration(3 * time.Second), IfUnhealthy: image.UnhealthyEnd}})
		w.script["a"] = behaviour{}
		w.check["a"] = func(int) error { return unix.ECONNREFUSED }
		w.run()
		if w.now < 4*time.Second || w.now > 4500*time.Millisecond {
			t.Errorf("given up after %v", w.now)
		}
	})
}

func TestARunThatNeverWorkedDoesNotStartTheCountAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, image.Program{Name: "a", MaxRestarts: 2, BackoffMax: image.DefaultBackoff,
			Health: &image.Health{TCP: 1, Grace: 2 * image.StableTime}})
		w.check["a"] = func(int) error { return unix.ECONNREFUSED }
		w.run()
		if n := strings.Count(strings.Join(w.events, " "), "TERM to a"); n != 3 || w.status != uint32(unix.SIGTERM) {
			t.Errorf("status %#x after %q", w.status, w.events)
		}
	})
}

func TestAPipelineEndsWithAllItsStages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stages := []image.Exec{{Program: "/bin/x"}, {Program: "/bin/y"}}
		w := newWorld(t, image.Program{Name: "p", Pipeline: stages})
		w.at(time.Second, func() { w.sup.Ended("p", 1, 0, 3<<8) })
		w.at(2*time.Second, func() { w.sup.Ended("p", 1, 1, 0); w.runs["p"].left = 0 })
		w.run().want(0, "0 p")

		w = newWorld(t, image.Program{Name: "p", Pipeline: stages, PipeFail: true})
		w.at(time.Second, func() { w.sup.Ended("p", 1, 0, 3<<8) })
		w.at(2*time.Second, func() { w.sup.Ended("p", 1, 1, 0); w.runs["p"].left = 0 })
		w.run().want(3<<8, "0 p")
		if !slices.Contains(w.log, "error p: ended with status 3 | status 0: it has failed") {
			t.Errorf("log %q", w.log)
		}
	})
}

func TestStopDuringABackOffOrBeforeAStartEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, image.Program{Name: "a", Restart: image.RestartAlways, Backoff: image.Duration(time.Second)})
		w.script["a"] = behaviour{lasts: time.Millisecond}
		w.at(500*time.Millisecond, w.sup.Stop)
		w.run().want(0, "0 a", "end a")
		if w.now > 600*time.Millisecond {
			t.Errorf("it ended at %v", w.now)
		}

		w = newWorld(t, image.Program{Name: "a", Health: &image.Health{TCP: 1}}, image.Program{Name: "b", Essential: true, After: after("a", image.IsHealthy)})
		w.check["a"] = func(int) error { return unix.ECONNREFUSED }
		w.at(500*time.Millisecond, w.sup.Stop)
		w.run().want(uint32(unix.SIGTERM), "0 a", "TERM to a", "end a")
	})
}
