//! RLP, Ethereum's encoding (Yellow Paper, appendix B): a checked reader over borrowed bytes, and writers into a sink.
//!
//! Only the one canonical form is read: a byte below `0x80` stands for itself, lengths below 56 are in the prefix, longer
//! ones and integers have no leading zero. Nothing is allocated and nothing is copied.

use crate::codec::{DecodeError, Reader, Sink};

/// The prefix of an empty string, and of the integer 0.
pub const EMPTY_STRING: u8 = 0x80;
/// The prefix of an empty list.
pub const EMPTY_LIST: u8 = 0xc0;
/// Longest payload whose length is in the prefix.
const SHORT_BYTES_MAX: usize = 55;

/// Reads items one after the other; every error names the field.
#[derive(Clone, Copy, Debug)]
pub struct Rlp<'a> {
    reader: Reader<'a>,
}

enum Item<'a> {
    String(&'a [u8]),
    List(&'a [u8]),
}

impl<'a> Rlp<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Rlp<'a> {
        Rlp { reader: Reader::new(bytes) }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.reader.rest()
    }

    /// A string of bytes.
    pub fn string(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let prefix = u64::from(self.rest().first().copied().unwrap_or(0));
        match self.item(field)? {
            Item::String(bytes) => Ok(bytes),
            Item::List(_) => Err(DecodeError::BadValue { field, value: prefix }),
        }
    }

    /// A list, as a reader of its items.
    pub fn list(&mut self, field: &'static str) -> Result<Rlp<'a>, DecodeError> {
        let prefix = u64::from(self.rest().first().copied().unwrap_or(0));
        match self.item(field)? {
            Item::List(payload) => Ok(Rlp::new(payload)),
            Item::String(_) => Err(DecodeError::BadValue { field, value: prefix }),
        }
    }

    /// A string of exactly `N` bytes.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let bytes = self.string(field)?;
        bytes.try_into().map_err(|_| DecodeError::BadValue { field, value: bytes.len() as u64 })
    }

    /// An unsigned integer of at most `N` bytes, big-endian and filled up with zeros at the front.
    pub fn uint<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let bytes = self.string(field)?;
        if bytes.first() == Some(&0) {
            return Err(DecodeError::NotCanonical { field });
        }
        let mut out = [0; N];
        let Some(start) = N.checked_sub(bytes.len()) else {
            return Err(DecodeError::TooWide { field, bytes: bytes.len(), bytes_max: N });
        };
        out[start..].copy_from_slice(bytes);
        Ok(out)
    }

    /// An integer below 2^64.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.uint(field).map(u64::from_be_bytes)
    }

    /// An integer below 2^128.
    pub fn u128(&mut self, field: &'static str) -> Result<u128, DecodeError> {
        self.uint(field).map(u128::from_be_bytes)
    }

    /// Fails unless everything has been read.
    pub const fn finish(self) -> Result<(), DecodeError> {
        self.reader.finish()
    }

    fn item(&mut self, field: &'static str) -> Result<Item<'a>, DecodeError> {
        let start = self.rest();
        let prefix = self.reader.u8(field)?;
        match prefix {
            0..=0x7f => Ok(Item::String(&start[..1])),
            0x80..=0xb7 => {
                let bytes = self.reader.bytes(field, usize::from(prefix - 0x80))?;
                // A single byte below 0x80 stands for itself.
                if matches!(bytes, [0..=0x7f]) {
                    return Err(DecodeError::NotCanonical { field });
                }
                Ok(Item::String(bytes))
            }
            0xb8..=0xbf => self.long(field, prefix - 0xb7).map(Item::String),
            0xc0..=0xf7 => self.reader.bytes(field, usize::from(prefix - 0xc0)).map(Item::List),
            0xf8..=0xff => self.long(field, prefix - 0xf7).map(Item::List),
        }
    }

    /// A payload whose length stands in `width` bytes (1 to 8) before it.
    fn long(&mut self, field: &'static str, width: u8) -> Result<&'a [u8], DecodeError> {
        let bytes = self.reader.bytes(field, usize::from(width))?;
        let len = bytes.iter().fold(0u64, |len, byte| len << 8 | u64::from(*byte));
        if bytes[0] == 0 || len <= SHORT_BYTES_MAX as u64 {
            return Err(DecodeError::NotCanonical { field });
        }
        self.reader.bytes(field, usize::try_from(len).unwrap_or(usize::MAX))
    }
}

/// Appends the prefix of a list whose items take `payload_bytes`.
pub fn put_list_prefix(payload_bytes: usize, out: &mut impl Sink) {
    put_prefix(EMPTY_LIST, payload_bytes, out);
}

/// Appends a string of bytes.
pub fn put_string(bytes: &[u8], out: &mut impl Sink) {
    if !matches!(bytes, [0..=0x7f]) {
        put_prefix(EMPTY_STRING, bytes.len(), out);
    }
    out.put(bytes);
}

/// Appends an integer, from its big-endian bytes with or without zeros at the front.
pub fn put_uint(big_endian: &[u8], out: &mut impl Sink) {
    let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
    put_string(&big_endian[zeros..], out);
}

fn put_prefix(empty: u8, payload_bytes: usize, out: &mut impl Sink) {
    if payload_bytes <= SHORT_BYTES_MAX {
        out.put_u8(empty + payload_bytes as u8);
        return;
    }
    let len = (payload_bytes as u64).to_be_bytes();
    let zeros = len.iter().take_while(|byte| **byte == 0).count();
    out.put_u8(empty + (SHORT_BYTES_MAX + len.len() - zeros) as u8);
    out.put(&len[zeros..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8]) -> Result<&[u8], DecodeError> {
        let mut rlp = Rlp::new(bytes);
        let read = rlp.string("field")?;
        rlp.finish().map(|()| read)
    }

    #[test]
    fn the_yellow_papers_forms_are_read_and_written() {
        let long = [0x61; 56];
        let cases: [(&[u8], &[u8]); 5] = [
            (b"dog", b"\x83dog"),
            (b"", b"\x80"),
            (b"\x0f", b"\x0f"),
            (b"\x80", b"\x81\x80"),
            (&long, &[&[0xb8, 56][..], &long].concat()),
        ];
        for (value, encoded) in cases {
            let mut out = Vec::new();
            put_string(value, &mut out);
            assert_eq!(out, encoded);
            assert_eq!(string(encoded), Ok(value));
        }
        let mut out = Vec::new();
        put_uint(&1_024u64.to_be_bytes(), &mut out);
        put_uint(&[0; 4], &mut out);
        assert_eq!(out, [0x82, 0x04, 0x00, 0x80]);
        let mut rlp = Rlp::new(&out);
        assert_eq!((rlp.u64("n"), rlp.u128("n")), (Ok(1_024), Ok(0)));
        let mut list = Vec::new();
        put_list_prefix(8, &mut list);
        list.extend(b"\x83cat\x83dog");
        let mut items = Rlp::new(&list).list("pets").unwrap();
        assert_eq!((items.string("cat"), items.array::<3>("dog")), (Ok(&b"cat"[..]), Ok(*b"dog")));
        assert_eq!(items.finish(), Ok(()));
    }

    #[test]
    fn what_has_a_shorter_form_is_refused() {
        let field = "field";
        let refused = Err(DecodeError::NotCanonical { field });
        assert_eq!(string(&[0x81, 0x7f]), refused);
        assert_eq!(string(&[&[0xb8, 55][..], &[1; 55]].concat()), refused);
        assert_eq!(string(&[&[0xb9, 0, 56][..], &[1; 56]].concat()), refused);
        let uint = |bytes: &[u8]| Rlp::new(bytes).u64(field);
        assert_eq!(uint(&[0]), Err(DecodeError::NotCanonical { field }));
        assert_eq!(uint(&[0x82, 0, 1]), Err(DecodeError::NotCanonical { field }));
        assert_eq!(
            uint(&[0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(DecodeError::TooWide { field, bytes: 9, bytes_max: 8 })
        );
    }

    #[test]
    fn a_string_is_no_list_and_the_end_is_checked() {
        let field = "field";
        assert_eq!(string(&[0xc0]), Err(DecodeError::BadValue { field, value: 0xc0 }));
        assert!(Rlp::new(&[0x80]).list(field).is_err());
        assert_eq!(string(&[0x83, 1, 2]), Err(DecodeError::Truncated { field, needed: 1 }));
        assert_eq!(string(&[]), Err(DecodeError::Truncated { field, needed: 1 }));
        assert_eq!(string(&[0x80, 0]), Err(DecodeError::Trailing { extra: 1 }));
        let endless = [[0xbf].as_slice(), &[0xff; 8]].concat();
        assert!(matches!(string(&endless), Err(DecodeError::Truncated { .. })));
    }
}
