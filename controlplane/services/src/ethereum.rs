//! The `eth_*` methods (Ethereum's execution API), so that its wallets and libraries work unchanged.
//!
//! [`view`] is what the methods ask of a node, [`shapes`] what a client sees, [`values`] how numbers and bytes look there,
//! [`errors`] how a refusal is said so that clients understand it, [`rpc`] the methods.
//!
//! Where this chain is another one than Ethereum, the answers say what is true here: every block that is shown is final,
//! so `latest`, `safe` and `finalized` are one; a block's `stateRoot` and `receiptsRoot` are its parent's, because results
//! are committed to by the child; only the newest state is kept; and a native transaction has the type [`NATIVE_TYPE`]
//! and a signature of zeros.

pub mod errors;
pub mod rpc;
pub mod shapes;
pub mod values;
pub mod view;

/// The type under which native transactions are shown: the highest that EIP-2718 has, which Ethereum has not given out.
pub const NATIVE_TYPE: u8 = 0x7f;
