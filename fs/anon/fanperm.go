package anon

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// permission is a question whether something may be done, and its answer. Its fields are
// under Fanotify.mu.
type permission struct {
	state  uint8
	denied bool
	fd     int32 // what the program answers with
	cost   int64 // Permit gives it back, or with permCanceled who answers
	q      waiter.Queue
}

// What has become of a permission.
const (
	permQueued   = iota // nobody has read the event
	permReported        // it was read
	permAnswered
	permCanceled // who asked is dead; the answer still counts as one
)

// Permit implements vfs.Group: it waits until a program that reads the group's events has
// answered, the group is closed, or a fatal signal comes. EPERM, ENOMEM.
func (g *Fanotify) Permit(c wait.Context, h *vfs.Happening) error {
	g.mu.Lock()
	e, ok := g.event(h)
	if !ok {
		g.mu.Unlock()
		return nil
	}
	p := &permission{cost: e.cost()}
	e.ask = p
	switch {
	case int64(len(g.queue)) >= g.most: // nobody hears the question
		e.ask = nil
		told := g.push(&fanEvent{mask: unix.FAN_Q_OVERFLOW})
		g.mu.Unlock()
		if told {
			g.Q.Notify(waiter.EventIn)
		}
		return nil
	case !g.budget.Charge(p.cost):
		g.mu.Unlock()
		return unix.ENOMEM
	}
	e.path.Hold()
	g.queue = append(g.queue, e)
	g.mu.Unlock()
	g.Q.Notify(waiter.EventIn)

	var en waiter.Entry
	en.Init(c.Listener(), waiter.EventIn)
	p.q.EventRegister(&en)
	defer p.q.EventUnregister(&en)
	for {
		g.mu.Lock()
		if p.state == permAnswered {
			denied := p.denied
			g.mu.Unlock()
			g.budget.Uncharge(p.cost)
			if denied {
				return unix.EPERM
			}
			return nil
		}
		g.mu.Unlock()
		if r := c.Block(hal.NoDeadline, wait.Killable); r != wait.Ready {
			g.abandon(p)
			return r.Err()
		}
	}
}

// abandon is for who asked and dies: what nobody has read is taken back, and what was read
// waits for its answer.
func (g *Fanotify) abandon(p *permission) {
	g.mu.Lock()
	if p.state == permReported {
		p.state = permCanceled
		g.mu.Unlock()
		return
	}
	var e fanEvent
	if i := slices.IndexFunc(g.queue, func(e fanEvent) bool { return e.ask == p }); i >= 0 {
		e = g.queue[i]
		g.queue = slices.Delete(g.queue, i, i+1)
	}
	g.mu.Unlock()
	if e.ask != nil { // else it has just been answered
		g.gone(&e)
	}
	g.budget.Uncharge(p.cost)
}

// reported notes the descriptor that answers p. Called before the program can know it.
func (g *Fanotify) reported(p *permission, fd int32) {
	g.mu.Lock()
	p.fd = fd
	g.asked = append(g.asked, p)
	g.mu.Unlock()
}

// answer ends the wait of who asked.
func (g *Fanotify) answer(p *permission, denied bool) {
	g.mu.Lock()
	g.asked = slices.DeleteFunc(g.asked, func(x *permission) bool { return x == p })
	g.end(p, denied)
	g.mu.Unlock()
	p.q.Notify(waiter.EventIn)
}

// end gives p its answer, once. Called with mu held.
func (g *Fanotify) end(p *permission, denied bool) {
	switch p.state {
	case permCanceled:
		g.budget.Uncharge(p.cost)
		fallthrough
	default:
		p.state, p.denied = permAnswered, denied
	case permAnswered:
	}
}

// Write implements vfs.FileOps: struct fanotify_response, an answer. EINVAL (too short, not
// an answer, FAN_AUDIT without FAN_ENABLE_AUDIT), EFAULT, ENOENT if nothing is waiting.
func (g *Fanotify) Write(_ wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	var b [8]byte
	if src.Len() < len(b) {
		return 0, unix.EINVAL
	}
	if _, err := src.CopyIn(b[:]); err != nil {
		return 0, err
	}
	fd, said := int32(binary.LittleEndian.Uint32(b[:])), binary.LittleEndian.Uint32(b[4:])
	switch said &^ unix.FAN_AUDIT {
	case unix.FAN_ALLOW, unix.FAN_DENY:
	default:
		return 0, unix.EINVAL
	}
	if fd < 0 || said&unix.FAN_AUDIT != 0 && g.flags&unix.FAN_ENABLE_AUDIT == 0 {
		return 0, unix.EINVAL
	}
	g.mu.Lock()
	i := slices.IndexFunc(g.asked, func(p *permission) bool { return p.fd == fd })
	if i < 0 {
		g.mu.Unlock()
		return 0, unix.ENOENT
	}
	p := g.asked[i]
	g.mu.Unlock()
	g.answer(p, said&^unix.FAN_AUDIT == unix.FAN_DENY)
	return len(b), nil
}
