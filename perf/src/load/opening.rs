//! The opening handshake of one client.

use super::{end::End, settings::Settings, stats::Stats, time::Time};
use quelea_core::{
    deflate::Parameters,
    handshake::{ClientHandshakeError, ClientRequest},
    http::{Fields, Response},
};
use std::time::Duration;

/// The longest answer to a handshake that is waited for.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What a client needs until it is open.
#[derive(Debug)]
pub(super) struct Opening {
    nonce: [u8; 16],
    head: Vec<u8>,
    pub(super) begun: Time,
    pub(super) connected: Option<Time>,
}

/// A handshake that was accepted.
pub(super) struct Answer {
    /// The compression that was agreed on.
    pub(super) agreed: Option<Parameters>,
    /// What came behind it.
    pub(super) rest: Vec<u8>,
}

impl Opening {
    pub(super) const fn new(nonce: [u8; 16], begun: Time) -> Self {
        Self { nonce, head: Vec::new(), begun, connected: None }
    }

    /// The connection stands.
    pub(super) fn connect_at(&mut self, now: Time, stats: &mut Stats) {
        if self.connected.is_none() {
            self.connected = Some(now);
            stats.connect.saturating_record(now.since(self.begun));
        }
    }

    /// Appends the request.
    pub(super) fn write_request(
        &self,
        settings: &Settings,
        path: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        let request = ClientRequest::new(&settings.target.host, path, &self.nonce);
        let subprotocol = settings.subprotocol.as_deref();
        let request = request.subprotocols(subprotocol.as_slice());
        let request = request.deflate(settings.deflate.offered.offers());
        request.write(out).map_err(|error| End::UpgradeHead(error.to_string()))
    }

    /// Takes bytes of the answer; tells it once it is whole.
    pub(super) fn receive(
        &mut self,
        settings: &Settings,
        bytes: &[u8],
    ) -> Result<Option<Answer>, End> {
        self.head.extend_from_slice(bytes);
        let mut fields = Fields::new();
        let parsed = Response::parse(&self.head, &mut fields)
            .map_err(|error| End::UpgradeHead(error.to_string()))?;
        let Some((response, len)) = parsed else {
            let is_too_long = self.head.len() > HEAD_BYTES_MAX;
            let end = || End::UpgradeHead(format!("it is longer than {HEAD_BYTES_MAX} bytes"));
            return if is_too_long { Err(end()) } else { Ok(None) };
        };
        let target = &settings.target;
        let request = ClientRequest::new(&target.host, &target.path, &self.nonce);
        let subprotocol = settings.subprotocol.as_deref();
        let request = request.subprotocols(subprotocol.as_slice());
        let request = request.deflate(settings.deflate.offered.offers());
        request.check_response(&response).map_err(|error| match error {
            ClientHandshakeError::Status(status) => {
                End::Refused { status, retry_after: retry_after(&response) }
            }
            error => End::Upgrade(error),
        })?;
        let agreed = request.check_deflate(&response).map_err(End::Upgrade)?;
        if agreed.is_none() {
            settings.deflate.check_declined().map_err(|_| End::DeflateDeclined)?;
        }
        Ok(Some(Answer { agreed, rest: self.head.split_off(len) }))
    }
}

/// How long the server wants to be left alone; `None` if it does not say, or says it as a date.
fn retry_after(response: &Response<'_>) -> Option<Duration> {
    let seconds: u32 = response.header("Retry-After")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}
