/*
 * What the safe face uses of DPDK, and no more.
 *
 * Macros, bit fields and structures whose layout moves between DPDK versions are turned into
 * plain constants, plain functions and flat structures here, so that the Rust side is the same
 * text for every version from 22.11 on.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <rte_version.h>
#include <rte_errno.h>
#include <rte_cycles.h>
#include <rte_lcore.h>
#include <rte_eal.h>
#include <rte_malloc.h>
#include <rte_mempool.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_ring.h>
#include <rte_ethdev.h>
#include <rte_eth_ring.h>
#include <rte_bus_vdev.h>

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "DPDK 22.11 or newer is needed: install libdpdk-dev of Debian 12 or newer"
#endif

/* rte_mbuf's members sit in unions that changed their nesting in 24.03; their offsets did not. */
enum {
	DPDK_MBUF_OFFSET_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	DPDK_MBUF_OFFSET_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	DPDK_MBUF_OFFSET_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	DPDK_MBUF_OFFSET_PORT = offsetof(struct rte_mbuf, port),
	DPDK_MBUF_OFFSET_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	DPDK_MBUF_OFFSET_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	DPDK_MBUF_OFFSET_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	DPDK_MBUF_OFFSET_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	DPDK_MBUF_OFFSET_TIMESYNC = offsetof(struct rte_mbuf, timesync),
	DPDK_MBUF_OFFSET_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	DPDK_MBUF_OFFSET_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
	DPDK_MBUF_L2_LEN_BITS = RTE_MBUF_L2_LEN_BITS,
	DPDK_MBUF_HEADROOM = RTE_PKTMBUF_HEADROOM,
	DPDK_PORTS_MAX = RTE_MAX_ETHPORTS,
	DPDK_LCORES_MAX = RTE_MAX_LCORE,
	DPDK_MEMPOOL_CACHE_MAX = RTE_MEMPOOL_CACHE_MAX_SIZE,
	DPDK_RING_SINGLE_PRODUCER = RING_F_SP_ENQ,
	DPDK_RING_SINGLE_CONSUMER = RING_F_SC_DEQ,
	DPDK_RING_EXACT_SIZE = RING_F_EXACT_SZ,
	DPDK_VERSION_YEAR = RTE_VER_YEAR,
	DPDK_VERSION_MONTH = RTE_VER_MONTH,
};

static const uint32_t DPDK_LCORE_NONE = LCORE_ID_ANY;
static const int32_t DPDK_SOCKET_ANY = SOCKET_ID_ANY;
static const uint64_t DPDK_RX_OFFLOAD_TIMESTAMP = RTE_ETH_RX_OFFLOAD_TIMESTAMP;
static const uint64_t DPDK_RX_OFFLOAD_CHECKSUMS = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t DPDK_RX_OFFLOAD_VLAN_STRIP = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
static const uint64_t DPDK_TX_OFFLOAD_VLAN_INSERT = RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
static const uint64_t DPDK_TX_OFFLOAD_UDP_CHECKSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t DPDK_MBUF_RX_IP_CHECKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t DPDK_MBUF_RX_IP_CHECKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t DPDK_MBUF_RX_L4_CHECKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t DPDK_MBUF_RX_L4_CHECKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t DPDK_MBUF_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t DPDK_MBUF_TX_VLAN = RTE_MBUF_F_TX_VLAN;
static const uint64_t DPDK_MBUF_TX_UDP6_CHECKSUM = RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM;
static const uint64_t DPDK_RSS_ADDRESSES = RTE_ETH_RSS_IP;
static const uint64_t DPDK_RSS_UDP_PORTS = RTE_ETH_RSS_UDP;
static const uint64_t DPDK_MBUF_RX_IEEE1588_TMST = RTE_MBUF_F_RX_IEEE1588_TMST;
static const uint64_t DPDK_MBUF_TX_IEEE1588_TMST = RTE_MBUF_F_TX_IEEE1588_TMST;

/* rte_errno is a macro over thread-local storage. */
static inline int dpdk_errno(void)
{
	return rte_errno;
}

struct dpdk_port_info {
	char driver[64];
	uint64_t rx_offloads;
	uint64_t tx_offloads;
	uint64_t rss_flows;
	uint32_t rx_frame_bytes_max;
	uint16_t rx_queues_max;
	uint16_t tx_queues_max;
	uint16_t mtu_bytes_min;
	uint16_t mtu_bytes_max;
	uint16_t rx_burst_packets;
	uint16_t tx_burst_packets;
	uint16_t rx_ring_packets_max;
	uint16_t tx_ring_packets_max;
};

static inline int dpdk_port_info(uint16_t port, struct dpdk_port_info *out)
{
	struct rte_eth_dev_info info;
	int rc;

	memset(out, 0, sizeof(*out));
	memset(&info, 0, sizeof(info));
	rc = rte_eth_dev_info_get(port, &info);
	if (rc != 0)
		return rc;
	if (info.driver_name != NULL)
		strncpy(out->driver, info.driver_name, sizeof(out->driver) - 1);
	out->rx_offloads = info.rx_offload_capa;
	out->tx_offloads = info.tx_offload_capa;
	out->rss_flows = info.flow_type_rss_offloads;
	out->rx_frame_bytes_max = info.max_rx_pktlen;
	out->rx_queues_max = info.max_rx_queues;
	out->tx_queues_max = info.max_tx_queues;
	out->mtu_bytes_min = info.min_mtu;
	out->mtu_bytes_max = info.max_mtu;
	out->rx_burst_packets = info.default_rxportconf.burst_size;
	out->tx_burst_packets = info.default_txportconf.burst_size;
	out->rx_ring_packets_max = info.rx_desc_lim.nb_max;
	out->tx_ring_packets_max = info.tx_desc_lim.nb_max;
	return 0;
}

/*
 * rte_pktmbuf_pool_create_by_ops with RTE_MEMPOOL_F_NO_IOVA_CONTIG: mbufs lie one behind the other
 * in one range of addresses and may cross pages. NULL and rte_errno on failure.
 */
static inline struct rte_mempool *dpdk_packed_pool(const char *name, unsigned int mbufs,
						   unsigned int cache, uint16_t data_room,
						   int socket, const char *ops)
{
	struct rte_pktmbuf_pool_private priv;
	struct rte_mempool *pool;

	pool = rte_mempool_create_empty(name, mbufs,
					sizeof(struct rte_mbuf) + data_room, cache,
					sizeof(priv), socket, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	if (pool == NULL)
		return NULL;
	memset(&priv, 0, sizeof(priv));
	priv.mbuf_data_room_size = data_room;
	if (rte_mempool_set_ops_byname(pool, ops, NULL) != 0) {
		rte_mempool_free(pool);
		rte_errno = EINVAL;
		return NULL;
	}
	rte_pktmbuf_pool_init(pool, &priv);
	if (rte_mempool_populate_default(pool) < 0) {
		rte_mempool_free(pool);
		rte_errno = ENOMEM;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;
}

/*
 * mtu 0 leaves the driver's default; rss 0 leaves it to the driver, or to whoever fills a virtual
 * port's queues, which queue a packet comes by. The driver's own hash key is used.
 */
static inline int dpdk_port_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues,
				      uint16_t mtu, uint64_t rx_offloads, uint64_t tx_offloads,
				      uint64_t rss)
{
	struct rte_eth_conf conf;

	memset(&conf, 0, sizeof(conf));
	conf.rxmode.mtu = mtu;
	conf.rxmode.offloads = rx_offloads;
	conf.txmode.offloads = tx_offloads;
	if (rss != 0) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = rss;
	}
	return rte_eth_dev_configure(port, rx_queues, tx_queues, &conf);
}

/* The driver's own default rx and tx queue settings. */
static inline int dpdk_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors,
				      struct rte_mempool *pool)
{
	return rte_eth_rx_queue_setup(port, queue, descriptors,
				      (unsigned int)rte_eth_dev_socket_id(port), NULL, pool);
}

static inline int dpdk_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors)
{
	return rte_eth_tx_queue_setup(port, queue, descriptors,
				      (unsigned int)rte_eth_dev_socket_id(port), NULL);
}

struct dpdk_link {
	uint32_t speed_mbps;
	uint8_t up;
	uint8_t full_duplex;
};

static inline int dpdk_link_get(uint16_t port, struct dpdk_link *out)
{
	struct rte_eth_link link;
	int rc;

	memset(&link, 0, sizeof(link));
	rc = rte_eth_link_get_nowait(port, &link);
	out->speed_mbps = link.link_speed;
	out->up = link.link_status == RTE_ETH_LINK_UP;
	out->full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return rc;
}

static inline int dpdk_mac_get(uint16_t port, uint8_t out[6])
{
	struct rte_ether_addr mac;
	int rc;

	memset(&mac, 0, sizeof(mac));
	rc = rte_eth_macaddr_get(port, &mac);
	memcpy(out, mac.addr_bytes, 6);
	return rc;
}

struct dpdk_stats {
	uint64_t rx_packets;
	uint64_t tx_packets;
	uint64_t rx_bytes;
	uint64_t tx_bytes;
	uint64_t rx_missed;
	uint64_t rx_errors;
	uint64_t tx_errors;
	uint64_t rx_no_mbuf;
};

static inline int dpdk_stats_get(uint16_t port, struct dpdk_stats *out)
{
	struct rte_eth_stats stats;
	int rc;

	memset(&stats, 0, sizeof(stats));
	rc = rte_eth_stats_get(port, &stats);
	out->rx_packets = stats.ipackets;
	out->tx_packets = stats.opackets;
	out->rx_bytes = stats.ibytes;
	out->tx_bytes = stats.obytes;
	out->rx_missed = stats.imissed;
	out->rx_errors = stats.ierrors;
	out->tx_errors = stats.oerrors;
	out->rx_no_mbuf = stats.rx_nombuf;
	return rc;
}

/* The timesync calls speak struct timespec; seconds and nanoseconds are the same in every version. */
static inline int dpdk_timesync_read_time(uint16_t port, int64_t *seconds, int64_t *nanoseconds)
{
	struct timespec at = {0, 0};
	int rc = rte_eth_timesync_read_time(port, &at);

	*seconds = at.tv_sec;
	*nanoseconds = at.tv_nsec;
	return rc;
}

static inline int dpdk_timesync_read_rx(uint16_t port, uint32_t flags, int64_t *seconds,
					int64_t *nanoseconds)
{
	struct timespec at = {0, 0};
	int rc = rte_eth_timesync_read_rx_timestamp(port, &at, flags);

	*seconds = at.tv_sec;
	*nanoseconds = at.tv_nsec;
	return rc;
}

static inline int dpdk_timesync_read_tx(uint16_t port, int64_t *seconds, int64_t *nanoseconds)
{
	struct timespec at = {0, 0};
	int rc = rte_eth_timesync_read_tx_timestamp(port, &at);

	*seconds = at.tv_sec;
	*nanoseconds = at.tv_nsec;
	return rc;
}
