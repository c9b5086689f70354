//! What is offered and agreed on (RFC 7692, sections 5 and 7.1).

use super::{Policy, WindowBits};
use crate::{
    Role,
    handshake::extensions::{Extension, Parameter, Value, extensions},
};
use std::{fmt, str::FromStr};

/// The extension's token (section 7).
pub(crate) const NAME: &str = "permessage-deflate";

/// What a client offers (section 7.1). Shown, it is an element of `Sec-WebSocket-Extensions`, and it can be parsed
/// from one.
///
/// ```
/// use quelea_core::deflate::{Offer, WindowBits};
/// let offer: Offer = "permessage-deflate; client_max_window_bits".parse()?;
/// assert_eq!(offer.client_max_window_bits, Some(WindowBits::MAX));
/// # Ok::<(), quelea_core::deflate::InvalidOffer>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Offer {
    /// The server is to compress each message by itself.
    pub server_no_context_takeover: bool,
    /// The client will compress each message by itself, whatever the answer says (section 7.1.1.2).
    pub client_no_context_takeover: bool,
    /// The server is to use no larger window.
    pub server_max_window_bits: Option<WindowBits>,
    /// The server may limit the client's window. Below [`WindowBits::MAX`], the client will use no larger one than
    /// this, whatever the answer says (section 7.1.2.2).
    pub client_max_window_bits: Option<WindowBits>,
}

/// The text offers no permessage-deflate that a client of ours could keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidOffer;

impl fmt::Display for InvalidOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an offer is permessage-deflate with, each at most once, server_no_context_takeover, \
             client_no_context_takeover, server_max_window_bits=9 to 15, and client_max_window_bits \
             (=9 to 15)",
        )
    }
}

impl std::error::Error for InvalidOffer {}

impl FromStr for Offer {
    type Err = InvalidOffer;

    /// Reads one element of `Sec-WebSocket-Extensions`. A window of 8 bits, which the RFC allows, is none that can
    /// be kept to ([`WindowBits`]).
    fn from_str(text: &str) -> Result<Self, InvalidOffer> {
        let mut elements = extensions(std::iter::once(text.as_bytes()));
        let (Some(Ok(extension)), None) = (elements.next(), elements.next()) else {
            return Err(InvalidOffer);
        };
        Raw::read(&extension).and_then(Raw::into_offer).ok_or(InvalidOffer)
    }
}

/// What was agreed on (section 7.1). Shown, it is the element of `Sec-WebSocket-Extensions` that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Parameters {
    /// The server compresses each message by itself.
    pub server_no_context_takeover: bool,
    /// The client compresses each message by itself.
    pub client_no_context_takeover: bool,
    /// The server's window: of 32 KiB, if this is `None`.
    pub server_max_window_bits: Option<WindowBits>,
    /// The client's window: of 32 KiB, if this is `None`.
    pub client_max_window_bits: Option<WindowBits>,
}

/// One direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreement {
    pub(crate) window_bits: WindowBits,
    pub(crate) takeover: bool,
}

impl Policy {
    /// What a client with this policy offers, the best first: nothing with [`Policy::Off`].
    pub fn offers(self) -> Vec<Offer> {
        let limit_client = Some(WindowBits::MAX);
        let each_by_itself = Offer {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            client_max_window_bits: limit_client,
            ..Offer::default()
        };
        match self {
            Self::Off => Vec::new(),
            Self::Shared => vec![each_by_itself],
            Self::Takeover { window_bits, .. } => vec![
                Offer {
                    server_max_window_bits: Some(window_bits)
                        .filter(|bits| *bits < WindowBits::MAX),
                    client_max_window_bits: limit_client,
                    ..Offer::default()
                },
                // For servers that cannot limit their window (section 7.1.2.1).
                Offer { client_no_context_takeover: false, ..each_by_itself },
            ],
        }
    }
}

