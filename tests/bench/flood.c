/* flood DEVICE ROUTER_MAC FIRST COUNT [RATE]: sends COUNT UDP packets, each a new flow, as fast as
 * one core can, or RATE a second.
 *
 * Flow number n, FIRST <= n < FIRST + COUNT, is always the same packet.  Source ports do not repeat
 * within PORTS flows, and the destination port changes from one such run to the next.  So no two
 * flows differ only in the source address, and a NAT to one public address keeps every port.
 * Addresses and ports are scattered, as in real traffic: sorted ones would compress too well.
 * It uses a packet socket, because a UDP socket would have to be bound again for every flow.  It
 * prints the number of packets and the seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* SCATTER has no factor in common with PORTS. */
enum { BATCH = 64, PAYLOAD = 4, PORTS = 60000, SCATTER = 36343 };

struct packet {
	struct ether_header eth;
	struct iphdr ip;
	struct udphdr udp;
	char payload[PAYLOAD];
} __attribute__((packed));

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static uint16_t ip_checksum(struct iphdr ip)
{
	uint16_t words[sizeof ip / 2];
	uint32_t sum = 0;
	memcpy(words, &ip, sizeof ip);
	for (size_t i = 0; i < sizeof ip / 2; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

static void fill(struct packet *p, uint64_t n)
{
	uint32_t hash = (uint32_t)(n * 2654435761u);
	hash ^= hash >> 15;
	p->ip.saddr = htonl(0xc0a80200 + 1 + hash % 250);         /* 192.168.2.1 to .250 */
	p->ip.daddr = htonl(0xc6120000 + (hash >> 8) % 0x20000);  /* 198.18.0.0/15, RFC 2544 */
	p->ip.check = 0;
	p->ip.check = ip_checksum(p->ip);
	p->udp.source = htons(1024 + n * SCATTER % PORTS);
	p->udp.dest = htons(1 + n / PORTS % 65535);
}

int main(int argc, char **argv)
{
	static struct packet packets[BATCH];
	static struct iovec iov[BATCH];
	static struct mmsghdr messages[BATCH];
	struct packet model = {
		.eth = { .ether_type = htons(ETHERTYPE_IP) },
		.ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP,
			.tot_len = htons(sizeof model - sizeof model.eth) },
		.udp = { .len = htons(sizeof model.udp + PAYLOAD) },
	};
	uint8_t *mac = model.eth.ether_dhost;

	if (argc < 5 || sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2,
			mac + 3, mac + 4, mac + 5) != 6) {
		fprintf(stderr, "usage: flood DEVICE ROUTER_MAC FIRST COUNT [RATE]\n");
		return 2;
	}
	uint64_t first = strtoull(argv[3], NULL, 10), count = strtoull(argv[4], NULL, 10);
	double rate = argc > 5 ? atof(argv[5]) : 0;
	size_t batch = rate > 0 && rate < 10000 ? 1 : BATCH; /* slowly: evenly */

	int fd = socket(AF_PACKET, SOCK_RAW, 0), one = 1;
	if (fd < 0)
		die("packet socket");
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1]) };
	if (!to.sll_ifindex || bind(fd, (struct sockaddr *)&to, sizeof to))
		die(argv[1]);
	if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one))
		die("PACKET_QDISC_BYPASS");
	for (size_t i = 0; i < BATCH; i++) {
		packets[i] = model;
		iov[i] = (struct iovec){ &packets[i], sizeof packets[i] };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1 };
	}

	double begin = now();
	for (uint64_t sent = 0; sent < count;) {
		size_t n = count - sent < batch ? count - sent : batch;
		for (size_t i = 0; i < n; i++)
			fill(&packets[i], first + sent + i);
		for (size_t done = 0; done < n;) {
			int result = sendmmsg(fd, messages + done, n - done, 0);
			if (result < 0 && errno != ENOBUFS && errno != EINTR)
				die("sendmmsg");
			if (result > 0)
				done += result;
		}
		sent += n;
		if (rate > 0) {
			double ahead = begin + sent / rate - now();
			if (ahead > 0)
				nanosleep(&(struct timespec){ (time_t)ahead, (ahead - (time_t)ahead) * 1e9 }, NULL);
		}
	}
	printf("%llu %.6f\n", (unsigned long long)count, now() - begin);
	return 0;
}
