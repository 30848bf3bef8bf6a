package net

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// TASKSTATS: what a task has used, on request and at its end. See the kernel's
// Documentation/accounting/taskstats.rst, linux/taskstats.h.

// Commands and attributes of linux/taskstats.h and linux/cgroupstats.h.
const (
	statsGet   = 1
	statsNew   = 2
	statsGroup = 4 // CGROUPSTATS_CMD_GET

	statsByPID  = 1
	statsByTGID = 2
	statsListen = 3
	statsIgnore = 4

	statsPID      = 1
	statsTGID     = 2
	statsStats    = 3
	statsAggrPID  = 4
	statsAggrTGID = 5

	cpuListBytes = 100 + 6*8192 // TASKSTATS_CPUMASK_MAXLEN
)

var taskStats = genlFamily{id: genlFirst, name: "TASKSTATS", version: 1, ops: []genlOp{
	{cmd: statsGet, admin: true, do: getTaskStats, small: map[uint16]int{statsByPID: 4, statsByTGID: 4}, most: statsIgnore},
	{cmd: statsGroup, do: getGroupStats, small: map[uint16]int{1: 4}, most: 1},
}}

// getTaskStats is TASKSTATS_CMD_GET: EINVAL without a known attribute, ESRCH; E2BIG, EINVAL
// and ERANGE for a list of CPUs that is none or has some that there are not.
func getTaskStats(s *Stack, _ *Caller, r *genlReply, a genlAttrs) unix.Errno {
	t := &s.tasks
	if l, ok := a[statsListen]; ok {
		return t.listen(r.x, l, true)
	}
	if l, ok := a[statsIgnore]; ok {
		return t.listen(r.x, l, false)
	}
	id, group := a[statsByPID], false
	if id == nil {
		if id, group = a[statsByTGID], true; id == nil {
			return unix.EINVAL
		}
	}
	if t.Stats == nil {
		return unix.ESRCH
	}
	n := binary.LittleEndian.Uint32(id)
	b, err := t.Stats(int32(n), group)
	if err != nil {
		return unix.ESRCH
	}
	r.put(statsNew, aggregate(nil, n, b, group))
	return 0
}

// aggregate is TASKSTATS_TYPE_AGGR_PID or _TGID.
func aggregate(b []byte, id uint32, stats []byte, group bool) []byte {
	kind, what := uint16(statsAggrPID), uint16(statsPID)
	if group {
		kind, what = statsAggrTGID, statsTGID
	}
	return attr(b, kind, attr(attr(nil, what, le32(id)), statsStats, stats))
}

// getGroupStats is CGROUPSTATS_CMD_GET, for directories of version 1 of cgroups alone: EINVAL.
func getGroupStats(*Stack, *Caller, *genlReply, genlAttrs) unix.Errno { return unix.EINVAL }

// listen makes x hear of the ends of tasks on CPUs, or not any more.
func (t *tasks) listen(x *netlinkSocket, list []byte, on bool) unix.Errno {
	switch {
	case len(list) > cpuListBytes:
		return unix.E2BIG
	case len(list) == 0:
		return unix.EINVAL
	}
	list, _, _ = bytes.Cut(list, []byte{0})
	cpus, err := parseCPUs(string(list), t.CPUs)
	if err != 0 {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exits == nil {
		t.exits = map[*netlinkSocket][]uint64{}
	}
	have := t.exits[x]
	if have == nil {
		have = make([]uint64, len(cpus))
	}
	any := uint64(0)
	for i := range cpus {
		if on {
			have[i] |= cpus[i]
		} else {
			have[i] &^= cpus[i]
		}
		any |= have[i]
	}
	if t.exits[x] = have; any == 0 {
		delete(t.exits, x)
	}
	t.observe()
	return 0
}

// forget is for a socket that ends.
func (t *tasks) forget(x *netlinkSocket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exits[x] != nil {
		delete(t.exits, x)
		t.observe()
	}
}

// parseCPUs reads a list of CPUs, of which there are n, such as "0-3,7" (cpulist_parse):
// EINVAL, ERANGE.
func parseCPUs(s string, n int) ([]uint64, unix.Errno) {
	mask := make([]uint64, (n+63)/64)
	if strings.TrimSpace(s) == "" {
		return mask, 0
	}
	for _, part := range strings.Split(strings.TrimSpace(s), ",") {
		from, to, isRange := strings.Cut(part, "-")
		a, err := strconv.ParseUint(from, 10, 31)
		b := a
		if err == nil && isRange {
			b, err = strconv.ParseUint(to, 10, 31)
		}
		switch {
		case err != nil || b < a:
			return nil, unix.EINVAL
		case b >= uint64(n):
			return nil, unix.ERANGE
		}
		for ; a <= b; a++ {
			mask[a/64] |= 1 << (a % 64)
		}
	}
	return mask, 0
}

// TaskEnded tells those who listen of a task that has ended on a CPU: its statistics, and
// with group its process's, whose last task it was.
func (s *Stack) TaskEnded(cpu int, tid, tgid uint32, stats, group []byte) {
	body := aggregate([]byte{statsNew, byte(taskStats.version), 0, 0}, tid, stats, false)
	if group != nil {
		body = aggregate(body, tgid, group, true)
	}
	t := &s.tasks
	t.mu.Lock()
	var to []*netlinkSocket
	for x, cpus := range t.exits {
		if cpu/64 < len(cpus) && cpus[cpu/64]>>(cpu%64)&1 != 0 {
			to = append(to, x)
		}
	}
	seq := t.seq[cpu%len(t.seq)].Add(1) - 1
	t.mu.Unlock()
	r := reply{seq: seq}
	r.append(taskStats.id, body)
	for _, x := range to {
		x.post(nlMessage{b: r.b})
	}
}
