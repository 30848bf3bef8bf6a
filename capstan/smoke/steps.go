package smoke

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"kiln/capstan/manifest"
	"kiln/kernel/image"
)

// attempt is a try that is under way.
type attempt struct {
	p     *process
	addrs map[int]string // of the machine's ports, on the host
	key   ssh.Signer     // of the SSH client
	shown int            // how much of the console was matched by steps

	mu   sync.Mutex
	vars map[string]string

	load *load
}

// steps does them one after another. ended says that the machine has come to its end
// as the last one wanted.
func (s *attempt) steps(ctx context.Context, steps []manifest.Step) (ended bool, err error) {
	defer func() {
		if s.load != nil {
			s.load.stop()
		}
	}()
	for i := range steps {
		if err := s.step(ctx, &steps[i]); err != nil {
			return false, fmt.Errorf("step %d: %w", i+1, err)
		}
		if s.load != nil && s.load.failed() != nil {
			return false, fmt.Errorf("step %d: under load: %w", i+1, s.load.failed())
		}
		if steps[i].End != nil {
			return true, nil
		}
	}
	return false, nil
}

func (s *attempt) step(ctx context.Context, st *manifest.Step) error {
	switch {
	case st.HTTP != nil || st.TCP != nil:
		return s.requests(ctx, st)
	case st.Load != nil:
		if s.load != nil {
			return errors.New("there is a load already")
		}
		s.load = s.startLoad(ctx, st.Load)
		return nil
	case st.EndLoad != nil:
		return s.endLoad(ctx, st.EndLoad)
	case st.Console != "":
		return s.console(ctx, st.Console)
	case st.Signal != nil:
		return s.signal(ctx, st.Signal)
	case st.Run != nil:
		return s.run(ctx, st.Run)
	case st.Put != nil:
		text, err := s.expand(st.Put.Text)
		if err != nil {
			return err
		}
		return s.ask(ctx, "put", st.Put.Path+" "+base64.StdEncoding.EncodeToString([]byte(text)), "ok")
	}
	return s.end(ctx, st.End)
}

// speak does one HTTP request or TCP conversation.
func (s *attempt) speak(ctx context.Context, h *manifest.HTTP, t *manifest.TCP) error {
	if h != nil {
		return s.get(ctx, h)
	}
	return s.talk(ctx, t)
}

