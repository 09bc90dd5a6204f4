//! The one table of configuration keys. A row is a field: its documentation, its type, whether it must be given, its
//! unit and its range. Parsing, defaults, checks, the example file and the structs themselves follow from it.

use super::reader::{Key, Presence, Reader, Section};
use super::value::{
    Neighbours, NodeKind, PciOrVirtual, PhcReference, PhcTimescale, PortKind, PortStamps, StartFrom,
    TimeSource,
};
use Presence::{Default, Optional, Required, Suggested};
use core::net::{IpAddr, SocketAddr};
use roko_wire::genesis::NodeKey;
use roko_wire::net::Mac;
use std::path::PathBuf;

/// Turns rows into structs and into [`SECTIONS`]. `table` is `[name]`, given once; `list` is `[[name]]`, once or more.
macro_rules! sections {
    ($(
        $(#[doc = $section_doc:literal])+
        $kind:ident $section:ident => $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $presence:expr, $unit:literal, $range:expr; )+
        }
    )+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub struct $name {
                $( $(#[doc = $doc])+ pub $field: $type, )+
            }

            impl $name {
                const SECTION: Section = Section {
                    name: stringify!($section),
                    list: sections!(@is_list $kind),
                    doc: &[$($section_doc),+],
                    keys: &[$( Key {
                        name: stringify!($field),
                        type_name: <$type as super::value::Value>::TYPE,
                        unit: $unit,
                        presence: $presence,
                        range: $range,
                        doc: &[$($doc),+],
                    } ),+],
                };

                /// Reads the section; what is wrong is noted, and then there is no value.
                pub(super) fn read(reader: &mut Reader<'_>) -> Option<$name> {
                    let mut keys = Self::SECTION.keys.iter();
                    // Every field is read before any is unwrapped, so that every problem is noted.
                    $( let $field = reader.value::<$type>(keys.next()?); )+
                    Some($name { $( $field: $field?, )+ })
                }
            }
        )+

        /// Every section, in the example's order.
        pub(super) const SECTIONS: &[Section] = &[$($name::SECTION),+];
    };
    (@is_list table) => { false };
    (@is_list list) => { true };
}

/// A number's range.
const fn range(least: u64, most: u64) -> Option<(u64, u64)> {
    Some((least, most))
}

const MILLION: u64 = 1_000_000;

sections! {
    /// Who this node is and where it keeps its files. Paths are relative to this file.
    table node => NodeSection {
        /// Shown in metrics and logs. Change it so that one can tell nodes apart.
        name: String = Required("\"roko-1\""), "", None;
        /// "validator" votes and proposes; "full" follows the chain and serves RPC.
        kind: NodeKind = Required("\"validator\""), "", None;
        /// Blocks, state and votes. Put it on a disk whose writes survive a power cut.
        data_dir: PathBuf = Required("\"data\""), "", None;
        /// The chain's genesis file, the same for every node (`roko genesis new`).
        genesis: PathBuf = Required("\"genesis.json\""), "", None;
        /// This node's ed25519 key file (`roko keys new --kind node`).
        node_key: PathBuf = Required("\"node.key\""), "", None;
        /// A validator's voting key file (`roko keys new --kind bls`). A full node has none.
        bls_key: Option<PathBuf> = Optional("\"bls.key\""), "", None;
        /// Started as root, the node becomes this user when its devices and keys are open, and gives `data_dir` to it.
        user: Option<String> = Optional("\"roko\""), "", None;
    }

    /// The network port that the data plane polls.
    table port => PortSection {
        /// "dpdk" takes the device over. "io_uring" uses a UDP socket of the kernel at network.ip and network.port: slower,
        /// for machines whose card cannot be given away. Ports inside one process are the devnet's (`roko devnet`).
        kind: PortKind = Default("\"dpdk\""), "", None;
        /// A DPDK device: a PCI address ("0000:01:00.0"), or a virtual one with its arguments. Needed with kind "dpdk".
        device: Option<PciOrVirtual> = Suggested("\"net_af_packet0,iface=eth1\""), "", None;
        /// Take DPDK's memory from hugepages. Needed with a PCI device: its DMA does not work without them.
        hugepages: bool = Default("false"), "", None;
        /// DPDK's memory. Raise it with `frames`.
        memory_mb: u32 = Default("256"), "MiB", range(64, 1 << 20);
        /// Frame buffers of the port, received and unsent together.
        frames: u32 = Default("8192"), "frames", range(1_024, 1 << 20);
        /// Where receive times come from. "auto" takes the best that the port gives: the card, the kernel, the poll. "poll"
        /// uses the CPU's counter at the poll. Change it when `roko_receive_stamps_total` counts refused stamps.
        stamps: PortStamps = Default("\"auto\""), "", None;
        /// The PTP clock that the card stamps with, when the kernel drives it beside DPDK: mlx5 in real-time mode, whose stamps
        /// are nanoseconds. Without it an mlx5 stamps in ticks, which are measured.
        phc: Option<PathBuf> = Optional("\"/dev/ptp2\""), "", None;
        /// Where frames to a peer go. "derived": to an Ethernet address made from its IP address, as every node of a devnet has
        /// one. "resolve": to the one that it, or the gateway, answers with by ARP or neighbour discovery, as on any other
        /// network. Either way the node answers ARP, neighbour solicitations and pings itself when kind is "dpdk".
        neighbours: Neighbours = Default("\"derived\""), "", None;
        /// The virtual LAN that the port is on (IEEE 802.1Q); 0 is none. Its tag is taken off and put on by the port, in software.
        vlan: u16 = Default("0"), "", range(0, 4_094);
        /// Longest payload of a frame that the port receives. Raise it on a link with jumbo frames, where others send such ones:
        /// this node's own stay below 1500, because the sizes of messages and chunks are part of the format.
        mtu: u16 = Default("1500"), "bytes", range(1_500, 9_000);
        /// Leading bits of network.ip that all addresses on its link share. Needed with neighbours "resolve".
        prefix: Option<u8> = Optional("24"), "bits", range(0, 128);
        /// The router to peers that are not on the link. Needed with neighbours "resolve" where there are any.
        gateway: Option<IpAddr> = Optional("\"10.77.0.254\""), "", None;
    }

    /// This node's address. A validator's must be its endpoint in genesis.
    table network => NetworkSection {
        /// The data plane's own address. With port.kind "dpdk" the kernel must not answer on it, with "io_uring" it must
        /// be the kernel's.
        ip: IpAddr = Required("\"10.77.0.1\""), "", None;
        /// UDP port of the data plane.
        port: u16 = Default("7700"), "", range(1, 65_535);
        /// Ethernet address of frames that this node sends. Default: the device's with port.neighbours "resolve", else the one
        /// made from `ip`.
        mac: Option<Mac> = Optional("\"02:00:0a:4d:00:01\""), "", None;
    }

    /// Ethernet address of a peer, or of the router on the way to it, that is neither derived nor asked for. Derived is 02:00
    /// and the four bytes of an IPv4 address.
    list neighbor => Neighbor {
        /// The peer's address.
        ip: IpAddr = Required("\"10.77.0.2\""), "", None;
        /// Where frames for it go.
        mac: Mac = Required("\"02:00:0a:4d:00:02\""), "", None;
    }

    /// A client that may send transactions straight to the data plane.
    list client => Client {
        /// Its index on the wire; the client is configured with the same.
        index: u16 = Required("32768"), "", range(0x8000, 0xffff);
        /// Its ed25519 public key (`roko keys show`).
        node_key: NodeKey = Required("\"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\""), "", None;
        /// Its address.
        ip: IpAddr = Required("\"10.77.1.1\""), "", None;
        /// Its UDP port.
        port: u16 = Required("7701"), "", range(1, 65_535);
    }

    /// Handshakes with peers and clients: mutual TLS 1.3 over TCP, on an address of the kernel's.
    table handshake => HandshakeSection {
        /// Where this node listens. The lower index of two validators dials, and clients do.
        listen: SocketAddr = Default("\"0.0.0.0:7701\""), "", None;
        /// Most handshakes under way at once. Raise it when peers are refused with `too_many_half_open`.
        half_open_max: u32 = Default("64"), "handshakes", range(4, 4_096);
        /// Most of one address. Raise it when many clients share one.
        half_open_per_address_max: u32 = Default("16"), "handshakes", range(1, 4_096);
        /// Connections taken from one address. Raise it when many clients share one.
        per_address_per_second: u32 = Default("20"), "connections per second", range(1, 100_000);
        /// Longest that a handshake may take. Raise it for peers behind very slow links.
        time_ms_max: u32 = Default("5000"), "milliseconds", range(100, 60_000);
        /// Age at which a key gives way to the next. Lower it to lose less if a machine is taken.
        rekey_s: u32 = Default("600"), "seconds", range(1, 86_400);
        /// Frames after which it does so earlier. AES-GCM ends a key at four times the default.
        rekey_frames: u32 = Default("67108864"), "frames", range(1_024, 1 << 27);
        /// How long frames of the key before are still taken. Raise it above the longest delay of any path.
        grace_ms: u32 = Default("5000"), "milliseconds", range(100, 60_000);
        /// Age at which a new handshake replaces a session. Lower it to recover sooner from a taken machine.
        session_s: u32 = Default("3600"), "seconds", range(10, 7 * 86_400);
    }

    /// Where a validator listens for handshakes. Without an entry it is its address in genesis and the port after that of
    /// its data plane.
    list peer => PeerAddress {
        /// Its place among genesis' validators.
        index: u16 = Required("1"), "", range(0, 255);
        /// Address and port that its `handshake.listen` is reached at.
        handshake: SocketAddr = Required("\"192.0.2.2:7701\""), "", None;
    }

    /// What happens to peers that send what no honest one sends. The offences stand in `roko_peer_offences_total`.
    table score => ScoreSection {
        /// Ban peers whose score is at the limit. Without it scores only report.
        bans: bool = Default("true"), "", None;
        /// Time in which a score halves. Raise it to remember longer.
        half_life_s: u32 = Default("30"), "seconds", range(1, 86_400);
        /// Length of a peer's first ban; each further one is twice as long, an hour at most.
        ban_s: u32 = Default("60"), "seconds", range(1, 3_600);
    }

    /// Which stage runs on which core.
    table tuning => TuningSection {
        /// A built-in profile's name, or a profile file. Change it with the machine.
        profile: String = Default("\"devnet-2core\""), "", None;
    }

    /// How a node whose data folder is empty begins, when the chain is already there.
    table catchup => CatchupSection {
        /// "genesis" fetches every block, executes it and keeps it. "snapshot" fetches the state after a recent block, proven by
        /// a quorum's certificate, and only the blocks above it: much faster, and blocks before it are not there. A validator
        /// that began like this votes once the chain is past that moment.
        start: StartFrom = Default("\"genesis\""), "", None;
    }

    /// Transactions that wait for a block.
    table mempool => MempoolSection {
        /// Most of them. Raise it when senders are refused with `pool_full`; each takes about 1 KiB.
        transactions_max: u32 = Default("65536"), "transactions", range(256, 4 * MILLION);
        /// Most of one sender. Raise it for an exchange that pays out from one account.
        sender_transactions_max: u16 = Default("64"), "transactions", range(1, 65_535);
        /// How long a batch of stamps stays open. Raise it to sign less often, lower it for latency.
        stamp_flush_us: u32 = Default("500"), "microseconds", range(0, 100_000);
    }

    /// What is on disk.
    table storage => StorageSection {
        /// Size of a file of blocks. Raise it on large disks, so that there are fewer files.
        segment_mb: u32 = Default("64"), "MiB", range(8, 4_096);
        /// Size of the journal of own votes; fixed once the data folder is made.
        journal_mb: u32 = Default("32"), "MiB", range(8, 1_024);
    }

    /// Where the node's time comes from.
    table clock => ClockSection {
        /// "host" follows the host's clock, which leads back to nothing that this node could check. A PTP clock of the kernel's
        /// ("/dev/ptp0": a time card, or a card that ptp4l disciplines) is followed instead, and held over when it fails.
        source: TimeSource = Default("\"host\""), "", None;
        /// How far the host's clock may be off: you vouch for it. 10 ms suit NTP over the internet. For source "host".
        untraceable_bound_us: u32 = Default("10000"), "microseconds", range(1, 60 * MILLION);
        /// What disciplines the PTP clock: "ptp" or "gnss". Stamps say it, and you vouch for it.
        phc_reference: PhcReference = Default("\"ptp\""), "", None;
        /// What the PTP clock counts: "tai", as PTP does, or "utc".
        phc_timescale: PhcTimescale = Default("\"tai\""), "", None;
        /// How far the PTP clock may be off its reference: you vouch for it. ptp4l's rms offset times five is a beginning.
        phc_bound_ns: u32 = Default("1000"), "nanoseconds", range(1, 1_000 * MILLION);
        /// How fast the error bound grows while the PTP clock cannot be read: what the CPU's crystal wanders. Lower it on a
        /// host with a better oscillator.
        holdover_ppb: u32 = Default("5000"), "parts per billion", range(1, MILLION);
    }

    /// What the node may do once it has started.
    table sandbox => SandboxSection {
        /// Poll threads may only wait and use their port: other system calls fail. Change it on a kernel without seccomp.
        seccomp: bool = Default("true"), "", None;
    }

    /// JSON-RPC over HTTP and WebSocket.
    table rpc => RpcSection {
        /// Address and port. Anyone who reaches it may send transactions: keep it local or behind a proxy.
        listen: SocketAddr = Default("\"127.0.0.1:9944\""), "", None;
        /// Most open connections. Raise it when clients are turned away.
        connections_max: u32 = Default("128"), "connections", range(1, 65_536);
    }

    /// Prometheus metrics and the health page.
    table metrics => MetricsSection {
        /// Address and port.
        listen: SocketAddr = Default("\"127.0.0.1:9615\""), "", None;
    }

    /// How many frames are taken, before anything is decrypted.
    table filter => FilterSection {
        /// From all addresses that are no peer's, together. Raise it when handshakes of new peers are dropped.
        stranger_frames_per_second: u32 = Default("1000"), "frames per second", range(1, 100 * MILLION);
        /// From each peer. Lower it when one peer's flood takes a core.
        known_frames_per_second: u32 = Default("1000000"), "frames per second", range(1, 100 * MILLION);
    }
}
