// Package supervisor decides what becomes of the several programs of an image: which starts
// when, what follows from an end, a failure or a bad health check, and in which order all
// of them stop. It knows no processes: Host starts and signals them and tells of their ends.
//
//	s := supervisor.New(cfg.Programs, host)
//	go s.Run()                     // starts what may start; returns when all is over
//	s.Ended(name, run, stage, status)   // from the host: one process has ended
//	s.Gone(name, run)                   // from the host: nothing is left of a program's run
//	s.Stop()                       // from outside: end the machine in order
//
// A program is a unit of one process or, for a pipeline, of several, and of whatever
// these start: all that descends from them dies with them. It goes through these states:
//
//	waiting → up → (stopping) → emptying → backoff → up …
//	                                    ↘ done | failed
//
// waiting is for what it starts after, stopping between its stop signal and its end,
// emptying until its last descendant is gone.
//
// Everything happens on one goroutine (Run), which takes events in order; so there are
// no locks but the one of the event queue, and Host may call back at any time.
package supervisor

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/image"
)

// Host is what the supervisor acts through. Its methods do not block for long, but Check.
type Host interface {
	// Start starts the processes of a program in the order of its stages, for its run'th
	// time. Ended is called for each, Gone once after the last. After an error none of
	// them runs on.
	Start(p *image.Program, run int) (pids []int32, err error)
	// Signal sends a signal to the processes of a program that have not ended.
	Signal(name string, sig int32)
	// Kill ends everything that is left of a program; Gone follows.
	Kill(name string)
	// Check does one health check; an error says what is wrong. cancel ends it early.
	Check(p *image.Program, timeout time.Duration, cancel <-chan struct{}) error
	// After calls f once after d, unless it is stopped.
	After(d time.Duration, f func()) (stop func())
	Now() time.Duration // since some start
	Log(level, format string, args ...any)
	// Finished is called when everything has ended, with a wait status.
	Finished(status uint32)
}

type state int

const (
	waiting state = iota
	up
	stopping
	emptying
	backoff
	done
	failed
)

// unit is one program.
type unit struct {
	p     *image.Program
	state state
	order int // of its first start

	left     int      // processes that have not ended
	status   []uint32 // wait statuses of the stages
	gone     bool     // nothing is left of it
	last     uint32   // the wait status of the whole, of its last run
	runs     int
	restarts int // in a row
	since    time.Duration

	started, healthy bool // once and for all
	worked           bool // a health check of this run succeeded
	unhealthy        bool // this run is being stopped for it
	checkFails       int
	cancel           chan struct{} // of this run's health checks
	timer            func()        // stops the timer that its state waits for
}

// Supervisor runs the programs of one machine.
type Supervisor struct {
	host  Host
	units []*unit
	order int

	ending    bool
	asked     bool // by Stop, not by a program
	have      bool // status is settled
	status    uint32
	essential *unit
	over      bool

	mu     sync.Mutex
	events []func()
	wake   chan struct{}
}

// New takes programs that image.Config.CheckPrograms has found right.
func New(programs []image.Program, h Host) *Supervisor {
	s := &Supervisor{host: h, wake: make(chan struct{}, 1)}
	for i := range programs {
		u := &unit{p: &programs[i]}
		s.units = append(s.units, u)
		if u.p.Essential {
			s.essential = u
		}
	}
	return s
}

// Run starts the programs and serves events until all is over.
func (s *Supervisor) Run() {
	s.advance()
	for !s.over {
		<-s.wake
		for !s.over {
			s.mu.Lock()
			if len(s.events) == 0 {
				s.mu.Unlock()
				break
			}
			f := s.events[0]
			s.events = s.events[1:]
			s.mu.Unlock()
			f()
		}
	}
}

