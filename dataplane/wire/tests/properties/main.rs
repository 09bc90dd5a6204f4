//! Properties of every parser: what is written is read, what is read is written back byte for byte, and neither a
//! prefix nor a longer input is accepted. A failing case prints its seed.

#[path = "../samples/mod.rs"]
mod samples;

mod bodies;
mod ethereum;
mod ethernet;
mod layouts;
mod ordering;
mod refusals;
mod signatures;
mod torsion;
mod transactions;
mod values;

use roko_wire::codec::{DecodeError, Reader};

/// Checks `read` on `bytes`, an encoding: every strict prefix is refused as cut, and one byte more is left over.
fn assert_exact<T>(bytes: &[u8], read: impl for<'a> Fn(&mut Reader<'a>) -> Result<T, DecodeError>) {
    let whole = |bytes: &[u8]| {
        let mut reader = Reader::new(bytes);
        read(&mut reader)?;
        reader.finish()
    };
    assert_eq!(whole(bytes), Ok(()));
    for len in 0..bytes.len() {
        let cut = whole(&bytes[..len]);
        assert!(matches!(cut, Err(DecodeError::Truncated { .. })), "{len} of {} bytes: {cut:?}", bytes.len());
    }
    let longer = [bytes, &[0]].concat();
    assert_eq!(whole(&longer), Err(DecodeError::Trailing { extra: 1 }));
}
