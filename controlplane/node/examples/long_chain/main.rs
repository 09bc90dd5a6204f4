//! How fast a new full node gets a long chain: makes one into a folder, then fetches it over TLS on loopback TCP, from a
//! peer in a process of its own, onto the disk. `benches/README.md` has the commands and what they gave.

mod ends;
#[path = "../../tests/common/made_chain.rs"]
mod made_chain;

use clap::{Parser, ValueEnum};
use made_chain::Mix;
use roko_state::file::{FileStorage, WritePath};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Parser)]
enum Command {
    /// Makes a chain into DIR/chain.
    Make {
        /// The folder.
        #[arg(long)]
        dir: PathBuf,
        /// Blocks.
        #[arg(long, default_value_t = 100_000)]
        blocks: u64,
        /// Transfers of a block.
        #[arg(long, default_value_t = 20)]
        txs: u64,
        /// Of a hundred transfers, so many go to a new address.
        #[arg(long, default_value_t = 10)]
        new_percent: u64,
    },
    /// Fetches it into DIR/asker, which is emptied first.
    Fetch {
        /// The folder.
        #[arg(long)]
        dir: PathBuf,
        /// Where to begin.
        #[arg(long, value_enum, default_value_t = Start::Genesis)]
        start: Start,
    },
    /// Answers from DIR/chain until its standard input ends; `fetch` starts it.
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Start {
    Genesis,
    Snapshot,
}

/// Accounts of genesis.
const ACCOUNTS: u32 = 1_000;

fn main() {
    match Command::parse() {
        Command::Make { dir, blocks, txs, new_percent } => {
            make(&dir, Mix { blocks, txs, new_percent, accounts: ACCOUNTS });
        }
        Command::Fetch { dir, start } => ends::fetch(&dir, start == Start::Snapshot),
        Command::Serve { dir } => ends::serve(&dir),
    }
}

fn storage(dir: &Path) -> FileStorage {
    std::fs::create_dir_all(dir).expect("a folder");
    FileStorage::open(dir, WritePath::Best).expect("a folder that can be written")
}

fn make(dir: &Path, mix: Mix) {
    let (made, folder) = (made_chain::genesis(mix.accounts), dir.join("chain"));
    let chain = ends::chain_of(&made);
    let mut store = made_chain::open(&chain, storage(&folder));
    assert_eq!(store.last().height.0, 0, "{} holds a chain already", folder.display());
    let (began, mut said) = (Instant::now(), Instant::now());
    made_chain::make(&made, &chain, &mut store, mix, |height| {
        if said.elapsed() >= Duration::from_secs(5) {
            said = Instant::now();
            eprintln!("block {height} after {:.0} s", began.elapsed().as_secs_f64());
        }
    });
    let last = store.last();
    println!(
        "made {} blocks of {} transfers in {:.0} s: {} accounts, state root {}",
        last.height,
        mix.txs,
        began.elapsed().as_secs_f64(),
        store.tree().accounts(),
        last.root
    );
    store.close().expect("a last checkpoint");
}
