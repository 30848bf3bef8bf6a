package system

import (
	"math/bits"

	"kiln/kernel/task"
	"kiln/net"
)

// observe lets netlink's listeners hear of processes, from when there is one.
func (s *System) observe() {
	k, n := s.kernel, s.net
	event := func(e task.ProcEvent) { n.ProcEvent(e.What, e.CPU, e.Data) }
	exit := func(t *task.Thread, stats, group []byte) {
		n.TaskEnded(t.CPU(), uint32(t.TID()), uint32(t.PID()), stats, group)
	}
	n.SetTasks(net.Tasks{
		Stats: k.StatsOf, Now: s.m.Nanotime, CPUs: bits.OnesCount64(k.Sched.AllCPUs()),
		Observe: func(events, exits bool) {
			if !events && !exits {
				k.Observe(nil)
				return
			}
			o := &task.Observers{}
			if events {
				o.Event = event
			}
			if exits {
				o.Exit = exit
			}
			k.Observe(o)
		},
	})
}
