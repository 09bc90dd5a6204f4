//! Types of values: what each reads from TOML, and what it says when it cannot.

use core::net::{IpAddr, SocketAddr};
use roko_wire::genesis::NodeKey;
use roko_wire::net::Mac;
use std::path::PathBuf;

/// A type that a key may have. `Err` says what to write instead.
pub(super) trait Value: Sized {
    /// The type's name in the example.
    const TYPE: &'static str;

    /// Reads a value; `range` is a number's.
    fn read(value: &toml::Value, range: Option<(u64, u64)>) -> Result<Self, String>;

    /// The value of a key that is not given and has no default.
    fn absent() -> Option<Self> {
        None
    }
}

impl<T: Value> Value for Option<T> {
    const TYPE: &'static str = T::TYPE;

    fn read(value: &toml::Value, range: Option<(u64, u64)>) -> Result<Self, String> {
        T::read(value, range).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

fn text<'a>(value: &'a toml::Value, example: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("is no text: write it in quotes, as {example}"))
}

/// Parses text of a form that an example shows.
fn parsed<T>(value: &toml::Value, example: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, String> {
    parse(text(value, example)?).ok_or_else(|| format!("is not of the form {example}"))
}

fn number<T: TryFrom<u64>>(value: &toml::Value, range: Option<(u64, u64)>) -> Result<T, String> {
    let (least, most) = range.unwrap_or((0, u64::MAX));
    let outside = || format!("is not in {least} to {most}: set a number in that range");
    let number = value.as_integer().ok_or("is no whole number: write digits, without quotes")?;
    let number = u64::try_from(number).ok().filter(|number| (least..=most).contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(outside)
}

macro_rules! numbers {
    ($($type:ty),+) => {$(
        impl Value for $type {
            const TYPE: &'static str = "number";
            fn read(value: &toml::Value, range: Option<(u64, u64)>) -> Result<Self, String> {
                number(value, range)
            }
        }
    )+};
}
numbers!(u8, u16, u32);

impl Value for bool {
    const TYPE: &'static str = "true or false";
    fn read(value: &toml::Value, _: Option<(u64, u64)>) -> Result<bool, String> {
        value
            .as_bool()
            .ok_or_else(|| "is neither true nor false: write one of them, without quotes".to_owned())
    }
}

impl Value for String {
    const TYPE: &'static str = "text";
    fn read(value: &toml::Value, _: Option<(u64, u64)>) -> Result<String, String> {
        let text = text(value, "\"text\"")?;
        if text.trim().is_empty() { Err("is empty: write something".to_owned()) } else { Ok(text.to_owned()) }
    }
}

impl Value for PathBuf {
    const TYPE: &'static str = "path";
    fn read(value: &toml::Value, range: Option<(u64, u64)>) -> Result<PathBuf, String> {
        String::read(value, range).map(PathBuf::from)
    }
}

impl Value for IpAddr {
    const TYPE: &'static str = "IP address";
    fn read(value: &toml::Value, _: Option<(u64, u64)>) -> Result<IpAddr, String> {
        let ip: IpAddr = parsed(value, "\"10.77.0.1\"", |text| text.parse().ok())?;
        if ip.is_unspecified() || ip.is_multicast() {
            return Err("is no address of one host: write that of the host".to_owned());
        }
        // Peers are told apart by address: one address must not have two forms.
        if ip != ip.to_canonical() {
            return Err(format!("is an IPv4 address in IPv6 form: write {}", ip.to_canonical()));
        }
        Ok(ip)
    }
}

impl Value for SocketAddr {
    const TYPE: &'static str = "address and port";
    fn read(value: &toml::Value, _: Option<(u64, u64)>) -> Result<SocketAddr, String> {
        parsed(value, "\"127.0.0.1:9944\" (an address and a port)", |text| text.parse().ok())
    }
}

impl Value for Mac {
    const TYPE: &'static str = "Ethernet address";
    fn read(value: &toml::Value, _: Option<(u64, u64)>) -> Result<Mac, String> {
        let mac = parsed(value, "\"02:00:0a:4d:00:01\" (six bytes in hexadecimal)", |text| {
            let mut bytes = [0; 6];
            let mut parts = text.split(':');
            for byte in &mut bytes {
                let part = parts.next().filter(|part| part.len() == 2)?;
                hex::decode_to_slice(part, core::slice::from_mut(byte)).ok()?;
            }
            parts.next().is_none().then_some(Mac(bytes))
        })?;
        if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
            return Err(
                "is no address of one host: its first byte must be even, and not all may be 0".to_owned()
            );
        }
        Ok(mac)
    }
}

impl Value for NodeKey {
    const TYPE: &'static str = "ed25519 public key";
    fn read(value: &toml::Value, _: Option<(u64, u64)>) -> Result<NodeKey, String> {
        parsed(value, "64 hexadecimal digits, as `roko keys show FILE` prints", |text| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text, &mut bytes).ok()?;
            Some(NodeKey(bytes))
        })
    }
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// Votes and proposes.
    Validator,
    /// Follows the chain and serves RPC.
    Full,
}

