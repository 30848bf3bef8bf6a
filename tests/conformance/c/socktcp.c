/* TCP: its options, TCP_INFO, closing. */
#include "sock.h"
#include <linux/sockios.h>

static int t4(void) { int s; MUST(s = socket(AF_INET, SOCK_STREAM, 0)); return s; }

CASE(defaults, getsockopt)
{
	int s = t4();
	GET(s, SOL_TCP, TCP_NODELAY);
	GET(s, SOL_TCP, TCP_MAXSEG);
	GET(s, SOL_TCP, TCP_CORK);
	GET(s, SOL_TCP, TCP_KEEPIDLE);
	GET(s, SOL_TCP, TCP_KEEPINTVL);
	GET(s, SOL_TCP, TCP_KEEPCNT);
	GET(s, SOL_TCP, TCP_SYNCNT);
	GET(s, SOL_TCP, TCP_LINGER2);
	GET(s, SOL_TCP, TCP_DEFER_ACCEPT);
	GET(s, SOL_TCP, TCP_WINDOW_CLAMP);
	GET(s, SOL_TCP, TCP_QUICKACK);
	GET(s, SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS);
	GET(s, SOL_TCP, TCP_THIN_DUPACK);
	GET(s, SOL_TCP, TCP_USER_TIMEOUT);
	GET(s, SOL_TCP, TCP_REPAIR);
	GET(s, SOL_TCP, TCP_REPAIR_QUEUE);
	GET(s, SOL_TCP, TCP_QUEUE_SEQ);
	GET(s, SOL_TCP, TCP_FASTOPEN);

	GET(s, SOL_TCP, TCP_NOTSENT_LOWAT);
	GET(s, SOL_TCP, TCP_SAVE_SYN);
	GET(s, SOL_TCP, TCP_FASTOPEN_CONNECT);
	GET(s, SOL_TCP, TCP_FASTOPEN_NO_COOKIE);
	GET(s, SOL_TCP, TCP_INQ);
	GET(s, SOL_TCP, TCP_MD5SIG);
	GET(s, SOL_TCP, TCP_ULP);
	GET(s, SOL_TCP, TCP_SAVED_SYN);
	GET(s, SOL_TCP, 0);
}

CASE(values, setsockopt, getsockopt)
{
	int s = t4();
	SET(s, SOL_TCP, TCP_NODELAY, 3);
	SET(s, SOL_TCP, TCP_NODELAY, 0);
	SET(s, SOL_TCP, TCP_CORK, 3);
	SET(s, SOL_TCP, TCP_CORK, 0);
	SET(s, SOL_TCP, TCP_MAXSEG, 1000);
	SET(s, SOL_TCP, TCP_MAXSEG, 87);
	SET(s, SOL_TCP, TCP_MAXSEG, 88);
	SET(s, SOL_TCP, TCP_MAXSEG, 32768);
	SET(s, SOL_TCP, TCP_MAXSEG, 0);
	SET(s, SOL_TCP, TCP_KEEPIDLE, 1);
	SET(s, SOL_TCP, TCP_KEEPIDLE, 32767);
	SET(s, SOL_TCP, TCP_KEEPIDLE, 32768);
	SET(s, SOL_TCP, TCP_KEEPIDLE, 0);
	SET(s, SOL_TCP, TCP_KEEPINTVL, 32767);
	SET(s, SOL_TCP, TCP_KEEPINTVL, 0);
	SET(s, SOL_TCP, TCP_KEEPINTVL, 32768);
	SET(s, SOL_TCP, TCP_KEEPCNT, 127);
	SET(s, SOL_TCP, TCP_KEEPCNT, 128);
	SET(s, SOL_TCP, TCP_KEEPCNT, 0);
	SET(s, SOL_TCP, TCP_SYNCNT, 127);
	SET(s, SOL_TCP, TCP_SYNCNT, 128);
	SET(s, SOL_TCP, TCP_SYNCNT, 0);
	SET(s, SOL_TCP, TCP_LINGER2, 5);
	SET(s, SOL_TCP, TCP_LINGER2, 120);
	SET(s, SOL_TCP, TCP_LINGER2, 121);
	SET(s, SOL_TCP, TCP_LINGER2, 0);
	SET(s, SOL_TCP, TCP_LINGER2, -1);
	SET(s, SOL_TCP, TCP_DEFER_ACCEPT, 1);
	SET(s, SOL_TCP, TCP_DEFER_ACCEPT, 5);
	SET(s, SOL_TCP, TCP_DEFER_ACCEPT, 30);
	SET(s, SOL_TCP, TCP_DEFER_ACCEPT, 0);
	SET(s, SOL_TCP, TCP_DEFER_ACCEPT, -1);
	SET(s, SOL_TCP, TCP_WINDOW_CLAMP, 10000);
	SET(s, SOL_TCP, TCP_WINDOW_CLAMP, 10);
	SET(s, SOL_TCP, TCP_WINDOW_CLAMP, 0);
	SET(s, SOL_TCP, TCP_QUICKACK, 0);
	SET(s, SOL_TCP, TCP_QUICKACK, 1);
	SET(s, SOL_TCP, TCP_USER_TIMEOUT, 1234);
	SET(s, SOL_TCP, TCP_USER_TIMEOUT, -1);
	SET(s, SOL_TCP, TCP_FASTOPEN, 5);
	SET(s, SOL_TCP, TCP_FASTOPEN, 0);
	SET(s, SOL_TCP, TCP_FASTOPEN, -1);
	SET(s, SOL_TCP, TCP_FASTOPEN_CONNECT, 1);
	SET(s, SOL_TCP, TCP_FASTOPEN_CONNECT, 2);
	SET(s, SOL_TCP, TCP_FASTOPEN_NO_COOKIE, 1);
	SET(s, SOL_TCP, TCP_FASTOPEN_NO_COOKIE, 2);
	SET(s, SOL_TCP, TCP_NOTSENT_LOWAT, 1000);
	SET(s, SOL_TCP, TCP_INQ, 1);
	SET(s, SOL_TCP, TCP_INQ, 2);
	SET(s, SOL_TCP, TCP_SAVE_SYN, 1);
	SET(s, SOL_TCP, TCP_SAVE_SYN, 3);
	SET(s, SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1);
	SET(s, SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, 2);
	SET(s, SOL_TCP, TCP_THIN_DUPACK, 1);
	SET(s, SOL_TCP, 0, 7);
	SET(s, SOL_TCP, TCP_INFO, 7);
	SET(s, SOL_TCP, TCP_REPAIR_WINDOW, 7);
	R(setsockopt(s, SOL_TCP, TCP_NODELAY, buf, 3));
	R(setsockopt(s, SOL_TCP, TCP_NODELAY, 0, 4));
}

