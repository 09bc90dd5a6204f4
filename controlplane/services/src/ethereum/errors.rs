//! How a refusal is said to Ethereum's clients: code -32000 and the words by which they recognise it.
//!
//! The `data` is the typed refusal, as in `temporal_sendTransaction`, so that nothing is lost by the common code.

use crate::refusal::SubmitError;
use jsonrpsee::types::ErrorObjectOwned;

/// Code of what the node refuses, as go-ethereum's.
pub const SERVER_ERROR: i32 = -32_000;

/// An error without a typed refusal behind it.
#[must_use]
pub fn server_error(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(SERVER_ERROR, message, None::<()>)
}

/// A refused transaction.
#[must_use]
pub fn refused(error: &SubmitError) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(SERVER_ERROR, message(error), Some(error))
}

/// Go-ethereum's words where it has some; ethers and viem look for them.
fn message(error: &SubmitError) -> String {
    match error {
        SubmitError::Malformed { detail } => format!("invalid transaction: {detail}"),
        SubmitError::BadSignature => "invalid sender: the signature does not verify".into(),
        SubmitError::StaleNonce { have, need } => {
            format!("nonce too low: next nonce {need}, tx nonce {have}")
        }
        SubmitError::NonceGap { have, need, gap_max } => {
            format!("nonce too high: next nonce {need}, tx nonce {have}, at most {gap_max} ahead")
        }
        SubmitError::FeeTooLow { offered, base_fee } => {
            format!("max fee per gas less than block base fee: maxFeePerGas: {offered}, baseFee: {base_fee}")
        }
        SubmitError::FeeAbsurd { max_fee, max_priority_fee, .. } if max_priority_fee > max_fee => format!(
            "max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: {max_priority_fee}, maxFeePerGas: {max_fee}"
        ),
        SubmitError::FeeAbsurd { max_fee, fee_max, .. } => {
            format!(
                "max fee per gas higher than this chain allows: maxFeePerGas: {max_fee}, at most {fee_max}"
            )
        }
        SubmitError::GasOutOfRange { offered, gas_min, .. } if offered < gas_min => {
            format!("intrinsic gas too low: gas {offered}, minimum needed {gas_min}")
        }
        SubmitError::GasOutOfRange { offered, gas_max, .. } => {
            format!("exceeds block gas limit: gas {offered}, limit {gas_max}")
        }
        SubmitError::WrongChain { have, want } => {
            format!("invalid chain id for signer: have {have} want {want}")
        }
        SubmitError::NoChainId => "only replay-protected (EIP-155) transactions allowed".into(),
        SubmitError::OverBalance { cost, balance } => {
            format!("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}")
        }
        SubmitError::PoolFull { .. } => "txpool is full".into(),
        SubmitError::Duplicate { .. } => "already known".into(),
        SubmitError::TooLarge { bytes, bytes_max } => {
            format!("oversized data: transaction size {bytes}, limit {bytes_max}")
        }
        SubmitError::Unsupported { what } => format!("transaction type not supported: {what}"),
        SubmitError::Expired { .. }
        | SubmitError::NotYetValid { .. }
        | SubmitError::BadWindow { .. }
        | SubmitError::NodeBusy
        | SubmitError::NodeStopped { .. } => error.to_string(),
    }
}
