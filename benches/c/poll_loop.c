/*
 * The poll loop of the poll_loop bench in C: receive a burst, swap the MAC addresses, send it, free what was refused.
 *
 * usage: poll_loop_c null|ring CORE
 * Reads a number of bursts a line, runs as many, and answers with nanoseconds and packets. Ends with its input.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_bus_vdev.h>
#include <rte_eal.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_mbuf.h>

#define BURST 32
#define RING_DEPTH 512

static void fail(const char *what)
{
	fprintf(stderr, "poll_loop_c: %s failed\n", what);
	exit(1);
}

static void start(uint16_t port, struct rte_mempool *pool)
{
	struct rte_eth_conf conf;

	memset(&conf, 0, sizeof(conf));
	if (rte_eth_dev_configure(port, 1, 1, &conf) < 0 ||
	    rte_eth_rx_queue_setup(port, 0, 512, 0, NULL, pool) < 0 ||
	    rte_eth_tx_queue_setup(port, 0, 512, 0, NULL) < 0 || rte_eth_dev_start(port) < 0)
		fail("starting a port");
}

static uint16_t forward(uint16_t port)
{
	struct rte_mbuf *burst[BURST];
	uint16_t received = rte_eth_rx_burst(port, 0, burst, BURST);

	for (uint16_t at = 0; at < received; at++) {
		struct rte_ether_hdr *header = rte_pktmbuf_mtod(burst[at], struct rte_ether_hdr *);
		struct rte_ether_addr source = header->src_addr;

		header->src_addr = header->dst_addr;
		header->dst_addr = source;
	}
	uint16_t sent = rte_eth_tx_burst(port, 0, burst, received);

	if (unlikely(sent < received))
		rte_pktmbuf_free_bulk(burst + sent, received - sent);
	return sent;
}

/* Two ports back to back over two rings: what one sends the other receives. */
static void make_ring_pair(uint16_t ports[2], struct rte_mempool *pool)
{
	struct rte_ring *up = rte_ring_create("up", RING_DEPTH, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
	struct rte_ring *down = rte_ring_create("down", RING_DEPTH, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
	struct rte_mbuf *burst[BURST];

	if (!up || !down)
		fail("making rings");
	int near = rte_eth_from_rings("near", &down, 1, &up, 1, 0);
	int far = rte_eth_from_rings("far", &up, 1, &down, 1, 0);

	if (near < 0 || far < 0)
		fail("making ring ports");
	ports[0] = near;
	ports[1] = far;
	start(ports[0], pool);
	start(ports[1], pool);
	if (rte_pktmbuf_alloc_bulk(pool, burst, BURST))
		fail("allocating a burst");
	for (int at = 0; at < BURST; at++)
		memset(rte_pktmbuf_append(burst[at], 64), at, 64);
	/* The loop polls ports[0] first, so this is what it finds, and no turn is short. */
	if (rte_eth_tx_burst(ports[1], 0, burst, BURST) != BURST)
		fail("the first burst");
}

int main(int argc, char **argv)
{
	uint16_t ports[2] = {0, 0}, count = 1;
	uint64_t bursts;
	char lcores[32];

	if (argc != 3)
		fail("reading null|ring and the core");
	snprintf(lcores, sizeof(lcores), "--lcores=0@%d", atoi(argv[2]));
	char *arguments[] = {"poll_loop_c", "--no-telemetry", lcores,	  "--log-level=error", "--no-huge", "-m",
			     "64",	    "--no-shconf",    "--no-pci"};

	if (rte_eal_init(sizeof(arguments) / sizeof(*arguments), arguments) < 0)
		fail("rte_eal_init");
	struct rte_mempool *pool = rte_pktmbuf_pool_create("frames", 4095, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);

	if (!pool)
		fail("making a pool");
	if (strcmp(argv[1], "ring") == 0) {
		make_ring_pair(ports, pool);
		count = 2;
	} else {
		if (rte_vdev_init("net_null0", "") < 0 || rte_eth_dev_get_port_by_name("net_null0", &ports[0]) < 0)
			fail("making the null port");
		start(ports[0], pool);
	}
	while (scanf("%" SCNu64, &bursts) == 1) {
		struct timespec before, after;
		uint64_t packets = 0;

		clock_gettime(CLOCK_MONOTONIC, &before);
		for (uint64_t burst = 0; burst < bursts; burst++)
			for (uint16_t at = 0; at < count; at++)
				packets += forward(ports[at]);
		clock_gettime(CLOCK_MONOTONIC, &after);
		printf("%lld %" PRIu64 "\n",
		       (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec, packets);
		fflush(stdout);
	}
	return 0;
}
