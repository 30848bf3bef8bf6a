package syscalls

import "golang.org/x/sys/unix"

// netEntries are the rows of the net family.
var netEntries = []Entry{
	{Nr: unix.SYS_SOCKET, Name: "socket", Func: sysSocket, Support: Partial,
		Note: "AF_UNIX, AF_INET, AF_INET6, AF_NETLINK (route, sock_diag), AF_PACKET, AF_VSOCK over its loopback and virtio (no datagrams: ENODEV); raw sockets of TCP, UDP, ICMP and IPPROTO_RAW only (EPROTONOSUPPORT); no SCTP and MPTCP (EPROTONOSUPPORT)"},
	{Nr: unix.SYS_SOCKETPAIR, Name: "socketpair", Func: sysSocketpair, Support: Full},
	{Nr: unix.SYS_BIND, Name: "bind", Func: sysBind, Support: Full},
	{Nr: unix.SYS_LISTEN, Name: "listen", Func: sysListen, Support: Full},
	{Nr: unix.SYS_ACCEPT, Name: "accept", Func: sysAccept, Support: Full},
	{Nr: unix.SYS_ACCEPT4, Name: "accept4", Func: sysAccept4, Support: Full},
	{Nr: unix.SYS_CONNECT, Name: "connect", Func: sysConnect, Support: Full},
	{Nr: unix.SYS_GETSOCKNAME, Name: "getsockname", Func: sysGetsockname, Support: Full},
	{Nr: unix.SYS_GETPEERNAME, Name: "getpeername", Func: sysGetpeername, Support: Full},
	{Nr: unix.SYS_SETSOCKOPT, Name: "setsockopt", Func: sysSetsockopt, Support: Partial,
		Note: "no extended BPF (EBADF), no filters of SO_REUSEPORT (EINVAL), no SO_PEEK_OFF of UDP (ENOPROTOOPT) and IP_OPTIONS that say something (EINVAL); IP_FREEBIND, IP_MINTTL, IP_MULTICAST_ALL and hints about timing are kept without effect; TCP_FASTOPEN is accepted but no data travels in a SYN"},
	{Nr: unix.SYS_GETSOCKOPT, Name: "getsockopt", Func: sysGetsockopt, Support: Partial,
		Note: "TCP_INFO has the fields that netstack counts"},
	{Nr: unix.SYS_SENDTO, Name: "sendto", Func: sysSendto, Support: Partial, Note: "no MSG_OOB of TCP (EOPNOTSUPP), MSG_ZEROCOPY copies, IP_PKTINFO chooses no source among several addresses"},
	{Nr: unix.SYS_RECVFROM, Name: "recvfrom", Func: sysRecvfrom, Support: Partial, Note: "no MSG_OOB"},
	{Nr: unix.SYS_SENDMSG, Name: "sendmsg", Func: sysSendmsg, Support: Partial, Note: "as sendto"},
	{Nr: unix.SYS_RECVMSG, Name: "recvmsg", Func: sysRecvmsg, Support: Partial, Note: "as recvfrom"},
	{Nr: unix.SYS_SENDMMSG, Name: "sendmmsg", Func: sysSendmmsg, Support: Partial, Note: "as sendto"},
	{Nr: unix.SYS_RECVMMSG, Name: "recvmmsg", Func: sysRecvmmsg, Support: Partial, Note: "as recvfrom"},
	{Nr: unix.SYS_SHUTDOWN, Name: "shutdown", Func: sysShutdown, Support: Full},
}
