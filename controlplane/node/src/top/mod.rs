//! `roko top`: what running nodes tell over HTTP, as one page of text.
//!
//! `source` asks, `past` keeps what rates are differences of, `page` writes the page of `load` (threads and rings)
//! and `consensus` (peers, votes, certificates).

mod consensus;
mod load;
pub mod page;
mod past;
pub mod source;

pub use page::Page;
pub use source::{Answer, Source, TopError};
