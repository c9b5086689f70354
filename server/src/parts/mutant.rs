//! Bugs that can be planted, to see that what looks for such bugs finds them. They exist only in a
//! build with `--cfg mutants`.

/// A bug, each for another checker of the simulation.
#[cfg_attr(not(mutants), allow(dead_code, unreachable_pub, reason = "nothing can plant them"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutant {
    /// Some sends are sent twice.
    SendTwice,
    /// Some sends are taken to be sent, and are not.
    LoseSend,
    /// Mail of other workers comes in any order.
    ShuffleMail,
    /// Some mail is taken, and nothing is done with it.
    LoseMail,
    /// There is room again, and nobody is told.
    ForgetWritable,
    /// The end of a connection is not always told, so that its slot stays.
    KeepSlot,
    /// The timer of a slot stays armed.
    KeepTimer,
    /// Subscriptions outlive their connection.
    KeepSubscriptions,
    /// A connection that is gone still counts.
    KeepAdmission,
    /// What may wait for a peer has no limit.
    NoOutboxLimit,
    /// Messages may be twice as long.
    DoubleMessages,
    /// Some connections end without a word to the handler.
    NoOnClose,
    /// A reset is told as a FIN.
    ResetAsFin,
    /// A wait lasts a minute longer than it may.
    Oversleep,
    /// A run has chances of its own.
    Unseeded,
    /// Some connections open uncounted.
    Miscount,
}

#[cfg(mutants)]
mod planted {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<(Option<Mutant>, u32)> = const { Cell::new((None, 0)) };
    }

    impl Mutant {
        /// All of them.
        pub const ALL: &[Self] = &[
            Self::SendTwice,
            Self::LoseSend,
            Self::ShuffleMail,
            Self::LoseMail,
            Self::ForgetWritable,
            Self::KeepSlot,
            Self::KeepTimer,
            Self::KeepSubscriptions,
            Self::KeepAdmission,
            Self::NoOutboxLimit,
            Self::DoubleMessages,
            Self::NoOnClose,
            Self::ResetAsFin,
            Self::Oversleep,
            Self::Unseeded,
            Self::Miscount,
        ];
    }

    /// Plants a bug in what this thread runs, or none.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.set((mutant, 0));
    }

    pub(crate) fn is_planted(mutant: Mutant) -> bool {
        PLANTED.get().0 == Some(mutant)
    }

    /// Whether the bug shows this time: not always, so that something works at first.
    pub(crate) fn shows(mutant: Mutant) -> bool {
        let (planted, count) = PLANTED.get();
        if planted != Some(mutant) {
            return false;
        }
        PLANTED.set((planted, count + 1));
        count % 7 == 6
    }
}

#[cfg(mutants)]
pub use planted::plant;
#[cfg(mutants)]
pub(crate) use planted::{is_planted, shows};

#[cfg(not(mutants))]
pub(crate) const fn is_planted(_: Mutant) -> bool {
    false
}

#[cfg(not(mutants))]
pub(crate) const fn shows(_: Mutant) -> bool {
    false
}
