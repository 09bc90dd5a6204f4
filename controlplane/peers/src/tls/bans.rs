//! Members that are not listened to: their handshakes are refused and their streams end, whichever protocol they speak.

use super::Refusal;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::watch;

/// Who is banned, by slot.
#[derive(Debug)]
pub struct Bans {
    slots: Box<[watch::Sender<bool>]>,
}

impl Bans {
    pub(super) fn new(members: usize) -> Bans {
        Bans { slots: (0..members).map(|_| watch::Sender::new(false)).collect() }
    }

    /// Whether the member in `slot` is banned.
    #[must_use]
    pub fn is_banned(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(|banned| *banned.borrow())
    }

    /// Bans a member or takes it back; returns whether that is new.
    pub(crate) fn set(&self, slot: usize, banned: bool) -> bool {
        self.slots.get(slot).is_some_and(|place| place.send_replace(banned) != banned)
    }

    /// Waits until the member in `slot` is not banned.
    pub(crate) async fn admitted(&self, slot: usize) {
        if let Some(place) = self.slots.get(slot) {
            // The sender is borrowed here, so it is not gone.
            let _ = place.subscribe().wait_for(|banned| !banned).await;
        }
    }

    pub(super) fn gate(&self, slot: usize) -> Gate {
        let place = self.slots.get(slot).map(watch::Sender::subscribe);
        let closes = async move {
            let closed = match place {
                Some(mut place) => place.wait_for(|banned| *banned).await.is_ok(),
                None => false,
            };
            if !closed {
                // Nobody is left who could close it.
                std::future::pending::<()>().await;
            }
        };
        Gate { state: State::Open(Box::pin(closes)) }
    }
}

enum State {
    Open(Pin<Box<dyn Future<Output = ()> + Send + Sync>>),
    Closed,
    /// For the last words of a session.
    Passed,
}

/// What a stream asks before it reads or writes: closed once its peer is banned.
pub(super) struct Gate {
    state: State,
}

impl Gate {
    /// An error once the peer is banned; the task is woken when that happens.
    pub(super) fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let State::Open(closes) = &mut self.state
            && closes.as_mut().poll(cx) == Poll::Ready(())
        {
            self.state = State::Closed;
        }
        match self.state {
            State::Closed => Err(io::Error::new(io::ErrorKind::ConnectionAborted, Refusal::Banned.words())),
            State::Open(_) | State::Passed => Ok(()),
        }
    }

    pub(super) fn pass(&mut self) {
        self.state = State::Passed;
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}
