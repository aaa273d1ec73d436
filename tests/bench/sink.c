/* sink KBYTES WAIT_MS: receives conntrack's NEW and DESTROY events with recvmmsg and discards them,
 * until SIGTERM.
 *
 * It measures the cost of receiving alone, the minimum for every recorder.  The buffer has KBYTES,
 * and the socket has NETLINK_NO_ENOBUFS.  WAIT_MS between poll() and the read let a batch form.  It
 * prints "ready" when it is subscribed, and at the end: events, bytes, drops, user and system
 * seconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

enum { BATCH = 1024, SLOT = 512 };

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

int main(int argc, char **argv)
{
	static char slots[BATCH][SLOT];
	static struct iovec iov[BATCH];
	static struct mmsghdr messages[BATCH];
	uint64_t events = 0, bytes = 0;

	if (argc != 3) {
		fprintf(stderr, "usage: sink KBYTES WAIT_MS\n");
		return 2;
	}
	int size = atoi(argv[1]) * 1024, one = 1;
	long wait_ns = atol(argv[2]) * 1000000;
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address))
		die("netlink socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
		die("SO_RCVBUFFORCE");
	if (setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &one, sizeof one))
		die("NETLINK_NO_ENOBUFS");
	int groups[] = { NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_DESTROY };
	for (size_t i = 0; i < 2; i++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof groups[i]))
			die("NETLINK_ADD_MEMBERSHIP");
	for (size_t i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ slots[i], SLOT };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1 };
	}
	signal(SIGTERM, stop);
	printf("ready\n");
	fflush(stdout);

	while (!stopped) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		if (poll(&p, 1, 100) <= 0)
			continue;
		nanosleep(&(struct timespec){ 0, wait_ns }, NULL);
		int n;
		while ((n = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL)) > 0) {
			events += n;
			for (int i = 0; i < n; i++)
				bytes += messages[i].msg_len;
		}
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			die("recvmmsg");
	}

	uint32_t meminfo[SK_MEMINFO_VARS] = { 0 };
	socklen_t length = sizeof meminfo;
	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, meminfo, &length))
		die("SO_MEMINFO");
	struct rusage used;
	getrusage(RUSAGE_SELF, &used);
	printf("%llu %llu %u %.6f %.6f\n", (unsigned long long)events, (unsigned long long)bytes,
	       meminfo[SK_MEMINFO_DROPS], used.ru_utime.tv_sec + used.ru_utime.tv_usec / 1e6,
	       used.ru_stime.tv_sec + used.ru_stime.tv_usec / 1e6);
	return 0;
}
