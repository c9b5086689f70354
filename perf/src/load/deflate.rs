//! Compression (RFC 7692) as a client offers it, and what servers make of that.

use super::End;
use clap::Args;
use quelea_core::deflate::{Offer, Policy, Settings, WindowBits};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Messages are compressed as browsers do it. Those of a run are compressed once, so it costs nothing.
const LEVEL: u8 = 6;

/// Whether to offer compression.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deflate {
    /// Offers compression (permessage-deflate), and fails if the server declines: `shared` is each message
    /// by itself both ways, `takeover` what browsers offer; or parameters, such as
    /// 'server_no_context_takeover; client_max_window_bits=12'. What is sent is compressed once, and never
    /// refers to an earlier message, which is right whatever is agreed on.
    #[arg(long = "deflate", value_name = "OFFER", default_value_t)]
    #[serde(rename = "deflate")]
    pub(crate) offered: Offered,
    /// Goes on without compression if the server declines it.
    #[arg(long)]
    pub(crate) deflate_optional: bool,
}

impl Deflate {
    /// The server agreed on nothing.
    ///
    /// # Errors
    /// Something was offered, and it has to agree.
    pub(crate) fn check_declined(&self) -> Result<(), String> {
        let is_right = self.deflate_optional || self.offered.offers().is_empty();
        if is_right { Ok(()) } else { Err(End::DeflateDeclined.to_string()) }
    }
}

/// What is offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Offered(Option<Offer>);

impl Offered {
    /// Nothing, or one offer.
    pub(crate) const fn offers(&self) -> &[Offer] {
        self.0.as_slice()
    }
}

impl FromStr for Offered {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "off" => None,
            "shared" => Policy::Shared.offers().pop(),
            "takeover" => {
                Some(Offer { client_max_window_bits: Some(WindowBits::MAX), ..Offer::default() })
            }
            parameters => Some(parse(parameters)?),
        }))
    }
}

/// Parameters as they stand in a request, with or without the name of the extension.
fn parse(text: &str) -> Result<Offer, String> {
    let offer = match text.starts_with("permessage-deflate") {
        true => text.parse(),
        false => format!("permessage-deflate; {text}").parse(),
    };
    offer.map_err(|error| format!("expected off, shared, takeover, or parameters: {error}"))
}

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("off"),
            Some(offer) => offer.fmt(f),
        }
    }
}

impl From<Offered> for String {
    fn from(offered: Offered) -> Self {
        offered.to_string()
    }
}

/// How one process tells another.
impl TryFrom<String> for Offered {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// How clients compress: each message by itself, whatever is agreed on. What servers refer to is kept all the
/// same.
pub(crate) const fn settings() -> Settings {
    Settings { level: LEVEL, ..Settings::new(Policy::Shared) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_a_word_or_parameters_as_they_stand_in_a_request() {
        let offer = |text: &str| text.parse::<Offered>().unwrap();
        assert_eq!(offer("off").offers(), []);
        let shared = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                      client_max_window_bits";
        assert_eq!(offer("shared").to_string(), shared);
        let browsers = "permessage-deflate; client_max_window_bits";
        assert_eq!(offer("takeover").to_string(), browsers);
        for text in ["permessage-deflate", "server_max_window_bits=9;client_max_window_bits=12"] {
            let offered = offer(text);
            assert_eq!(offer(&offered.to_string()), offered, "{text}");
            let json = serde_json::to_string(&offered).unwrap();
            assert_eq!(serde_json::from_str::<Offered>(&json).unwrap(), offered, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_offered_is_refused() {
        for text in [
            "",
            "on",
            "server_max_window_bits",
            "server_max_window_bits=8",
            "client_max_window_bits=16",
            "server_no_context_takeover=1",
            "shared; client_max_window_bits",
        ] {
            assert!(text.parse::<Offered>().is_err(), "{text}");
        }
    }
}