// requests does the HTTP or TCP part of a step as often as it says. The first one may
// find a machine that still boots.
func (s *attempt) requests(ctx context.Context, st *manifest.Step) error {
	once := func() error { return s.p.until(ctx, func() error { return s.speak(ctx, st.HTTP, st.TCP) }) }
	if st.Within > 0 {
		end := time.Now().Add(time.Duration(st.Within))
		for {
			err := once()
			if err == nil || time.Now().After(end) || ctx.Err() != nil {
				return err
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	if err := once(); err != nil {
		return err
	}
	left := int64(max(1, st.Requests) - 1)
	var wg sync.WaitGroup
	errs := make(chan error, max(1, st.Parallel))
	for range max(1, st.Parallel) {
		wg.Go(func() {
			for atomic.AddInt64(&left, -1) >= 0 {
				if err := s.speak(ctx, st.HTTP, st.TCP); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs // nil if none
}

// load is requests that go on in the background.
type load struct {
	count  atomic.Int64
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	err    error
}

func (s *attempt) startLoad(ctx context.Context, spec *manifest.LoadStep) *load {
	l := &load{}
	ctx, l.cancel = context.WithCancel(ctx)
	for range max(1, spec.Parallel) {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				// A request that has begun is finished: the end of the load must not
				// look like a failure.
				if err := s.speak(context.WithoutCancel(ctx), spec.HTTP, spec.TCP); err != nil {
					l.mu.Lock()
					if l.err == nil {
						l.err = fmt.Errorf("after %d requests: %w", l.count.Load(), err)
					}
					l.mu.Unlock()
					return
				}
				l.count.Add(1)
				select {
				case <-time.After(time.Duration(spec.Spread)):
				case <-ctx.Done():
				}
			}
		})
	}
	return l
}

func (l *load) failed() error { l.mu.Lock(); defer l.mu.Unlock(); return l.err }

func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

func (s *attempt) endLoad(ctx context.Context, e *manifest.EndLoad) error {
	l := s.load
	if l == nil {
		return errors.New("there is no load to end")
	}
	for want := l.count.Load() + int64(e.After); l.count.Load() < want && l.failed() == nil; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the load stands still after %d requests", l.count.Load())
		case <-s.p.done:
			return fmt.Errorf("the machine ended with status %d under load", s.p.status())
		case <-time.After(10 * time.Millisecond):
		}
	}
	l.stop()
	s.load = nil
	s.mu.Lock()
	s.vars["load"] = strconv.FormatInt(l.count.Load(), 10)
	s.mu.Unlock()
	return l.failed()
}

// console waits for a pattern behind what earlier steps have found.
func (s *attempt) console(ctx context.Context, pattern string) error {
	text, err := s.expand(pattern)
	if err != nil {
		return err
	}
	re, err := regexp.Compile("(?m)" + text)
	if err != nil {
		return err
	}
	return s.p.until(ctx, func() error {
		out := s.p.stdout()
		loc := re.FindStringIndex(out[s.shown:])
		if loc == nil {
			return fmt.Errorf("%w: the console does not show %q", errRetry, text)
		}
		s.shown += loc[1]
		return nil
	})
}

func (s *attempt) signal(ctx context.Context, sig *manifest.Signal) error {
	n, err := image.ParseSignal(sig.Signal)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("signal %d", n)
	if sig.PID != "" {
		pid, err := s.expand(sig.PID)
		if err != nil {
			return err
		}
		line += " " + pid
	}
	return s.p.control.send(ctx, line)
}

// run starts a program of the image and compares its status.
func (s *attempt) run(ctx context.Context, r *manifest.RunInside) error {
	e := image.Exec{Program: r.Program, Args: []string{r.Program}, User: r.User}
	for _, a := range r.Args {
		a, err := s.expand(a)
		if err != nil {
			return err
		}
		e.Args = append(e.Args, a)
	}
	for k, v := range r.Env {
		e.Env = append(e.Env, k+"="+v)
	}
	b, err := image.Encode(&e)
	if err != nil {
		return err
	}
	return s.ask(ctx, "run", string(b), fmt.Sprintf("exit %d", r.Status))
}

// ask sends a request with a tag to the control port and compares the answer.
func (s *attempt) ask(ctx context.Context, verb, what, want string) error {
	got, err := s.p.control.ask(ctx, verb, what)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s %.200s: the machine says %q, not %q", verb, what, got, want)
	}
	return nil
}

// end waits for the machine's end, after a signal if there is one.
func (s *attempt) end(ctx context.Context, e *manifest.End) error {
	if e.Signal != "" {
		if err := s.signal(ctx, &manifest.Signal{Signal: e.Signal}); err != nil {
			return err
		}
	}
	select {
	case <-s.p.done:
	case <-ctx.Done():
		return errors.New("the machine did not end in time")
	}
	if got := s.p.status(); got != e.Status {
		return fmt.Errorf("the exit status is %d, not %d", got, e.Status)
	}
	return nil
}

var reVar = regexp.MustCompile(`\$\{(\w+)\}`)

// expand puts variables into a text.
func (s *attempt) expand(text string) (string, error) {
	if !strings.Contains(text, "${") {
		return text, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	text = reVar.ReplaceAllStringFunc(text, func(ref string) string {
		name := ref[2 : len(ref)-1]
		v, ok := s.vars[name]
		if !ok {
			err = fmt.Errorf("no step has saved a variable %q", name)
		}
		return v
	})
	return text, err
}

// save keeps the first group of a pattern that must match.
func (s *attempt) save(name, pattern, text string) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	m := re.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("%q does not match %q in %.500q", name, pattern, text)
	}
	s.mu.Lock()
	s.vars[name] = m[len(m)-1]
	s.mu.Unlock()
	return nil
}