CASE(congestion, setsockopt, getsockopt)
{
	int s = t4();
	char name[20];
	socklen_t n = sizeof name;
	R(getsockopt(s, SOL_TCP, TCP_CONGESTION, name, &n));
	say("%u bytes: %s", n, name);
	R(setsockopt(s, SOL_TCP, TCP_CONGESTION, "reno", 4));
	n = sizeof name;
	R(getsockopt(s, SOL_TCP, TCP_CONGESTION, name, &n));
	say("%u bytes: %s", n, name);
	n = 3;
	R(getsockopt(s, SOL_TCP, TCP_CONGESTION, name, &n));
	say("%u bytes", n);
	R(setsockopt(s, SOL_TCP, TCP_CONGESTION, "nosuch", 6));
	R(setsockopt(s, SOL_TCP, TCP_CONGESTION, "", 0));
	R(setsockopt(s, SOL_TCP, TCP_CONGESTION, "cubic\0", 6));
	R(setsockopt(s, SOL_TCP, TCP_ULP, "nosuch", 6));
}

CASE(info, getsockopt)
{
	struct tcp_info i;
	int s = t4(), p[2];
	socklen_t n = sizeof i;
	memset(&i, 0, sizeof i);
	R(getsockopt(s, SOL_TCP, TCP_INFO, &i, &n));
	say("%u bytes state %u ca %u retransmits %u", n, i.tcpi_state, i.tcpi_ca_state, i.tcpi_retransmits);
	say("rto %u ato %u mss %u %u unacked %u cwnd %u advmss %u reordering %u", i.tcpi_rto, i.tcpi_ato, i.tcpi_snd_mss, i.tcpi_rcv_mss,
		i.tcpi_unacked, i.tcpi_snd_cwnd, i.tcpi_advmss, i.tcpi_reordering);
	say("pmtu %u rcv_ssthresh %u rtt %u rttvar %u ssthresh %x", i.tcpi_pmtu, i.tcpi_rcv_ssthresh, i.tcpi_rtt, i.tcpi_rttvar, i.tcpi_snd_ssthresh);
	n = 8;
	R(getsockopt(s, SOL_TCP, TCP_INFO, &i, &n));
	say("%u bytes", n);
	tcp(AF_INET, p);
	send(p[0], buf, 1000, 0);
	recv(p[1], buf, 1000, MSG_WAITALL);
	send(p[1], buf, 10, 0);
	recv(p[0], buf, 10, MSG_WAITALL);
	settle();
	n = sizeof i;
	memset(&i, 0, sizeof i);
	R(getsockopt(p[0], SOL_TCP, TCP_INFO, &i, &n));
	say("%u bytes state %u ca %u", n, i.tcpi_state, i.tcpi_ca_state);
	say("options: timestamps %d sack %d wscale %d", !!(i.tcpi_options & 1), !!(i.tcpi_options & 2), !!(i.tcpi_options & 4));
	say("unacked %u lost %u retrans %u total %u", i.tcpi_unacked, i.tcpi_lost, i.tcpi_retrans, i.tcpi_total_retrans);
	say("acked %llu received %llu sent %llu", (long long)i.tcpi_bytes_acked, (long long)i.tcpi_bytes_received, (long long)i.tcpi_bytes_sent);
	IS(i.tcpi_segs_out >= 3 && i.tcpi_segs_in >= 2 && i.tcpi_data_segs_out >= 1 && i.tcpi_data_segs_in >= 1);
	IS(i.tcpi_rto >= 200000 && i.tcpi_rto < 3000000);
	IS(i.tcpi_rtt > 0 && i.tcpi_rttvar > 0);
	IS(i.tcpi_snd_cwnd >= 10);
	IS(i.tcpi_pmtu == 65535 || i.tcpi_pmtu == 65536);
	IS(i.tcpi_snd_mss > 10000 && i.tcpi_advmss > 10000);
	IS(i.tcpi_rcv_space > 1000);
	IS(i.tcpi_last_data_sent < 60000 && i.tcpi_last_data_recv < 60000 && i.tcpi_last_ack_recv < 60000);
	IS(i.tcpi_snd_wnd > 1000);
	close(p[1]);
	ready(p[0], POLLIN);
	n = sizeof i;
	R(getsockopt(p[0], SOL_TCP, TCP_INFO, &i, &n));
	say("state %u", i.tcpi_state);
}

