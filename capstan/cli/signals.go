package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// interruptible gives a context that SIGINT, SIGTERM and SIGHUP end, so that work that is
// cut off takes its half-made files away; a second signal ends pack at once. The function
// gives the signals back.
func (a *app) interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, append(a.hangup, syscall.SIGINT, syscall.SIGTERM)...)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case s := <-ch:
			a.interrupted = s
			signal.Stop(ch)
			cancel()
		case <-done:
		}
	}()
	return ctx, sync.OnceFunc(func() {
		signal.Stop(ch)
		close(done)
		<-ended
		cancel()
	})
}

// hangup is SIGHUP, or nothing if who started pack has it ignored, as nohup does. It is to be
// asked before the signal is caught.
func hangup() []os.Signal {
	if signal.Ignored(syscall.SIGHUP) {
		return nil
	}
	return []os.Signal{syscall.SIGHUP}
}

// withoutSIGPIPE makes a write to a pipe that nobody reads any more an error on standard
// output and error, too, where it ends a Go program at once and leaves all as it is.
func withoutSIGPIPE() (undo func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGPIPE)
	return func() { signal.Stop(ch) }
}

// machineSignals are what a machine that runs is told of.
type machineSignals struct{ stop, pass chan os.Signal }

func newMachineSignals() *machineSignals {
	return &machineSignals{make(chan os.Signal, 4), make(chan os.Signal, 16)}
}

func (s *machineSignals) catch(hangup []os.Signal) {
	stop := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	pass := []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT}
	if isTerminal(os.Stdin) {
		stop = append(stop, hangup...) // the terminal is gone
	} else {
		pass = append(pass, hangup...)
	}
	signal.Notify(s.stop, stop...)
	signal.Notify(s.pass, pass...)
}

func (s *machineSignals) giveBack() {
	signal.Stop(s.stop)
	signal.Stop(s.pass)
}