impl Parameters {
    /// The parameters of an answer, with each as it may stand in one.
    ///
    /// `None` if one is unknown, repeated, or has a value that it must not have (section 7.1).
    pub(crate) fn from_answer(extension: &Extension<'_>) -> Option<Self> {
        let raw = Raw::read(extension)?;
        let bits = |bits: Option<Option<u8>>| match bits {
            None => Some(None),
            // 8 would be allowed, but could not be kept.
            Some(value) => WindowBits::new(value?).map(Some),
        };
        let server_max_window_bits = match raw.server_max_window_bits {
            // A server that keeps to less than we can say is understood as well.
            Some(8) => Some(WindowBits::MIN),
            value => bits(value.map(Some))?,
        };
        Some(Self {
            server_no_context_takeover: raw.server_no_context_takeover,
            client_no_context_takeover: raw.client_no_context_takeover,
            server_max_window_bits,
            client_max_window_bits: bits(raw.client_max_window_bits)?,
        })
    }

    /// What an answer with these parameters agrees on; `None` if it fits none of the offers.
    ///
    /// A server may rely on what an offer says of the client, without a word of it in its answer. It does not
    /// tell which offer it took: so all that it may have taken are kept to.
    pub(crate) fn of_offers(self, offers: &[Offer]) -> Option<Self> {
        let mut agreed = None;
        for offer in offers.iter().filter(|offer| self.accept(offer)) {
            let agreed = agreed.get_or_insert(self);
            agreed.client_no_context_takeover |= offer.client_no_context_takeover;
            if let Some(bits) = offer.client_max_window_bits.filter(|bits| *bits < WindowBits::MAX)
            {
                let answered = agreed.client_max_window_bits.unwrap_or(WindowBits::MAX);
                agreed.client_max_window_bits = Some(answered.min(bits));
            }
        }
        agreed
    }

    /// Whether they answer an offer: no parameter that it does not allow, none missing that it demands
    /// (sections 7.1.1 and 7.1.2).
    fn accept(&self, offer: &Offer) -> bool {
        let server_keeps_window = match (offer.server_max_window_bits, self.server_max_window_bits)
        {
            (Some(offered), Some(answered)) => answered <= offered,
            (Some(_), None) => false,
            (None, _) => true,
        };
        let client_window_is_ours =
            match (offer.client_max_window_bits, self.client_max_window_bits) {
                (Some(offered), Some(answered)) => answered <= offered,
                (None, Some(_)) => false,
                (_, None) => true,
            };
        (self.server_no_context_takeover || !offer.server_no_context_takeover)
            && server_keeps_window
            && client_window_is_ours
    }

    /// What `role` sends, and what it receives.
    pub(crate) fn directions(&self, role: Role) -> (Agreement, Agreement) {
        let server = Agreement {
            window_bits: self.server_max_window_bits.unwrap_or(WindowBits::MAX),
            takeover: !self.server_no_context_takeover,
        };
        let client = Agreement {
            window_bits: self.client_max_window_bits.unwrap_or(WindowBits::MAX),
            takeover: !self.client_no_context_takeover,
        };
        match role {
            Role::Server => (server, client),
            Role::Client => (client, server),
        }
    }
}

/// The answer of a server with this policy to the offers that came, the first that it can keep to
/// (section 5.1); `has_room` tells whether a window of such a size can be kept for what the client sends.
///
/// Other extensions, and offers with a parameter that is unknown, repeated, or has a value that it must not
/// have, are declined (section 7.1): the next offer may do.
pub(crate) fn agree<'a>(
    policy: Policy,
    offers: impl Iterator<Item = Extension<'a>>,
    has_room: impl Fn(WindowBits) -> bool,
) -> Option<Parameters> {
    let own_bits = match policy {
        Policy::Off => return None,
        Policy::Shared => None,
        Policy::Takeover { window_bits, .. } => Some(window_bits),
    };
    offers
        .filter(|offer| offer.name == NAME.as_bytes())
        .find_map(|offer| answer(own_bits, &Raw::read(&offer)?, &has_room))
}

