package task

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Layout of struct taskstats (linux/taskstats.h, version 13): where the fields are that say
// something here. The delays are those of a kernel without delayacct.
const (
	taskStatsSize    = 416
	taskStatsVersion = 13

	tsExitCode  = 4
	tsFlag      = 8
	tsNice      = 9
	tsCPUCount  = 16
	tsRunReal   = 64
	tsRunTime   = 72
	tsComm      = 80
	tsSched     = 112
	tsUID       = 120
	tsGID       = 124
	tsPID       = 128
	tsPPID      = 132
	tsBegin     = 136
	tsElapsed   = 144
	tsUser      = 152
	tsSystem    = 160
	tsMinFlt    = 168
	tsMajFlt    = 176
	tsPeakRSS   = 200
	tsPeakVM    = 208
	tsReadChar  = 216
	tsWriteChar = 224
	tsReads     = 232
	tsWrites    = 240
	tsVoluntary = 272
	tsInvol     = 280
	tsUserScl   = 288
	tsSystemScl = 296
	tsRunScaled = 304
	tsBegin64   = 344
	tsTGID      = 368
	tsTGElapsed = 376
	tsExeDev    = 384
	tsExeInode  = 392

	acctForkNoExec = 1    // AFORK
	acctGroup      = 0x20 // AGROUP
)

// TaskStats is struct taskstats of a thread.
func (t *Thread) TaskStats() []byte {
	le := binary.LittleEndian
	b := make([]byte, taskStatsSize)
	p, k := t.process, t.k
	now, since := k.M.Nanotime(), t.StartTime()
	begin := (k.M.Walltime() - (now - since)) / 1e9
	u, c, io := t.Usage(), t.Creds(), t.IO()
	le.PutUint16(b, taskStatsVersion)
	if t.TID() == p.pid {
		k.tree.RLock()
		execed := p.execed
		k.tree.RUnlock()
		if !execed {
			b[tsFlag] |= acctForkNoExec
		}
	}
	a := t.SchedParam()
	b[tsNice], b[tsSched] = byte(a.Nice), byte(a.Policy)
	run := uint64(u.User + u.System)
	for at, v := range map[int]uint64{
		tsCPUCount: u.Voluntary + u.Involuntary, tsRunReal: run, tsRunTime: run, tsRunScaled: run,
		tsElapsed: uint64(now-since) / 1e3, tsTGElapsed: uint64(now-p.StartTime()) / 1e3,
		tsUser: uint64(u.User) / 1e3, tsSystem: uint64(u.System) / 1e3, tsUserScl: uint64(u.User) / 1e3, tsSystemScl: uint64(u.System) / 1e3,
		tsMinFlt: u.MinFlt, tsMajFlt: u.MajFlt, tsVoluntary: u.Voluntary, tsInvol: u.Involuntary, tsBegin64: uint64(begin),
		tsReadChar: io.ReadBytes, tsWriteChar: io.WrittenBytes, tsReads: io.Reads, tsWrites: io.Writes,
	} {
		le.PutUint64(b[at:], v)
	}
	copy(b[tsComm:tsComm+31], t.Name())
	for at, v := range map[int]uint32{tsUID: c.UID, tsGID: c.GID, tsPID: uint32(t.TID()), tsPPID: uint32(p.PPID()),
		tsBegin: uint32(begin), tsTGID: uint32(p.pid)} {
		le.PutUint32(b[at:], v)
	}
	t.imageStats(b)
	return b
}

// imageStats are the fields about memory and program.
func (t *Thread) imageStats(b []byte) {
	le := binary.LittleEndian
	img := t.process.image.Load()
	if img == nil {
		return
	}
	if s := t.space; s != nil {
		le.PutUint64(b[tsPeakRSS:], uint64(s.Peak())<<2)
		le.PutUint64(b[tsPeakVM:], uint64(s.Usage().Total)<<2)
	}
	if img.Exe != nil {
		if a, err := img.Exe.Ops.Attr(nil); err == nil {
			le.PutUint64(b[tsExeDev:], a.Dev)
			le.PutUint64(b[tsExeInode:], a.Ino)
		}
	}
}

// GroupStats is struct taskstats of a process: sums over its threads.
func (p *Process) GroupStats() []byte {
	le := binary.LittleEndian
	b := make([]byte, taskStatsSize)
	u := p.Usage()
	elapsed := uint64(0)
	for _, t := range p.Threads() {
		elapsed += uint64(t.k.M.Nanotime()-t.StartTime()) / 1e3
	}
	run := uint64(u.User + u.System)
	le.PutUint16(b, taskStatsVersion)
	for at, v := range map[int]uint64{tsCPUCount: u.Voluntary + u.Involuntary, tsRunReal: run, tsRunTime: run, tsRunScaled: run, tsElapsed: elapsed,
		tsUser: uint64(u.User) / 1e3, tsSystem: uint64(u.System) / 1e3, tsVoluntary: u.Voluntary, tsInvol: u.Involuntary} {
		le.PutUint64(b[at:], v)
	}
	return b
}

// StatsOf is struct taskstats of the thread, or with group the process, with a number; ESRCH.
func (k *Kernel) StatsOf(id int32, group bool) ([]byte, error) {
	t := k.Thread(id)
	switch {
	case t == nil:
		return nil, unix.ESRCH
	case group:
		return t.process.GroupStats(), nil
	}
	return t.TaskStats(), nil
}
