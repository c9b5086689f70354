//! What the benches share. `cargo bench -p quelea-benches` runs all of them.

use criterion::Criterion;
use std::time::Duration;

/// The payloads of a bench of frames, in bytes.
pub const PAYLOADS: [usize; 3] = [20, 1 << 10, 64 << 10];

/// Short runs: this is to compare rows of one run with each other.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args()
}

/// `count` text frames as a client sends them, one after the other.
pub fn masked_frames(payload: usize, count: usize) -> Vec<u8> {
    use quelea_core::{Connection, Context, Limits, Message, Role};
    let text: String = (0..payload).map(|index| char::from(b'a' + (index % 26) as u8)).collect();
    let mut context = Context::new(Limits::default(), [1; 32]);
    let mut client = Connection::new(Role::Client);
    let mut bytes = Vec::new();
    for _ in 0..count {
        client.send(Message::Text(&text), &mut context, &mut bytes).expect("it is open");
    }
    bytes
}

/// How many frames of a payload make a batch of about 64 KiB.
pub const fn batch(payload: usize) -> usize {
    match (64 << 10) / (payload + 14) {
        0 => 1,
        count => count,
    }
}
