//! Loops for crates whose connection is a `Stream` and a `Sink` of messages.

use crate::{BATCH_MAX, room::Room};
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use std::sync::Arc;

/// Sends all data back. What is ready at once is queued, and flushed together.
pub async fn echo<S, M, E>(mut ws: S, is_data: impl Fn(&M) -> bool) -> Result<(), E>
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
{
    while let Some(message) = ws.next().await {
        let mut message = message?;
        let mut taken = 1;
        loop {
            if is_data(&message) {
                ws.feed(message).await?;
            }
            if taken == BATCH_MAX {
                break;
            }
            message = match ws.next().now_or_never() {
                Some(Some(message)) => message?,
                Some(None) => return Ok(()),
                None => break,
            };
            taken += 1;
        }
        ws.flush().await?;
    }
    Ok(())
}

/// Sends all data to all in the room. What waits for a connection is flushed together.
pub async fn publish<S, M, E>(
    mut ws: S,
    room: Arc<Room<M>>,
    is_data: impl Fn(&M) -> bool,
) -> Result<(), E>
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    M: Clone,
{
    let (_member, mut inbox) = room.join();
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            message = ws.next() => match message {
                Some(message) => {
                    let message = message?;
                    if is_data(&message) {
                        room.publish(&message);
                    }
                }
                None => return Ok(()),
            },
            count = inbox.recv_many(&mut batch, BATCH_MAX) => {
                if count == 0 {
                    return Ok(());
                }
                for message in batch.drain(..) {
                    ws.feed(message).await?;
                }
                ws.flush().await?;
            }
        }
    }
}

/// Whether a frame of a client is there, whole: for crates that can only be asked to wait for the next
/// one, as nothing may stay unflushed while they do.
pub fn whole_frame(buffer: &[u8]) -> bool {
    const MASKING_KEY: usize = 4;
    let payload_len = match buffer {
        [_, second, rest @ ..] => match (second & 0x7f, rest) {
            (126, [a, b, ..]) => 2 + u64::from(u16::from_be_bytes([*a, *b])),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]).saturating_add(8)
            }
            (126 | 127, _) => return false,
            (len, _) => u64::from(len),
        },
        _ => return false,
    };
    (buffer.len() as u64).saturating_sub(2 + MASKING_KEY as u64) >= payload_len
        && buffer.len() >= 2 + MASKING_KEY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_whole_from_its_last_byte_on() {
        for payload_len in [0_usize, 1, 125, 126, 65_535, 65_536] {
            let mut frame = vec![0x82];
            match payload_len {
                0..126 => frame.push(0x80 | payload_len as u8),
                126..65_536 => {
                    frame.push(0x80 | 126);
                    frame.extend_from_slice(&(payload_len as u16).to_be_bytes());
                }
                _ => {
                    frame.push(0x80 | 127);
                    frame.extend_from_slice(&(payload_len as u64).to_be_bytes());
                }
            }
            frame.resize(frame.len() + 4 + payload_len, 0);
            assert!(whole_frame(&frame), "{payload_len}");
            let start = frame.len().saturating_sub(20);
            for end in (0..20.min(frame.len())).chain(start..frame.len()) {
                assert!(!whole_frame(&frame[..end]), "{end} bytes of {payload_len}");
            }
            frame.push(0x82);
            assert!(whole_frame(&frame), "{payload_len} and more");
        }
        let endless = [0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert!(!whole_frame(&endless));
    }
}