impl Value for NodeKind {
    const TYPE: &'static str = "\"validator\" or \"full\"";
    fn read(value: &toml::Value, _: Option<(u64, u64)>) -> Result<NodeKind, String> {
        match text(value, "\"validator\"")? {
            "validator" => Ok(NodeKind::Validator),
            "full" => Ok(NodeKind::Full),
            "archive" | "light" => {
                Err("is a kind of node that is not built yet: use \"full\" or \"validator\"".to_owned())
            }
            _ => Err("is no kind of node: use \"validator\" or \"full\"".to_owned()),
        }
    }
}

/// What a node with an empty data folder begins from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StartFrom {
    /// Every block since genesis.
    Genesis,
    /// The state after a recent block, and the blocks above it.
    Snapshot,
}

impl Value for StartFrom {
    const TYPE: &'static str = "\"genesis\" or \"snapshot\"";
    fn read(value: &toml::Value, _: Option<(u64, u64)>) -> Result<StartFrom, String> {
        match text(value, "\"genesis\"")? {
            "genesis" => Ok(StartFrom::Genesis),
            "snapshot" => Ok(StartFrom::Snapshot),
            _ => Err("is no beginning: use \"genesis\" or \"snapshot\"".to_owned()),
        }
    }
}

/// What the data plane sends and receives with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// A DPDK device.
    Dpdk,
    /// A UDP socket of the kernel, through io_uring.
    IoUring,
}

impl Value for PortKind {
    const TYPE: &'static str = "\"dpdk\" or \"io_uring\"";
    fn read(value: &toml::Value, _: Option<(u64, u64)>) -> Result<PortKind, String> {
        match text(value, "\"dpdk\"")? {
            "dpdk" => Ok(PortKind::Dpdk),
            "io_uring" => Ok(PortKind::IoUring),
            "in_process" => {
                Err("joins validators of one process, which is `roko devnet`; a node of its own \
                                 has nobody there to talk to: use \"dpdk\""
                    .to_owned())
            }
            _ => Err("is no kind of port: use \"dpdk\" or \"io_uring\"".to_owned()),
        }
    }
}

