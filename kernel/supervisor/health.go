package supervisor

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/image"
)

// firstInterval is the longest time between checks until the first one that succeeds:
// others may wait for it.
const firstInterval = 250 * time.Millisecond

// startHealth begins the checks of a run: a goroutine that checks, waits and checks again
// until the run ends.
func (s *Supervisor) startHealth(u *unit) {
	if u.p.Health == nil {
		return
	}
	u.cancel = make(chan struct{})
	go s.checks(u, u.runs, u.cancel)
}

func (u *unit) stopHealth() {
	if u.cancel != nil {
		close(u.cancel)
		u.cancel = nil
	}
}

func (s *Supervisor) checks(u *unit, run int, cancel chan struct{}) {
	h := u.p.Health
	begin := s.host.Now()
	first := true
	for {
		err := s.host.Check(u.p, time.Duration(h.Timeout.Or(image.DefaultTimeout)), cancel)
		select {
		case <-cancel:
			return
		default:
		}
		wait := time.Duration(h.Interval.Or(image.DefaultInterval))
		grace := first && s.host.Now()-begin < time.Duration(h.Grace.Or(image.DefaultGrace))
		if err == nil {
			first = false
		} else if grace {
			wait = min(wait, firstInterval)
		}
		s.post(func() {
			if u.runs == run && u.state == up {
				s.checked(u, err, grace)
			}
		})
		tick := make(chan struct{})
		stop := s.host.After(wait, func() { close(tick) })
		select {
		case <-tick:
		case <-cancel:
			stop()
			return
		}
	}
}

// checked takes the result of a check.
func (s *Supervisor) checked(u *unit, err error, grace bool) {
	retries := u.p.Health.Retries
	if retries == 0 {
		retries = image.DefaultRetries
	}
	switch {
	case err == nil:
		if !u.healthy || u.checkFails > 0 {
			s.log("info", u, "healthy")
		}
		u.checkFails, u.healthy, u.worked = 0, true, true
		s.advance()
		return
	case grace:
		return
	}
	u.checkFails++
	s.log("info", u, "health check %d of %d failed: %v", u.checkFails, retries, err)
	if u.checkFails < retries {
		return
	}
	what := "it is restarted"
	if u.p.Health.IfUnhealthy == image.UnhealthyEnd {
		what = "the machine ends"
	}
	s.log("error", u, "unhealthy (%v): %s", err, what)
	u.unhealthy = true
	s.stop(u)
}

func isNotExist(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }
