/* /dev/net/tun: interfaces that a program is the wire of. */
#include "sock.h"
#include <linux/if_tun.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <grp.h>

static int dev(void)
{
	int fd;
	MUST(fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK));
	return fd;
}

static struct ifreq ifr(const char *name, int flags)
{
	struct ifreq r;
	memset(&r, 0, sizeof r);
	strncpy(r.ifr_name, name, IFNAMSIZ);
	r.ifr_flags = flags;
	return r;
}

static int set(int fd, const char *name, int flags)
{
	struct ifreq r = ifr(name, flags);
	return ioctl(fd, TUNSETIFF, &r);
}

/* iface does what ifconfig does: an address with a mask, and up. */
static void iface(const char *name, const char *addr, const char *mask)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq r = ifr(name, 0);
	struct sockaddr_in *a = (void *)&r.ifr_addr;
	a->sin_family = AF_INET;
	inet_pton(AF_INET, addr, &a->sin_addr);
	MUST(ioctl(s, SIOCSIFADDR, &r));
	inet_pton(AF_INET, mask, &a->sin_addr);
	MUST(ioctl(s, SIOCSIFNETMASK, &r));
	r = ifr(name, IFF_UP | IFF_RUNNING);
	MUST(ioctl(s, SIOCSIFFLAGS, &r));
	close(s);
}

static void flags(const char *name)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq r = ifr(name, 0);
	errno = 0;
	if (ioctl(s, SIOCGIFFLAGS, &r))
		say("%s: %s", name, errname(errno));
	else
		say("%s: %s%s%s%s%s%s", name, r.ifr_flags & IFF_UP ? "up " : "", r.ifr_flags & IFF_RUNNING ? "running " : "", r.ifr_flags & IFF_POINTOPOINT ? "pointopoint " : "",
			r.ifr_flags & IFF_BROADCAST ? "broadcast " : "", r.ifr_flags & IFF_NOARP ? "noarp " : "", r.ifr_flags & IFF_MULTICAST ? "multicast" : "");
	close(s);
}

/* pkt reads the next packet of a protocol; the kernel has more to say than that. */
static int pkt(int fd, int head, int ip, int proto)
{
	for (int i = 0; i < 200; i++) {
		int r = read(fd, buf, sizeof buf);
		if (r < 0) {
			if (errno != EAGAIN)
				return r;
			poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 100);
			continue;
		}
		if (ip ? (buf[head] >> 4) == 4 && buf[head + 9] == proto : ntohs(*(uint16_t *)(buf + head + 12)) == proto)
			return r;
	}
	return -1;
}

static void shown(const char *what, int head, int n)
{
	struct iphdr *ip = (void *)(buf + head);
	struct udphdr *u = (void *)(ip + 1);
	char s[20], d[20];
	inet_ntop(AF_INET, &ip->saddr, s, sizeof s);
	inet_ntop(AF_INET, &ip->daddr, d, sizeof d);
	say("%s: %d bytes, version %d length %d protocol %d %s to %s:%d, %.*s", what, n - head, ip->version, ntohs(ip->tot_len), ip->protocol, s, d, ntohs(u->dest),
		ntohs(u->len) - 8, (char *)(u + 1));
}

static uint16_t sum(const void *p, int n, uint32_t s)
{
	const uint8_t *b = p;
	for (int i = 0; i < n; i++)
		s += i & 1 ? b[i] : b[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return htons(~s);
}

/* udp makes a packet at p; returns its length. */
static int made(char *p, const char *from, const char *to, int port, const char *text, int summed)
{
	struct iphdr *ip = (void *)p;
	struct udphdr *u = (void *)(ip + 1);
	int n = strlen(text);
	memset(p, 0, 28);
	ip->version = 4, ip->ihl = 5, ip->ttl = 64, ip->protocol = IPPROTO_UDP, ip->tot_len = htons(28 + n);
	inet_pton(AF_INET, from, &ip->saddr);
	inet_pton(AF_INET, to, &ip->daddr);
	ip->check = sum(ip, 20, 0);
	u->source = htons(9), u->dest = htons(port), u->len = htons(8 + n);
	memcpy(u + 1, text, n);
	uint32_t pseudo = IPPROTO_UDP + 8 + n;
	for (int i = 12; i < 20; i++)
		pseudo += i & 1 ? (uint8_t)p[i] : (uint8_t)p[i] << 8;
	if (summed)
		u->check = sum(u, 8 + n, pseudo);
	else
		u->check = ~sum(u, 0, pseudo);
	return 28 + n;
}

static int sock(const char *addr, int port)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = v4(0, port);
	inet_pton(AF_INET, addr, &a.sin_addr);
	MUST(bind(s, SA(a)));
	return s;
}

static void send_to(int s, const char *addr, const char *text)
{
	struct sockaddr_in a = v4(0, 7);
	inet_pton(AF_INET, addr, &a.sin_addr);
	errno = 0;
	int r = sendto(s, text, strlen(text), 0, SA(a));
	say("send to %s: %s", addr, r < 0 ? errname(errno) : "ok");
}

CASE(errors, ioctl, openat)
{
	struct stat st;
	int v = 0;
	MUST(stat("/dev/net/tun", &st));
	say("%o %d:%d", st.st_mode & S_IFMT, major(st.st_rdev), minor(st.st_rdev));
	int fd = dev();
	struct ifreq r;
	R(read(fd, buf, 100));
	R(write(fd, buf, 100));
	struct pollfd p = { fd, POLLIN | POLLOUT, 0 };
	R(poll(&p, 1, 0)); say("%#x", p.revents);
	R(ioctl(fd, TUNGETFEATURES, &v));
	IS((v & (IFF_TUN | IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE)) == (IFF_TUN | IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE));
	R(ioctl(fd, TUNGETFEATURES, 8));
	R(ioctl(fd, TUNSETIFF, 8));
	R(ioctl(fd, TUNGETIFF, &r));
	R(ioctl(fd, TUNGETIFF, 8));
	R(ioctl(fd, TUNSETPERSIST, 1));
	R(ioctl(fd, TUNSETOFFLOAD, 0));
	R(ioctl(fd, TUNGETSNDBUF, &v));
	R(ioctl(fd, 0x4f00, 0));
	R(set(fd, "k%d", 0));
	R(set(fd, "k/x", IFF_TUN));
	R(set(fd, "k x", IFF_TUN));
	R(set(fd, "%d%d", IFF_TUN));
	R(set(fd, "%s", IFF_TUN));
	R(set(fd, "..", IFF_TUN));
	R(set(fd, "lo", IFF_TUN));
	R(set(fd, "lo", IFF_TUN | IFF_TUN_EXCL));
	R(set(fd, "kt0", IFF_TAP | IFF_NAPI_FRAGS));
	R(set(fd, "kt0", IFF_TUN));
	R(set(fd, "kt1", IFF_TUN));
	int other = dev();
	R(set(other, "kt0", IFF_TUN));
	R(set(other, "kt0", IFF_TAP));
	R(set(other, "kt0", IFF_TUN | IFF_TUN_EXCL));
	R(set(other, "kt0", IFF_TUN | IFF_MULTI_QUEUE));
	v = -1;
	R(ioctl(other, TUNSETIFINDEX, &v));
	v = 4711;
	R(ioctl(other, TUNSETIFINDEX, &v));
	R(set(other, "kt%d", IFF_TUN));
	say("index %u", if_nametoindex("kt1"));
	R(ioctl(other, TUNSETIFINDEX, &v));
	R(ioctl(fd, 0x4f00, 0));
	R(ioctl(fd, TUNSETOFFLOAD, 0x1000));
	R(ioctl(fd, TUNSETOFFLOAD, TUN_F_TSO4));
	R(ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6));
	R(ioctl(fd, TUNSETOWNER, -1));
	R(ioctl(fd, TUNSETGROUP, -1));
	v = 9;
	R(ioctl(fd, TUNSETVNETHDRSZ, &v));
	v = 12;
	R(ioctl(fd, TUNSETVNETHDRSZ, &v));
	v = 0;
	R(ioctl(fd, TUNGETVNETHDRSZ, &v)); R(v);
	v = 0;
	R(ioctl(fd, TUNSETSNDBUF, &v));
	v = 70000;
	R(ioctl(fd, TUNSETSNDBUF, &v));
	R(ioctl(fd, TUNGETSNDBUF, &v)); R(v);
	R(ioctl(fd, TUNSETQUEUE, &r));
	r = ifr("", IFF_DETACH_QUEUE);
	R(ioctl(fd, TUNSETQUEUE, &r));
}

CASE(unprivileged, ioctl)
{
	int fd = dev(), kept = dev();
	MUST(set(kept, "kt0", IFF_TUN | IFF_NO_PI));
	MUST(ioctl(kept, TUNSETPERSIST, 1));
	MUST(ioctl(kept, TUNSETOWNER, 1000));
	MUST(ioctl(kept, TUNSETGROUP, 1001));
	close(kept);
	int st;
	for (int i = 0; i < 3; i++) {
		static const int ids[][2] = { { 1000, 1001 }, { 1000, 1000 }, { 1001, 1001 } };
		if (fork() == 0) {
			MUST(setgroups(0, 0));
			MUST(setresgid(ids[i][1], ids[i][1], ids[i][1]));
			MUST(setresuid(ids[i][0], ids[i][0], ids[i][0]));
			say("-- %d %d", ids[i][0], ids[i][1]);
			R(set(fd, "kt1", IFF_TUN));
			R(set(fd, "kt0", IFF_TUN | IFF_NO_PI));
			_exit(0);
		}
		wait(&st);
		close(fd);
		fd = dev();
	}
	MUST(set(fd, "kt0", IFF_TUN));
	MUST(ioctl(fd, TUNSETPERSIST, 0));
}

CASE(packets, ioctl, read, write)
{
	int fd = dev(), n;
	struct ifreq r;
	MUST(set(fd, "kt%d", IFF_TUN | IFF_NO_PI));
	R(ioctl(fd, TUNGETIFF, &r));
	say("%s %#x", r.ifr_name, r.ifr_flags);
	flags("kt0");
	R(write(fd, buf, 100));
	struct pollfd p = { fd, POLLIN | POLLOUT, 0 };
	R(poll(&p, 1, 0)); say("%#x", p.revents);
	iface("kt0", "10.9.0.1", "255.255.255.0");
	flags("kt0");
	R(poll(&p, 1, 0)); say("%#x", p.revents & POLLOUT);
	int s = sock("10.9.0.1", 7000);
	send_to(s, "10.9.0.2", "first");
	if ((n = pkt(fd, 0, 1, IPPROTO_UDP)) > 0)
		shown("read", 0, n);
	n = made(buf, "10.9.0.2", "10.9.0.1", 7000, "answer", 1);
	R(write(fd, buf, n));
	struct sockaddr_in a;
	socklen_t l = sizeof a;
	n = recvfrom(s, buf, sizeof buf, 0, (void *)&a, &l);
	say("got %.*s from %s:%d", n, buf, inet_ntoa(a.sin_addr), ntohs(a.sin_port));
	n = made(buf, "10.9.0.2", "10.9.0.1", 7000, "wrong sum", 1);
	buf[27]++;
	R(write(fd, buf, n));
	R(write(fd, buf, 0));
	R(write(fd, "\x10xx", 3));
	R(write(fd, "\x45xx", 3));
	R(write(fd, (void *)8, 30));
	usleep(50000);
	R(recv(s, buf, sizeof buf, MSG_DONTWAIT));
	send_to(s, "10.9.0.3", "cut to size");
	for (int i = 0; i < 50; i++) {
		n = read(fd, buf, 30);
		if (n > 9 && (buf[0] >> 4) == 4 && buf[9] == IPPROTO_UDP)
			break;
		usleep(1000);
	}
	R(n);
	while (read(fd, buf, sizeof buf) > 0)
		;
	R(read(fd, buf, sizeof buf));
	send_to(s, "10.9.1.1", "no route");
	/* ICMP: the kernel answers for its address. */
	close(s);
	n = made(buf, "10.9.0.2", "10.9.0.1", 7000, "nobody there", 1);
	R(write(fd, buf, n));
	if ((n = pkt(fd, 0, 1, IPPROTO_ICMP)) > 0)
		say("icmp type %d code %d", buf[20], buf[21]);
	r = ifr("kt0", 0);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	R(ioctl(fd, TUNSETLINK, ARPHRD_ETHER));
	R(ioctl(s, SIOCSIFFLAGS, &r));
	flags("kt0");
	R(write(fd, buf, 28));
	R(ioctl(fd, TUNSETLINK, ARPHRD_PPP));
	R(ioctl(s, SIOCGIFHWADDR, &r)); R(r.ifr_hwaddr.sa_family);
	R(ioctl(s, SIOCGIFMTU, &r)); R(r.ifr_mtu);
	R(ioctl(s, SIOCGIFTXQLEN, &r)); R(r.ifr_qlen);
	r.ifr_mtu = 9000;
	R(ioctl(s, SIOCSIFMTU, &r));
	r.ifr_mtu = 67;
	R(ioctl(s, SIOCSIFMTU, &r));
	close(fd);
	flags("kt0");
	R(if_nametoindex("kt0"));
}

CASE(info, ioctl)
{
	int fd = dev(), n;
	MUST(set(fd, "kt0", IFF_TUN));
	iface("kt0", "10.9.0.1", "255.255.255.0");
	int s = sock("10.9.0.1", 7000);
	send_to(s, "10.9.0.2", "with info");
	if ((n = pkt(fd, 4, 1, IPPROTO_UDP)) > 0) {
		struct tun_pi *pi = (void *)buf;
		say("flags %d proto %#x", pi->flags, ntohs(pi->proto));
		shown("read", 4, n);
	}
	R(write(fd, "abc", 3));
	*(struct tun_pi *)buf = (struct tun_pi){ 0, htons(ETH_P_IP) };
	n = made(buf + 4, "10.9.0.2", "10.9.0.1", 7000, "answer", 1);
	R(write(fd, buf, n + 4));
	n = recv(s, buf, sizeof buf, 0);
	say("got %.*s", n, buf);
	send_to(s, "10.9.0.2", "cut");
	for (int i = 0; i < 50; i++) {
		memset(buf, 0, 64);
		n = read(fd, buf, 20);
		if (n > 13 && (buf[4] >> 4) == 4 && buf[13] == IPPROTO_UDP)
			break;
		usleep(1000);
	}
	say("%d bytes, flags %d", n, ((struct tun_pi *)buf)->flags);
	send_to(s, "10.9.0.2", "cut");
	for (int i = 0; i < 50 && (n = read(fd, buf, 3)) < 0 && errno == EAGAIN; i++)
		usleep(1000);
	result("read", n, errno);
}

CASE(vnet, ioctl)
{
	int fd = dev(), n;
	MUST(set(fd, "kt0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR));
	R(ioctl(fd, TUNSETOFFLOAD, 0));
	iface("kt0", "10.9.0.1", "255.255.255.0");
	int s = sock("10.9.0.1", 7000);
	send_to(s, "10.9.0.2", "behind a header");
	if ((n = pkt(fd, 10, 1, IPPROTO_UDP)) > 0) {
		struct virtio_net_hdr *h = (void *)buf;
		say("flags %d gso %d", h->flags, h->gso_type);
		shown("read", 10, n);
	}
	struct virtio_net_hdr h = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 20, .csum_offset = 6 };
	n = made(buf + 10, "10.9.0.2", "10.9.0.1", 7000, "sum it", 0);
	memcpy(buf, &h, 10);
	R(write(fd, buf, n + 10));
	n = recv(s, buf, sizeof buf, 0);
	say("got %.*s", n, buf);
	R(write(fd, buf, 9));
	h.csum_start = 2000;
	n = made(buf + 10, "10.9.0.2", "10.9.0.1", 7000, "outside", 0);
	memcpy(buf, &h, 10);
	R(write(fd, buf, n + 10));
	h = (struct virtio_net_hdr){ .hdr_len = 3000 };
	memcpy(buf, &h, 10);
	R(write(fd, buf, n + 10));
	R(recv(s, buf, sizeof buf, MSG_DONTWAIT));
}

CASE(tap, ioctl)
{
	int fd = dev(), n;
	struct ifreq r;
	MUST(set(fd, "kp%d", IFF_TAP | IFF_NO_PI));
	flags("kp0");
	iface("kp0", "10.9.0.1", "255.255.255.0");
	flags("kp0");
	R(ioctl(fd, SIOCGIFHWADDR, &r));
	say("family %d local %d multicast %d", r.ifr_hwaddr.sa_family, r.ifr_hwaddr.sa_data[0] >> 1 & 1, r.ifr_hwaddr.sa_data[0] & 1);
	int s = sock("10.9.0.1", 7000);
	R(write(fd, buf, 13));
	send_to(s, "10.9.0.2", "over ethernet");
	struct { struct ethhdr e; struct arphdr a; uint8_t sha[6], spa[4], tha[6], tpa[4]; } __attribute__((packed)) arp;
	do {
		n = pkt(fd, 0, 0, ETH_P_ARP);
		memcpy(&arp, buf, sizeof arp);
	} while (n > 0 && arp.tpa[3] != 2); /* announcements */
	say("%d bytes, broadcast %d, op %d, who has %d.%d.%d.%d tell %d.%d.%d.%d, mine %d", n, !memcmp(arp.e.h_dest, "\xff\xff\xff\xff\xff\xff", 6), ntohs(arp.a.ar_op), arp.tpa[0], arp.tpa[1],
		arp.tpa[2], arp.tpa[3], arp.spa[0], arp.spa[1], arp.spa[2], arp.spa[3], !memcmp(arp.sha, r.ifr_hwaddr.sa_data, 6));
	memcpy(arp.e.h_dest, arp.sha, 6);
	memcpy(arp.e.h_source, "\x02kiln!", 6);
	arp.a.ar_op = htons(ARPOP_REPLY);
	memcpy(arp.tha, arp.sha, 6), memcpy(arp.tpa, arp.spa, 4);
	memcpy(arp.sha, "\x02kiln!", 6), memcpy(arp.spa, "\x0a\x09\x00\x02", 4);
	R(write(fd, &arp, sizeof arp));
	while ((n = pkt(fd, 0, 0, ETH_P_IP)) > 0 && buf[14 + 9] != IPPROTO_UDP)
		;
	say("to the answer's address %d", !memcmp(buf, "\x02kiln!", 6));
	shown("read", 14, n);
	memcpy(buf, r.ifr_hwaddr.sa_data, 6), memcpy(buf + 6, "\x02kiln!", 6);
	buf[12] = 8, buf[13] = 0;
	n = made(buf + 14, "10.9.0.2", "10.9.0.1", 7000, "answer", 1);
	R(write(fd, buf, n + 14));
	n = recv(s, buf, sizeof buf, 0);
	say("got %.*s", n, buf);
	r = ifr("kp0", 0);
	R(ioctl(s, SIOCGIFTXQLEN, &r)); R(r.ifr_qlen);
	close(fd);
	flags("kp0");
	send_to(s, "10.9.0.2", "no more");
}

CASE(persist, ioctl)
{
	int fd = dev();
	struct ifreq r;
	MUST(set(fd, "kt0", IFF_TUN | IFF_NO_PI));
	R(ioctl(fd, TUNSETPERSIST, 1));
	R(ioctl(fd, TUNGETIFF, &r)); say("%#x", r.ifr_flags);
	iface("kt0", "10.9.0.1", "255.255.255.0");
	flags("kt0");
	close(fd);
	int s = sock("10.9.0.1", 7000);
	send_to(s, "10.9.0.2", "nobody reads");
	fd = dev();
	R(set(fd, "kt0", IFF_TUN));
	R(ioctl(fd, TUNGETIFF, &r)); say("%#x", r.ifr_flags);
	flags("kt0");
	R(ioctl(fd, TUNSETPERSIST, 0));
	close(fd);
	flags("kt0");
}

CASE(queues, ioctl)
{
	int a = dev(), b = dev(), n = 0, m = 0;
	MUST(set(a, "kt0", IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE));
	R(set(b, "kt0", IFF_TUN | IFF_NO_PI));
	R(set(b, "kt0", IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE));
	iface("kt0", "10.9.0.1", "255.255.255.0");
	int s = sock("10.9.0.1", 7000);
	for (int i = 0; i < 40; i++) {
		struct sockaddr_in to = v4(0x0a090002 + i, 1000 + 7 * i);
		sendto(s, "x", 1, 0, SA(to));
	}
	usleep(50000);
	for (int fd = a, k = 0; k < 2; k++, fd = b)
		for (int r; (r = read(fd, buf, sizeof buf)) > 0;)
			if ((buf[0] >> 4) == 4 && buf[9] == IPPROTO_UDP)
				n++;
	say("%d packets in both", n);
	struct ifreq r = ifr("", IFF_DETACH_QUEUE);
	R(ioctl(b, TUNSETQUEUE, &r));
	R(ioctl(b, TUNSETQUEUE, &r));
	for (int i = 0; i < 40; i++) {
		struct sockaddr_in to = v4(0x0a090002 + i, 1000 + 7 * i);
		sendto(s, "x", 1, 0, SA(to));
	}
	usleep(50000);
	for (int x; (x = read(a, buf, sizeof buf)) > 0;)
		if ((buf[0] >> 4) == 4 && buf[9] == IPPROTO_UDP)
			m++;
	say("%d packets in one", m);
	r = ifr("", IFF_ATTACH_QUEUE);
	R(ioctl(b, TUNSETQUEUE, &r));
	R(ioctl(b, TUNSETQUEUE, &r));
	close(a);
	flags("kt0");
	close(b);
	flags("kt0");
}

CASE(peer, ioctl)
{
	int fd = dev(), s = socket(AF_INET, SOCK_DGRAM, 0);
	MUST(set(fd, "kt0", IFF_TUN | IFF_NO_PI));
	struct ifreq r = ifr("kt0", 0);
	struct sockaddr_in *a = (void *)&r.ifr_addr;
	a->sin_family = AF_INET;
	R(ioctl(s, SIOCSIFDSTADDR, &r));
	inet_pton(AF_INET, "10.9.0.1", &a->sin_addr);
	R(ioctl(s, SIOCSIFADDR, &r));
	R(ioctl(s, SIOCGIFNETMASK, &r)); say("%s", inet_ntoa(a->sin_addr));
	inet_pton(AF_INET, "10.9.0.2", &a->sin_addr);
	R(ioctl(s, SIOCSIFDSTADDR, &r));
	R(ioctl(s, SIOCGIFDSTADDR, &r)); say("%s", inet_ntoa(a->sin_addr));
	R(ioctl(s, SIOCGIFADDR, &r)); say("%s", inet_ntoa(a->sin_addr));
	r = ifr("kt0", IFF_UP);
	R(ioctl(s, SIOCSIFFLAGS, &r));
	send_to(s, "10.9.0.2", "to the peer");
	send_to(s, "10.9.0.3", "to nobody");
	int n = pkt(fd, 0, 1, IPPROTO_UDP);
	if (n > 0)
		shown("read", 0, n);
}

CASES