/// A choice of a few words: the type's name, an enum, its words, and what a wrong one is told.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident, $type_name:literal, $wrong:literal, { $($(#[$doc:meta])* $variant:ident = $word:literal),+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant),+ }
        impl Value for $name {
            const TYPE: &'static str = $type_name;
            fn read(value: &toml::Value, _: Option<(u64, u64)>) -> Result<$name, String> {
                match text(value, $type_name)? {
                    $($word => Ok($name::$variant),)+
                    _ => Err($wrong.to_owned()),
                }
            }
        }
    };
}
choice!(
    /// Where receive times come from.
    PortStamps, "\"auto\" or \"poll\"", "is no way to stamp: use \"auto\", or \"poll\" for the CPU's counter", {
        /// The best that the port gives.
        Auto = "auto",
        /// The CPU's counter.
        Poll = "poll"
    }
);
choice!(
    /// Where Ethernet addresses of peers come from.
    Neighbours, "\"derived\" or \"resolve\"", "is no way to find peers: use \"derived\" on a devnet, else \"resolve\"", {
        /// From their IP addresses.
        Derived = "derived",
        /// From whoever answers for them.
        Resolve = "resolve"
    }
);
choice!(
    /// What disciplines a PTP clock.
    PhcReference, "\"ptp\" or \"gnss\"", "disciplines no PTP clock that this node knows of: use \"ptp\" or \"gnss\"", {
        /// IEEE 1588.
        Ptp = "ptp",
        /// A GNSS receiver.
        Gnss = "gnss"
    }
);
choice!(
    /// What a PTP clock counts.
    PhcTimescale, "\"tai\" or \"utc\"", "is no timescale of a PTP clock: use \"tai\", which PTP counts, or \"utc\"", {
        /// International Atomic Time.
        Tai = "tai",
        /// Coordinated Universal Time.
        Utc = "utc"
    }
);

/// Where the node's time comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// The host's clock.
    Host,
    /// A PTP clock of the kernel's.
    Phc(PathBuf),
}

impl Value for TimeSource {
    const TYPE: &'static str = "\"host\" or a PTP clock";
    fn read(value: &toml::Value, _: Option<(u64, u64)>) -> Result<TimeSource, String> {
        match text(value, "\"host\"")? {
            "host" => Ok(TimeSource::Host),
            path if path.starts_with("/dev/") => Ok(TimeSource::Phc(PathBuf::from(path))),
            _ => Err("is no source of time: use \"host\", or a PTP clock's file (\"/dev/ptp0\")".to_owned()),
        }
    }
}

/// A DPDK device, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PciOrVirtual {
    /// A PCI address, with driver arguments after a comma if any.
    Pci(String),
    /// A virtual device with its arguments.
    Virtual(String),
}

impl super::PortSection {
    /// The port in words: the device, or that there is none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.device.as_ref().map_or("io_uring (the kernel's UDP)", PciOrVirtual::as_str)
    }
}

impl PciOrVirtual {
    /// The text for DPDK.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            PciOrVirtual::Pci(text) | PciOrVirtual::Virtual(text) => text,
        }
    }
}

impl Value for PciOrVirtual {
    const TYPE: &'static str = "DPDK device";
    fn read(value: &toml::Value, _: Option<(u64, u64)>) -> Result<PciOrVirtual, String> {
        let example = "\"0000:01:00.0\" (PCI) or \"net_af_packet0,iface=eth1\" (virtual)";
        parsed(value, example, |text| {
            let name = text.split(',').next().unwrap_or_default();
            if name.len() > "net_".len() && name.starts_with("net_") {
                return Some(PciOrVirtual::Virtual(text.to_owned()));
            }
            is_pci_address(name).then(|| PciOrVirtual::Pci(text.to_owned()))
        })
    }
}

/// `domain:bus:device.function`, all hexadecimal; the domain may be left out.
fn is_pci_address(name: &str) -> bool {
    let hexadecimal =
        |part: &str, digits: usize| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some((before, function)) = name.split_once('.') else { return false };
    let parts: Vec<&str> = before.split(':').collect();
    let rest_is =
        |parts: &[&str]| matches!(parts, [bus, device] if hexadecimal(bus, 2) && hexadecimal(device, 2));
    hexadecimal(function, 1)
        && match parts.as_slice() {
            [domain, rest @ ..] if rest.len() == 2 => hexadecimal(domain, 4) && rest_is(rest),
            rest => rest_is(rest),
        }
}
