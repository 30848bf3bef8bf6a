package syscalls

import "golang.org/x/sys/unix"

// pollEntries are the rows of the poll family.
var pollEntries = []Entry{
	{Nr: unix.SYS_POLL, Name: "poll", Func: sysPoll, Support: Full},
	{Nr: unix.SYS_PPOLL, Name: "ppoll", Func: sysPpoll, Support: Full},
	{Nr: unix.SYS_SELECT, Name: "select", Func: sysSelect, Support: Full},
	{Nr: unix.SYS_PSELECT6, Name: "pselect6", Func: sysPselect6, Support: Full},
	{Nr: unix.SYS_EPOLL_CREATE, Name: "epoll_create", Func: sysEpollCreate, Support: Full},
	{Nr: unix.SYS_EPOLL_CREATE1, Name: "epoll_create1", Func: sysEpollCreate1, Support: Full},
	{Nr: unix.SYS_EPOLL_CTL, Name: "epoll_ctl", Func: sysEpollCtl, Support: Partial,
		Note: "EPOLLWAKEUP has no meaning here"},
	{Nr: unix.SYS_EPOLL_WAIT, Name: "epoll_wait", Func: sysEpollWait, Support: Full},
	{Nr: unix.SYS_EPOLL_PWAIT, Name: "epoll_pwait", Func: sysEpollPwait, Support: Full},
	{Nr: unix.SYS_EPOLL_PWAIT2, Name: "epoll_pwait2", Func: sysEpollPwait2, Support: Full},
	{Nr: unix.SYS_PIPE, Name: "pipe", Func: sysPipe, Support: Full},
	{Nr: unix.SYS_PIPE2, Name: "pipe2", Func: sysPipe2, Support: Partial, Note: "no notification pipes"},
	{Nr: unix.SYS_EVENTFD, Name: "eventfd", Func: sysEventfd, Support: Full},
	{Nr: unix.SYS_EVENTFD2, Name: "eventfd2", Func: sysEventfd2, Support: Full},
	{Nr: unix.SYS_TIMERFD_CREATE, Name: "timerfd_create", Func: sysTimerfdCreate, Support: Full},
	{Nr: unix.SYS_TIMERFD_SETTIME, Name: "timerfd_settime", Func: sysTimerfdSettime, Support: Full},
	{Nr: unix.SYS_TIMERFD_GETTIME, Name: "timerfd_gettime", Func: sysTimerfdGettime, Support: Full},
	{Nr: unix.SYS_SIGNALFD, Name: "signalfd", Func: sysSignalfd, Support: Partial, Note: "as signalfd4"},
	{Nr: unix.SYS_SIGNALFD4, Name: "signalfd4", Func: sysSignalfd4, Support: Partial,
		Note: "epoll, io_uring and aio see the signals of the thread that made the descriptor and of its process; read, poll and select take the caller's"},
	{Nr: unix.SYS_MEMFD_CREATE, Name: "memfd_create", Func: sysMemfdCreate, Support: Partial, Note: "no huge pages"},
}
