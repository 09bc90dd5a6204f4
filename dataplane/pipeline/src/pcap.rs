//! Capture files: the classic pcap format with microseconds or nanoseconds, either byte order, Ethernet only
//! (draft-ietf-opsawg-pcap). A file may come from anyone: every length is checked before it is used.
//!
//! ```text
//! file:   magic u32 | major u16 | minor u16 | 0 i32 | 0 u32 | longest frame u32 | link type u32, then records
//! record: seconds u32 | micro- or nanoseconds u32 | bytes here u32 | bytes on the wire u32 | the bytes
//! ```

use std::io::{self, Read, Write};

const MAGIC_MICROS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
const FILE_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;
/// Ethernet (LINKTYPE_ETHERNET).
const LINK_ETHERNET: u32 = 1;
/// Longest frame of a record: tcpdump's own limit.
pub const FRAME_BYTES_MAX: usize = 262_144;

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// The file ends inside a header or a frame, or cannot be read.
    #[error("the capture ends early or cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Not a pcap file.
    #[error(
        "no pcap file: it begins with {0:08x}; pcapng is converted by `editcap -F nsecpcap in.pcapng out.pcap`"
    )]
    Magic(u32),
    /// Another major version than 2.
    #[error("pcap version {0} is not known: only 2 is")]
    Version(u16),
    /// Not Ethernet.
    #[error("the capture's link type is {0}: only Ethernet (1) is read")]
    LinkType(u32),
    /// A record that is longer than any frame.
    #[error("record {record} says that it holds {bytes} bytes: the most is {FRAME_BYTES_MAX}")]
    TooLong {
        /// Which, from 0.
        record: u64,
        /// What it says.
        bytes: u32,
    },
    /// A fraction of a second of a second or more.
    #[error("record {record} has a time whose fraction is a second or more")]
    Time {
        /// Which, from 0.
        record: u64,
    },
}

/// One frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was captured, nanoseconds since 1970.
    pub time_ns: u64,
    /// Its bytes, as many as were captured.
    pub frame: Vec<u8>,
    /// Its length on the wire.
    pub bytes_on_wire: u32,
}

/// Reads a capture from its beginning.
#[derive(Debug)]
pub struct PcapReader<R> {
    input: R,
    swapped: bool,
    nanos_per_unit: u64,
    records: u64,
}

impl<R: Read> PcapReader<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// When it is no pcap file of Ethernet frames.
    pub fn new(mut input: R) -> Result<PcapReader<R>, PcapError> {
        let mut header = [0; FILE_HEADER_BYTES];
        input.read_exact(&mut header)?;
        let magic = word(&header, 0, false);
        let (swapped, nanos_per_unit) = match (magic, magic.swap_bytes()) {
            (MAGIC_MICROS, _) => (false, 1_000),
            (MAGIC_NANOS, _) => (false, 1),
            (_, MAGIC_MICROS) => (true, 1_000),
            (_, MAGIC_NANOS) => (true, 1),
            _ => return Err(PcapError::Magic(magic)),
        };
        let versions = word(&header, 4, swapped);
        // The major version is the first of the two halves in the file.
        let major =
            if cfg!(target_endian = "little") != swapped { versions as u16 } else { (versions >> 16) as u16 };
        if major != 2 {
            return Err(PcapError::Version(major));
        }
        // The upper bits may say how long a frame check sequence is.
        let link = word(&header, 20, swapped) & 0x0fff_ffff;
        if link != LINK_ETHERNET {
            return Err(PcapError::LinkType(link));
        }
        Ok(PcapReader { input, swapped, nanos_per_unit, records: 0 })
    }

    /// The next frame; `None` at the file's end.
    ///
    /// # Errors
    /// When the file ends inside a record, or a record says what cannot be.
    pub fn next_record(&mut self) -> Result<Option<Record>, PcapError> {
        let mut header = [0; RECORD_HEADER_BYTES];
        if self.input.read(&mut header[..1])? == 0 {
            return Ok(None);
        }
        self.input.read_exact(&mut header[1..])?;
        let field = |at| word(&header, at, self.swapped);
        let (seconds, fraction, bytes) = (u64::from(field(0)), u64::from(field(4)), field(8));
        let fraction_ns = fraction * self.nanos_per_unit;
        let record = self.records;
        if fraction_ns >= 1_000_000_000 {
            return Err(PcapError::Time { record });
        }
        if bytes as usize > FRAME_BYTES_MAX {
            return Err(PcapError::TooLong { record, bytes });
        }
        let mut frame = vec![0; bytes as usize];
        self.input.read_exact(&mut frame)?;
        self.records += 1;
        let time_ns = seconds * 1_000_000_000 + fraction_ns;
        Ok(Some(Record { time_ns, frame, bytes_on_wire: field(12) }))
    }
}

fn word(bytes: &[u8], at: usize, swapped: bool) -> u32 {
    let four = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    let word = u32::from_ne_bytes(four);
    if swapped { word.swap_bytes() } else { word }
}