func (s *Supervisor) post(f func()) {
	s.mu.Lock()
	s.events = append(s.events, f)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Stop ends all programs in order and then the machine.
func (s *Supervisor) Stop() {
	s.post(func() {
		s.asked = s.asked || !s.ending
		s.end()
	})
}

// Ended says that the process of a stage has ended with a wait status.
func (s *Supervisor) Ended(name string, run, stage int, status uint32) {
	s.post(func() {
		if u := s.find(name); u.runs == run {
			s.ended(u, stage, status)
		}
	})
}

// Gone says that nothing is left of a program's run.
func (s *Supervisor) Gone(name string, run int) {
	s.post(func() {
		if u := s.find(name); u.runs == run {
			u.gone = true
			s.emptied(u)
		}
	})
}

func (s *Supervisor) find(name string) *unit {
	for _, u := range s.units {
		if u.p.Name == name {
			return u
		}
	}
	panic("supervisor: no program " + name)
}

func (s *Supervisor) log(level string, u *unit, format string, args ...any) {
	s.host.Log(level, "%s: %s", u.p.Name, fmt.Sprintf(format, args...))
}

// advance starts every program whose turn it is, gives up those whose turn never comes,
// and ends the machine when nothing is left that could run.
func (s *Supervisor) advance() {
	for again := true; again && !s.ending; {
		again = false
		for _, u := range s.units {
			if u.state != waiting || s.ending {
				continue
			}
			switch ready, never := s.mayStart(u); {
			case never != "":
				s.log("error", u, "not started: %s", never)
				u.last = 1 << 8
				s.fail(u, false)
				again = true
			case ready:
				s.launch(u)
				again = true
			}
		}
	}
	if s.ending {
		return
	}
	for _, u := range s.units {
		if u.state != done && u.state != failed {
			return
		}
	}
	s.end()
}

// mayStart says whether what u waits for has happened, or why it cannot happen any more.
func (s *Supervisor) mayStart(u *unit) (ready bool, never string) {
	ready = true
	for _, a := range u.p.After {
		o := s.find(a.Program)
		over := o.state == done || o.state == failed
		ok := o.started
		switch a.Is {
		case image.IsHealthy:
			ok = o.healthy
		case image.IsEnded:
			ok = o.state == done
		}
		switch {
		case ok:
		case o.state == failed:
			return false, fmt.Sprintf("%s, which it waits for, has failed", a.Program)
		case over:
			return false, fmt.Sprintf("%s, which it waits for, ended before it was healthy", a.Program)
		default:
			ready = false
		}
	}
	return ready, ""
}

// launch begins a run.
func (s *Supervisor) launch(u *unit) {
	if !u.started {
		s.order++
		u.order = s.order
	}
	u.state, u.gone, u.worked, u.unhealthy, u.checkFails = up, false, false, false, 0
	u.since = s.host.Now()
	n := len(u.p.Stages())
	u.left, u.status = n, make([]uint32, n)
	u.runs++
	pids, err := s.host.Start(u.p, u.runs)
	if err != nil {
		s.log("error", u, "%v", err)
		u.left, u.last, u.gone = 0, startStatus(err), true
		u.state = emptying
		s.settle(u)
		return
	}
	u.started = true
	s.log("info", u, "started as %s", pidText(pids))
	s.startHealth(u)
}

// startStatus is what a shell gives for a program that it cannot run.
func startStatus(err error) uint32 {
	if isNotExist(err) {
		return 127 << 8
	}
	return 126 << 8
}

func pidText(pids []int32) string {
	word := "process"
	if len(pids) > 1 {
		word = "processes"
	}
	for i, p := range pids {
		sep := " "
		if i > 0 {
			sep = " | "
		}
		word += fmt.Sprint(sep, p)
	}
	return word
}

// ended is told of a process.
func (s *Supervisor) ended(u *unit, stage int, status uint32) {
	if u.left == 0 || stage >= len(u.status) {
		return
	}
	u.status[stage] = status
	if u.left--; u.left > 0 {
		return
	}
	u.stopTimer()
	u.stopHealth()
	u.last = u.whole()
	u.state = emptying
	s.host.Kill(u.p.Name)
	s.emptied(u)
}

// whole is the status of all stages: the last one's, or with pipefail the last that
// failed.
func (u *unit) whole() uint32 {
	for i := len(u.status) - 1; i >= 0; i-- {
		if u.status[i] != 0 || !u.p.PipeFail {
			return u.status[i]
		}
	}
	return 0
}

// emptied goes on with a unit of which nothing is left.
func (s *Supervisor) emptied(u *unit) {
	if u.state == emptying && u.gone {
		s.settle(u)
	}
}

// settle decides what follows from the end of a run.
func (s *Supervisor) settle(u *unit) {
	if s.ending {
		u.state = done
		s.log("info", u, "%s", endText(u))
		s.stopNext()
		return
	}
	ok := u.last == 0
	again := u.p.Restart == image.RestartAlways || !ok && u.p.Restart == image.RestartOnFailure
	if u.unhealthy {
		again = u.p.Health.IfUnhealthy != image.UnhealthyEnd
	}
	switch {
	case again && s.restart(u):
	case !again && ok && !u.unhealthy:
		u.state = done
		s.log("info", u, "%s", endText(u))
		if u == s.essential {
			s.end()
		}
	default:
		s.log("error", u, "%s: it has failed", endText(u))
		if u.last == 0 {
			u.last = 1 << 8 // it ended well only because it was asked to
		}
		s.fail(u, u.unhealthy && !again)
	}
	s.advance()
}

// restart sets u up to start again; false if it has done so often enough.
func (s *Supervisor) restart(u *unit) bool {
	longest := u.p.BackoffMax.Or(image.DefaultBackoffMax)
	if s.host.Now()-u.since >= time.Duration(max(longest, image.StableTime)) && (u.worked || u.p.Health == nil) {
		u.restarts = 0
	}
	if u.p.MaxRestarts > 0 && u.restarts >= u.p.MaxRestarts {
		s.log("error", u, "restarted %d times in a row", u.restarts)
		return false
	}
	wait := u.p.Backoff.Or(image.DefaultBackoff)
	for i := 0; i < u.restarts && wait < longest; i++ {
		wait *= 2
	}
	wait = min(wait, longest)
	u.restarts++
	u.state = backoff
	s.log("warn", u, "%s: restart %d in %v", endText(u), u.restarts, time.Duration(wait))
	u.setTimer(s, wait, func() {
		if u.state == backoff && !s.ending {
			s.launch(u)
			s.advance()
		}
	})
	return true
}

// fail is the end of a program that nothing mends, and of the machine if that is asked for
// whatever if_failed says.
func (s *Supervisor) fail(u *unit, end bool) {
	u.state = failed
	if end || u == s.essential || u.p.IfFailed != image.FailIgnore {
		s.settleStatus(u.last)
		s.end()
	}
}

func (s *Supervisor) settleStatus(status uint32) {
	if !s.have {
		s.have, s.status = true, status
	}
}

// end begins the end of the machine: the programs stop in reverse order of their start,
// one after another.
func (s *Supervisor) end() {
	if s.ending {
		return
	}
	s.ending = true
	s.stopNext()
}

func (s *Supervisor) stopNext() {
	var next *unit
	for _, u := range s.units {
		switch u.state {
		case waiting, backoff:
			u.stopTimer()
			u.state = done
		case up, stopping, emptying:
			if next == nil || u.order > next.order {
				next = u
			}
		}
	}
	switch {
	case next == nil:
		s.over = true
		s.host.Finished(s.result())
	case next.state == up:
		s.stop(next)
	}
}

// stop asks a program to end, and makes it end after its patience.
func (s *Supervisor) stop(u *unit) {
	sig, _ := image.ParseSignal(u.p.StopSignal) // it has been checked
	patience := time.Duration(u.p.Patience.Or(image.DefaultPatience))
	s.log("info", u, "stopping it by %s", unix.SignalName(unix.Signal(sig)))
	u.state = stopping
	u.stopHealth()
	u.setTimer(s, image.Duration(patience), func() {
		if u.state == stopping {
			s.log("warn", u, "it did not end within %v of %s: killed", patience, unix.SignalName(unix.Signal(sig)))
			s.host.Kill(u.p.Name)
		}
	})
	s.host.Signal(u.p.Name, sig)
}

// result is the machine's status: the essential program's; without one that of the first
// that failed. A failure that ended the machine comes before both.
func (s *Supervisor) result() uint32 {
	if s.have {
		return s.status
	}
	if u := s.essential; u != nil {
		if u.runs == 0 {
			return uint32(unix.SIGTERM) // the end was asked for before its turn came
		}
		return u.last
	}
	for _, u := range s.units {
		sig, _ := image.ParseSignal(u.p.StopSignal)
		if u.last != 0 && !(s.asked && u.last&0x7f == uint32(sig)) {
			return u.last
		}
	}
	return 0
}

func (u *unit) setTimer(s *Supervisor, d image.Duration, f func()) {
	u.stopTimer()
	run := u.runs
	u.timer = s.host.After(time.Duration(d), func() {
		s.post(func() {
			if u.runs == run {
				f()
			}
		})
	})
}

func (u *unit) stopTimer() {
	if u.timer != nil {
		u.timer()
		u.timer = nil
	}
}

// endText says how a run ended.
func endText(u *unit) string {
	if len(u.p.Pipeline) > 0 && u.left == 0 && len(u.status) > 1 {
		text := "ended with"
		for i, st := range u.status {
			sep := " "
			if i > 0 {
				sep = " | "
			}
			text += sep + statusText(st)
		}
		return text
	}
	return "ended with " + statusText(u.last)
}

// statusText is a wait status (wait4(2)) in words.
func statusText(status uint32) string {
	if sig := status & 0x7f; sig != 0 {
		if name := unix.SignalName(unix.Signal(sig)); name != "" {
			return name
		}
		return fmt.Sprintf("signal %d", sig)
	}
	return fmt.Sprintf("status %d", status>>8&0xff)
}
