//! Canonical little-endian layouts: a bounds-checked reader and a writer into a caller's buffer.

/// Bytes that do not hold what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ended inside a field.
    #[error("input ends inside {field}: {needed} more bytes are needed")]
    Truncated {
        /// The field being read.
        field: &'static str,
        /// How many bytes are missing.
        needed: usize,
    },
    /// Bytes are left after the last field.
    #[error("{extra} bytes follow the last field")]
    Trailing {
        /// How many bytes are left.
        extra: usize,
    },
    /// A count or length is above its limit.
    #[error("{field} is {value}, above its limit {limit}")]
    OverLimit {
        /// The field being read.
        field: &'static str,
        /// What it holds.
        value: u64,
        /// The most it may hold.
        limit: u64,
    },
    /// A field holds a value that means nothing.
    #[error("{field} holds {value}, which means nothing here")]
    BadValue {
        /// The field being read.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// A field of an RLP list is not in its one shortest form.
    #[error("{field} is not in RLP's shortest form: no leading zeros, lengths as short as they can be")]
    NotCanonical {
        /// The field being read.
        field: &'static str,
    },
    /// An integer of an RLP list takes more bytes than its type has.
    #[error("{field} takes {bytes} bytes, above its {bytes_max}")]
    TooWide {
        /// The field being read.
        field: &'static str,
        /// Its length.
        bytes: usize,
        /// The most it may have.
        bytes_max: usize,
    },
}

/// Reads canonical fields from a slice; every read is bounds-checked and names its field in the error.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// Defines a reader method for one integer type.
macro_rules! read_int {
    ($name:ident, $int:ty) => {
        #[doc = concat!("A little-endian `", stringify!($int), "`.")]
        pub fn $name(&mut self, field: &'static str) -> Result<$int, DecodeError> {
            Ok(<$int>::from_le_bytes(self.array(field)?))
        }
    };
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, tail)) = self.rest.split_at_checked(len) else {
            return Err(DecodeError::Truncated { field, needed: len - self.rest.len() });
        };
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(field, N)?);
        Ok(out)
    }

    /// A byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(field)?[0])
    }

    read_int!(u16, u16);
    read_int!(u32, u32);
    read_int!(u64, u64);
    read_int!(u128, u128);

    /// A 16-bit count that must be at most `limit`.
    pub fn count_u16(&mut self, field: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let value = usize::from(self.u16(field)?);
        if value > limit {
            return Err(DecodeError::OverLimit { field, value: value as u64, limit: limit as u64 });
        }
        Ok(value)
    }

    /// Fails unless everything has been read.
    pub const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { extra: self.rest.len() }) }
    }
}

/// Where a canonical layout is written: a growing vector, a fixed buffer, a hash.
pub trait Sink {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    /// Appends a little-endian `u16`.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    /// Appends a little-endian `u32`.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    /// Appends a little-endian `u64`.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    /// Appends a little-endian `u128`.
    fn put_u128(&mut self, value: u128) {
        self.put(&value.to_le_bytes());
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl<const N: usize> Sink for arrayvec::ArrayVec<u8, N> {
    /// # Panics
    /// When the layout is longer than `N`: a limit of our own is wrong, never a peer's input.
    fn put(&mut self, bytes: &[u8]) {
        self.try_extend_from_slice(bytes).expect("the buffer is sized for the layout's limit");
    }
}

/// Memory that is written from its front on; what is left of it is what is not written yet.
impl Sink for &mut [u8] {
    /// # Panics
    /// When the layout is longer than the memory: whoever made room for it was wrong, never a peer's input.
    fn put(&mut self, bytes: &[u8]) {
        let (here, rest) = core::mem::take(self).split_at_mut(bytes.len());
        here.copy_from_slice(bytes);
        *self = rest;
    }
}

/// Counts what would be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Length(pub usize);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

impl Sink for sha2::Sha256 {
    fn put(&mut self, bytes: &[u8]) {
        sha2::Digest::update(self, bytes);
    }
}

impl Sink for sha3::Keccak256 {
    fn put(&mut self, bytes: &[u8]) {
        sha3::Digest::update(self, bytes);
    }
}