/// Writes a capture with nanoseconds, little-endian.
#[derive(Debug)]
pub struct PcapWriter<W: Write> {
    output: W,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file's header.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(mut output: W) -> io::Result<PcapWriter<W>> {
        let mut header = [0; FILE_HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC_NANOS.to_le_bytes());
        header[4..8].copy_from_slice(&[2, 0, 4, 0]);
        header[16..20].copy_from_slice(&(FRAME_BYTES_MAX as u32).to_le_bytes());
        header[20..24].copy_from_slice(&LINK_ETHERNET.to_le_bytes());
        output.write_all(&header)?;
        Ok(PcapWriter { output })
    }

    /// Writes a frame that was captured at `time_ns`, nanoseconds since 1970; it allocates nothing.
    ///
    /// # Errors
    /// When it cannot be written, or is after the year 2106, which the format does not know.
    pub fn write(&mut self, time_ns: u64, frame: &[u8]) -> io::Result<()> {
        let too_late = |_| io::Error::other("a capture's times end in the year 2106");
        let seconds = u32::try_from(time_ns / 1_000_000_000).map_err(too_late)?;
        let bytes = u32::try_from(frame.len()).map_err(|_| io::Error::other("the frame is too long"))?;
        let mut header = [0; RECORD_HEADER_BYTES];
        header[..4].copy_from_slice(&seconds.to_le_bytes());
        header[4..8].copy_from_slice(&((time_ns % 1_000_000_000) as u32).to_le_bytes());
        header[8..12].copy_from_slice(&bytes.to_le_bytes());
        header[12..].copy_from_slice(&bytes.to_le_bytes());
        self.output.write_all(&header)?;
        self.output.write_all(frame)
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<Record>, PcapError> {
        let mut reader = PcapReader::new(bytes)?;
        let mut all = Vec::new();
        while let Some(record) = reader.next_record()? {
            all.push(record);
        }
        Ok(all)
    }

    /// A file of one record as other programs write it.
    fn foreign(magic: u32, big_endian: bool, fraction: u32, link: u32) -> Vec<u8> {
        let word = |word: u32| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
        let half = |half: u16| if big_endian { half.to_be_bytes() } else { half.to_le_bytes() };
        let mut file = [word(magic), word(0), word(0), word(0), word(65_535), word(link)].concat();
        file[4..6].copy_from_slice(&half(2));
        file[6..8].copy_from_slice(&half(4));
        file.extend([word(1_700_000_000), word(fraction), word(3), word(60)].concat());
        file.extend([7, 8, 9]);
        file
    }

    #[test]
    fn all_four_forms_are_read() {
        for big_endian in [false, true] {
            for (magic, time_ns) in [(MAGIC_MICROS, 123_456_000), (MAGIC_NANOS, 123_456)] {
                let records = read(&foreign(magic, big_endian, 123_456, 1)).expect("a good file");
                let time_ns = 1_700_000_000_000_000_000 + time_ns;
                assert_eq!(records, [Record { time_ns, frame: vec![7, 8, 9], bytes_on_wire: 60 }]);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = foreign(MAGIC_NANOS, false, 5, 1);
        assert!(matches!(read(&foreign(0x0a0d_0d0a, false, 5, 1)), Err(PcapError::Magic(0x0a0d_0d0a))));
        assert!(matches!(read(&foreign(MAGIC_NANOS, true, 5, 101)), Err(PcapError::LinkType(101))));
        assert!(matches!(
            read(&foreign(MAGIC_NANOS, false, 1_000_000_000, 1)),
            Err(PcapError::Time { record: 0 })
        ));
        assert!(matches!(
            read(&foreign(MAGIC_MICROS, false, 1_000_000, 1)),
            Err(PcapError::Time { record: 0 })
        ));
        let mut long = good.clone();
        long[34] = 0x10;
        assert!(matches!(read(&long), Err(PcapError::TooLong { record: 0, bytes: 0x10_0003 })));
        let mut old = good.clone();
        old[4] = 1;
        assert!(matches!(read(&old), Err(PcapError::Version(1))));
        for cut in (0..good.len()).filter(|cut| *cut != FILE_HEADER_BYTES) {
            assert!(matches!(read(&good[..cut]), Err(PcapError::Io(_))), "cut at {cut}");
        }
        assert_eq!(read(&good[..FILE_HEADER_BYTES]).expect("a file without records"), []);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            frames in prop::collection::vec((0..=4_294_967_295_999_999_999_u64, prop::collection::vec(any::<u8>(), 0..300)), 0..20)
        ) {
            let mut file = Vec::new();
            let mut writer = PcapWriter::new(&mut file).unwrap();
            for (time_ns, frame) in &frames {
                writer.write(*time_ns, frame).unwrap();
            }
            let back = read(&file).unwrap();
            prop_assert_eq!(back.len(), frames.len());
            for (record, (time_ns, frame)) in back.iter().zip(&frames) {
                prop_assert_eq!((record.time_ns, &record.frame), (*time_ns, frame));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
            let mut file = bytes;
            if magic && file.len() >= FILE_HEADER_BYTES {
                file[..24].copy_from_slice(&foreign(MAGIC_NANOS, false, 0, 1)[..24]);
            }
            let _ = read(&file);
        }
    }
}