CASE(states, getsockopt, shutdown)
{
	struct tcp_info i;
	socklen_t n = sizeof i, m;
	struct sockaddr_storage a;
#define STATE(s) ({ n = sizeof i; getsockopt(s, SOL_TCP, TCP_INFO, &i, &n); say(#s ": state %u", i.tcpi_state); })
	int l = bound(AF_INET, SOCK_STREAM, &a, &m), c = t4();
	STATE(l);
	listen(l, 3);
	STATE(l);
	MUST(connect(c, (void *)&a, m));
	int s = accept(l, 0, 0);
	STATE(c);
	STATE(s);
	R(shutdown(c, SHUT_WR));
	ready(s, POLLIN);
	settle();
	STATE(c);
	STATE(s);
	R(shutdown(s, SHUT_WR));
	settle();
	STATE(c);
	STATE(s);
	int d = t4();
	connect(d, (void *)&a, m);
	s = accept(l, 0, 0);
	struct linger lg = { 1, 0 };
	setsockopt(s, SOL_SOCKET, SO_LINGER, &lg, sizeof lg);
	close(s);
	ready(d, POLLIN);
	STATE(d);
	GET(d, SOL_SOCKET, SO_ERROR);
	GET(d, SOL_SOCKET, SO_ERROR);
	R(shutdown(l, SHUT_RD));
	STATE(l);
}

CASE(queues, ioctl)
{
	int p[2], v;
	struct sockaddr_storage a;
	socklen_t n;
	tcp(AF_INET, p);
	send(p[0], "12345", 5, 0);
	ready(p[1], POLLIN);
	R(ioctl(p[1], FIONREAD, &v));
	R(v);
	R(ioctl(p[1], SIOCATMARK, &v));
	R(v);
	settle();
	R(ioctl(p[0], SIOCOUTQ, &v));
	R(v);
	R(ioctl(p[0], SIOCOUTQNSD, &v));
	R(v);
	int l = bound(AF_INET, SOCK_STREAM, &a, &n);
	listen(l, 1);
	R(ioctl(l, FIONREAD, &v));
	R(ioctl(l, SIOCOUTQ, &v));
	R(ioctl(t4(), FIONREAD, &v));
	R(ioctl(p[0], FIONREAD, 0));
	R(ioctl(p[0], 0x8999, &v));
	R(ioctl(p[0], 0x1234, &v));
}

CASE(lingerclose, recvfrom)
{
	/* With a time, close waits until the data has been acknowledged. */
	int p[2];
	tcp(AF_INET, p);
	struct linger lg = { 1, 5 };
	setsockopt(p[0], SOL_SOCKET, SO_LINGER, &lg, sizeof lg);
	send(p[0], "last words", 10, 0);
	R(close(p[0]));
	R(recv(p[1], buf, 100, MSG_WAITALL));
	R(recv(p[1], buf, 100, 0));
	/* Unread data turns a close into a reset. */
	tcp(AF_INET, p);
	send(p[0], "unread", 6, 0);
	ready(p[1], POLLIN);
	close(p[1]);
	IS((ready(p[0], POLLIN) & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP));
	R(recv(p[0], buf, 1, 0));
	R(recv(p[0], buf, 1, 0));
	R(send(p[0], buf, 1, MSG_NOSIGNAL));
}

CASES
