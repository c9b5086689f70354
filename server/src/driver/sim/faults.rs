//! What may go wrong.

use std::{fmt, str::FromStr};

/// Something that goes wrong in real networks and machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A receive or a send moves only a part of what it could, down to a byte; sends may take
    /// nothing.
    Cuts,
    /// Bytes take up to seconds to arrive.
    Delays,
    /// What happens to different connections is told in any order, and some of it later.
    Reorder,
    /// Connections hold few bytes, so that who sends has to wait for who reads.
    SmallBuffers,
    /// Clients reset their connections.
    Resets,
    /// Clients vanish: nothing comes from them any more, not even an end.
    HalfOpen,
    /// Clients stop to read for a while, some for ever.
    Stalls,
    /// Descriptors run out for a while, and connections that were accepted cannot be opened.
    Descriptors,
    /// A worker stands still for up to seconds while all else goes on.
    Pauses,
    /// The clock leaps by up to hours, as after a machine was suspended.
    ClockJumps,
}

/// A set of [`Fault`]s.
///
/// ```
/// use quelea::sim::{Fault, Faults};
/// let faults: Faults = "cuts,resets".parse()?;
/// assert_eq!(faults, Faults::NONE.with(Fault::Resets).with(Fault::Cuts));
/// assert_eq!(Faults::ALL.without(Fault::Cuts).to_string().split(',').count(), 9);
/// # Ok::<(), quelea::sim::UnknownFault>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Faults(u16);

const NAMES: &[(Fault, &str)] = &[
    (Fault::Cuts, "cuts"),
    (Fault::Delays, "delays"),
    (Fault::Reorder, "reorder"),
    (Fault::SmallBuffers, "small-buffers"),
    (Fault::Resets, "resets"),
    (Fault::HalfOpen, "half-open"),
    (Fault::Stalls, "stalls"),
    (Fault::Descriptors, "descriptors"),
    (Fault::Pauses, "pauses"),
    (Fault::ClockJumps, "clock-jumps"),
];

impl Faults {
    /// A network and a machine that never fail.
    pub const NONE: Self = Self(0);
    /// All that can go wrong.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    const fn bit(fault: Fault) -> u16 {
        1 << fault as u16
    }

    /// Whether a fault is in the set.
    pub const fn has(self, fault: Fault) -> bool {
        self.0 & Self::bit(fault) != 0
    }

    /// The set with one more.
    #[must_use]
    pub const fn with(self, fault: Fault) -> Self {
        Self(self.0 | Self::bit(fault))
    }

    /// The set without one.
    #[must_use]
    pub const fn without(self, fault: Fault) -> Self {
        Self(self.0 & !Self::bit(fault))
    }

    /// The faults in the set.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        NAMES.iter().map(|(fault, _)| *fault).filter(move |fault| self.has(*fault))
    }
}

/// The names, separated by commas; `none` if there are none.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("none");
        }
        let names = NAMES.iter().filter(|(fault, _)| self.has(*fault));
        for (index, (_, name)) in names.enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faults({self})")
    }
}

/// As they are displayed; also `all`.
impl FromStr for Faults {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        match text {
            "none" => return Ok(Self::NONE),
            "all" => return Ok(Self::ALL),
            _ => {}
        }
        text.split(',').try_fold(Self::NONE, |faults, wanted| {
            let found = NAMES.iter().find(|(_, name)| *name == wanted);
            found.map(|(fault, _)| faults.with(*fault)).ok_or_else(|| UnknownFault(wanted.into()))
        })
    }
}

/// There is no fault of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFault(String);

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no fault `{}`; those that are: {}", self.0, Faults::ALL)
    }
}

impl std::error::Error for UnknownFault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read_as_it_is_written() {
        for faults in [Faults::NONE, Faults::ALL, Faults::NONE.with(Fault::HalfOpen)] {
            assert_eq!(faults.to_string().parse(), Ok(faults));
        }
        assert_eq!(Faults::ALL.iter().count(), NAMES.len());
        assert!("cuts,rain".parse::<Faults>().unwrap_err().to_string().contains("`rain`"));
    }
}
