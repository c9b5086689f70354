//! What few connections have, so that it takes one word of the others.

use super::{Connection, ControlPayload};

#[derive(Debug, Default)]
pub(super) struct Rare {
    /// The latest ping that is not answered yet, while pongs are held.
    pong: Option<ControlPayload>,
    /// The windows of compression with context takeover.
    #[cfg(feature = "deflate")]
    pub(super) takeover: Option<crate::deflate::Takeover>,
}

impl Rare {
    #[cfg(feature = "deflate")]
    const fn is_empty(&self) -> bool {
        self.pong.is_none() && self.takeover.is_none()
    }

    #[cfg(not(feature = "deflate"))]
    const fn is_empty(&self) -> bool {
        self.pong.is_none()
    }
}

impl Connection {
    pub(super) fn hold_pong(&mut self, pong: ControlPayload) {
        self.rare.get_or_insert_default().pong = Some(pong);
    }

    #[inline]
    pub(super) fn take_pong(&mut self) -> Option<ControlPayload> {
        let rare = self.rare.as_mut()?;
        let pong = rare.pong.take();
        if rare.is_empty() {
            self.rare = None;
        }
        pong
    }
}
