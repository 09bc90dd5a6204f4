//! Messages: what a sealed frame holds. The first byte says which; the rest is that message's layout.

use crate::chunk::{Chunk, Propose};
use crate::codec::{DecodeError, Reader, Sink};
use crate::ids::{BlockId, View};
use crate::limits::{TX_BYTES_MAX, TXS_PER_MESSAGE_MAX};
use crate::stamp::StampedBatch;
use crate::vote::{Certificate, CertificateKind, Vote};
use arrayvec::ArrayVec;

/// First byte of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageKind {
    /// Transactions from a client.
    Submit = 1,
    /// Stamped transactions from their ingress validator.
    Batch = 2,
    /// A proposal.
    Propose = 3,
    /// A vote.
    Vote = 4,
    /// A certificate.
    Certificate = 5,
    /// A piece of a block's body.
    Chunk = 6,
    /// Asks for a block: its proposal and chunks.
    PullBlock = 7,
    /// Asks for a view's certificates.
    PullCertificate = 8,
}

impl MessageKind {
    /// Reads the wire's byte; `None` for a byte that names no kind.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<MessageKind> {
        Some(match byte {
            1 => MessageKind::Submit,
            2 => MessageKind::Batch,
            3 => MessageKind::Propose,
            4 => MessageKind::Vote,
            5 => MessageKind::Certificate,
            6 => MessageKind::Chunk,
            7 => MessageKind::PullBlock,
            8 => MessageKind::PullCertificate,
            _ => return None,
        })
    }

    /// Whether the data plane handles it (transactions) or hands it to the control plane.
    #[must_use]
    pub const fn is_transactions(self) -> bool {
        matches!(self, MessageKind::Submit | MessageKind::Batch)
    }
}

/// A parsed message that borrows from its frame.
#[derive(Clone, Debug)]
// A message lives on the stack for the length of one match; boxing the large variants would allocate.
#[allow(clippy::large_enum_variant)]
pub enum Message<'a> {
    /// Transactions from a client: their wire bytes.
    Submit(ArrayVec<&'a [u8], TXS_PER_MESSAGE_MAX>),
    /// Stamped transactions from their ingress validator.
    Batch(StampedBatch<'a>),
    /// A proposal.
    Propose(Propose),
    /// A vote.
    Vote(Vote),
    /// A certificate.
    Certificate(Certificate),
    /// A piece of a block's body.
    Chunk(Chunk<'a>),
    /// Asks for a block.
    PullBlock(BlockId),
    /// Asks for the certificates of a view (of any kind).
    PullCertificate(View),
}

impl<'a> Message<'a> {
    /// Reads a whole message; anything after it is an error.
    pub fn read(bytes: &'a [u8]) -> Result<Message<'a>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let byte = reader.u8("message kind")?;
        let kind = MessageKind::from_byte(byte)
            .ok_or(DecodeError::BadValue { field: "message kind", value: u64::from(byte) })?;
        let message = match kind {
            MessageKind::Submit => Message::Submit(read_submit(&mut reader)?),
            MessageKind::Batch => Message::Batch(StampedBatch::read(&mut reader)?),
            MessageKind::Propose => Message::Propose(Propose::read(&mut reader)?),
            MessageKind::Vote => Message::Vote(Vote::read(&mut reader)?),
            MessageKind::Certificate => Message::Certificate(Certificate::read(&mut reader)?),
            MessageKind::Chunk => Message::Chunk(Chunk::read(&mut reader)?),
            MessageKind::PullBlock => Message::PullBlock(BlockId(reader.array("pulled block")?)),
            MessageKind::PullCertificate => Message::PullCertificate(View(reader.u64("pulled view")?)),
        };
        reader.finish()?;
        Ok(message)
    }

    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> MessageKind {
        match self {
            Message::Submit(_) => MessageKind::Submit,
            Message::Batch(_) => MessageKind::Batch,
            Message::Propose(_) => MessageKind::Propose,
            Message::Vote(_) => MessageKind::Vote,
            Message::Certificate(_) => MessageKind::Certificate,
            Message::Chunk(_) => MessageKind::Chunk,
            Message::PullBlock(_) => MessageKind::PullBlock,
            Message::PullCertificate(_) => MessageKind::PullCertificate,
        }
    }

    /// Appends the bytes that [`Message::read`] reads.
    pub fn write(&self, out: &mut impl Sink) {
        if let Message::Submit(txs) = self {
            return write_submit(txs, out);
        }
        out.put_u8(self.kind() as u8);
        match self {
            Message::Submit(_) => {}
            Message::Batch(batch) => batch.write(out),
            Message::Propose(propose) => propose.write(out),
            Message::Vote(vote) => vote.write(out),
            Message::Certificate(certificate) => certificate.write(out),
            Message::Chunk(chunk) => chunk.write(out),
            Message::PullBlock(block) => out.put(&block.0),
            Message::PullCertificate(view) => out.put_u64(view.0),
        }
    }
}

fn read_submit<'a>(reader: &mut Reader<'a>) -> Result<ArrayVec<&'a [u8], TXS_PER_MESSAGE_MAX>, DecodeError> {
    let count = reader.u8("submitted transactions")?;
    if count == 0 || usize::from(count) > TXS_PER_MESSAGE_MAX {
        let limit = TXS_PER_MESSAGE_MAX as u64;
        return Err(DecodeError::OverLimit {
            field: "submitted transactions",
            value: u64::from(count),
            limit,
        });
    }
    (0..count)
        .map(|_| {
            let len = reader.count_u16("transaction length", TX_BYTES_MAX)?;
            reader.bytes("transaction", len)
        })
        .collect()
}

/// Bytes of a Submit before its transactions: kind and count.
pub const SUBMIT_HEADER_BYTES: usize = 1 + 1;
/// Bytes of a Submit's transaction beside its wire bytes: the length.
pub const SUBMIT_TX_BYTES: usize = 2;

/// Appends a `Submit` message of `txs`' wire bytes.
pub fn write_submit(txs: &[&[u8]], out: &mut impl Sink) {
    out.put_u8(MessageKind::Submit as u8);
    out.put_u8(txs.len() as u8);
    for wire in txs {
        out.put_u16(wire.len() as u16);
        out.put(wire);
    }
}

/// Names of certificate kinds that stand in a view; for metrics and logs.
#[must_use]
pub const fn certificate_name(kind: &CertificateKind) -> &'static str {
    match kind {
        CertificateKind::FastBlock(_) => "fast_block",
        CertificateKind::SlowBlock(_) => "slow_block",
        CertificateKind::FastSkip => "fast_skip",
        CertificateKind::SlowSkip => "slow_skip",
        CertificateKind::CommitFast(_) => "commit_fast",
        CertificateKind::CommitSlow(_) => "commit_slow",
    }
}