fn answer(
    takeover: Option<WindowBits>,
    offer: &Raw,
    has_room: impl Fn(WindowBits) -> bool,
) -> Option<Parameters> {
    let asked = match offer.server_max_window_bits {
        Some(bits) => Some(WindowBits::new(bits)?),
        None => None,
    };
    let Some(own) = takeover else {
        return Some(Parameters {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: asked,
            client_max_window_bits: None,
        });
    };
    let is_limit = |bits: &WindowBits| *bits < WindowBits::MAX;
    // What the client's window is limited to. It says what it allows; without a value that is anything. A limit
    // of 8 cannot be answered, so its window is not known to be smaller than the largest.
    let client = match offer.client_max_window_bits {
        Some(allowed) => WindowBits::new(allowed.unwrap_or(15)).map(|allowed| allowed.min(own)),
        None => Some(own).filter(|own| !is_limit(own)),
    };
    let client = client.filter(|bits| !offer.client_no_context_takeover && has_room(*bits));
    Some(Parameters {
        server_no_context_takeover: offer.server_no_context_takeover,
        client_no_context_takeover: client.is_none(),
        server_max_window_bits: match asked {
            Some(asked) => Some(asked.min(own)),
            None => Some(own).filter(is_limit),
        },
        client_max_window_bits: client.filter(is_limit),
    })
}

/// The parameters as they came, with any window that the RFC allows.
#[derive(Debug, Default)]
struct Raw {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// Without a value, in an offer, it says only that the client knows the parameter (section 7.1.2.2).
    client_max_window_bits: Option<Option<u8>>,
}

impl Raw {
    /// `None` for what makes an offer one to decline, and an answer one to fail on (section 7.1).
    fn read(extension: &Extension<'_>) -> Option<Self> {
        if extension.name != NAME.as_bytes() {
            return None;
        }
        let mut raw = Self::default();
        for Parameter { name, value } in extension.parameters() {
            let is_new = match (name, value) {
                (b"server_no_context_takeover", None) => {
                    !std::mem::replace(&mut raw.server_no_context_takeover, true)
                }
                (b"client_no_context_takeover", None) => {
                    !std::mem::replace(&mut raw.client_no_context_takeover, true)
                }
                (b"server_max_window_bits", Some(value)) => {
                    raw.server_max_window_bits.replace(window_bits(value)?).is_none()
                }
                (b"client_max_window_bits", None) => {
                    raw.client_max_window_bits.replace(None).is_none()
                }
                (b"client_max_window_bits", Some(value)) => {
                    raw.client_max_window_bits.replace(Some(window_bits(value)?)).is_none()
                }
                _ => return None,
            };
            if !is_new {
                return None;
            }
        }
        Some(raw)
    }

    /// `None` if a window is one of 8 bits.
    fn into_offer(self) -> Option<Offer> {
        let bits =
            |bits: Option<u8>| bits.map_or(Some(None), |bits| WindowBits::new(bits).map(Some));
        let allowed = self.client_max_window_bits.map(|bits| bits.unwrap_or(WindowBits::MAX.get()));
        Some(Offer {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: bits(self.server_max_window_bits)?,
            client_max_window_bits: bits(allowed)?,
        })
    }
}

/// 8 to 15 in decimal, without leading zeros (section 7.1.2).
fn window_bits(value: Value<'_>) -> Option<u8> {
    let mut digits = value.bytes();
    match (digits.next()?, digits.next(), digits.next()) {
        (digit @ (b'8' | b'9'), None, _) => Some(digit - b'0'),
        (b'1', Some(digit @ b'0'..=b'5'), None) => Some(10 + digit - b'0'),
        _ => None,
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server_no_context_takeover, client_no_context_takeover, .. } = *self;
        write_flags(f, server_no_context_takeover, client_no_context_takeover)?;
        if let Some(bits) = self.server_max_window_bits {
            write!(f, "; server_max_window_bits={}", bits.get())?;
        }
        match self.client_max_window_bits {
            // Without a value the server may choose, and some understand nothing else.
            Some(WindowBits::MAX) => f.write_str("; client_max_window_bits"),
            Some(bits) => write!(f, "; client_max_window_bits={}", bits.get()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server_no_context_takeover, client_no_context_takeover, .. } = *self;
        write_flags(f, server_no_context_takeover, client_no_context_takeover)?;
        for (name, bits) in
            [("server", self.server_max_window_bits), ("client", self.client_max_window_bits)]
        {
            if let Some(bits) = bits {
                write!(f, "; {name}_max_window_bits={}", bits.get())?;
            }
        }
        Ok(())
    }
}

fn write_flags(f: &mut fmt::Formatter<'_>, server: bool, client: bool) -> fmt::Result {
    f.write_str(NAME)?;
    for (name, is_set) in [("server", server), ("client", client)] {
        if is_set {
            write!(f, "; {name}_no_context_takeover")?;
        }
    }
    Ok(())
}
