//! What the fuzz target `pcap` runs on every input, and the replay of its corpus too.

use roko_pipeline::pcap::{PcapReader, PcapWriter, Record};

/// Reads a file as far as it is a capture; what was read is written and read again as it was. Returns how many records it has
/// and whether it ends as a capture does.
pub(crate) fn pcap(file: &[u8]) -> (usize, bool) {
    let (records, whole) = records(file);
    let mut written = Vec::new();
    let mut writer = PcapWriter::new(&mut written).expect("memory takes it");
    for record in &records {
        writer.write(record.time_ns, &record.frame).expect("a time that was read can be written");
    }
    let (again, rest) = self::records(&written);
    assert!(rest && again.len() == records.len());
    for (one, other) in records.iter().zip(&again) {
        assert_eq!((one.time_ns, &one.frame), (other.time_ns, &other.frame));
    }
    (records.len(), whole)
}

fn records(file: &[u8]) -> (Vec<Record>, bool) {
    let (mut all, Ok(mut reader)) = (Vec::new(), PcapReader::new(file)) else { return (Vec::new(), false) };
    loop {
        match reader.next_record() {
            Ok(Some(record)) => all.push(record),
            Ok(None) => return (all, true),
            Err(_) => return (all, false),
        }
    }
}
