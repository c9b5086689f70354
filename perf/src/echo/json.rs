//! JSON as services send it, with values that differ: what compresses as real messages do.

use fastrand::Rng;
use std::fmt::Write;

const USERS: [&str; 16] = [
    "alice.meyer",
    "bob.tanaka",
    "carla.rossi",
    "dmitri.volkov",
    "eva.lindqvist",
    "farid.haddad",
    "grace.okafor",
    "hiro.sato",
    "ines.costa",
    "jonas.weber",
    "kim.nguyen",
    "lea.dubois",
    "mateo.garcia",
    "nora.jensen",
    "omar.farouk",
    "priya.nair",
];
const SYMBOLS: [&str; 12] = [
    "AAPL", "AMZN", "BTC-EUR", "ETH-USD", "EURUSD", "GBPUSD", "GOOG", "MSFT", "NVDA", "TSLA",
    "USDJPY", "XAU",
];
const STATES: [&str; 5] = ["new", "open", "partly filled", "filled", "cancelled"];
const WORDS: [&str; 32] = [
    "please", "the", "order", "was", "moved", "after", "market", "close", "by", "desk", "client",
    "asked", "for", "a", "better", "price", "than", "limit", "retry", "tomorrow", "before", "noon",
    "no", "further", "fills", "expected", "check", "margin", "and", "report", "back", "today",
];
/// No order is longer.
const ORDER_BYTES_MAX: usize = 260;
/// The first millisecond of 2026.
const EPOCH: u64 = 1_767_225_600_000;

/// Exactly so many bytes of JSON, the same for the same seed: an object with a list of orders, each with an id, a
/// time, a name, a symbol, a price, a quantity, a state and a remark of three to eight words; what is left is filled
/// with words. Short ones are one string of words, a digit, or nothing.
pub(super) fn json(size: usize, seed: u64) -> Vec<u8> {
    let mut random = Rng::with_seed(seed);
    let mut text = String::with_capacity(size);
    let end = "],\"note\":\"";
    let head = head(&mut random);
    // The digits of the end are its quotation mark and bracket.
    if head.len() + end.len() + 2 > size {
        return short(size, &mut random);
    }
    text += &head;
    let mut is_first = true;
    while text.len() + ORDER_BYTES_MAX + end.len() + 2 <= size {
        if !std::mem::take(&mut is_first) {
            text.push(',');
        }
        order(&mut random, &mut text);
    }
    text += end;
    fill(&mut text, size - 2, &mut random);
    text += "\"}";
    text.into_bytes()
}

fn head(random: &mut Rng) -> String {
    let (sequence, time) = (random.u32(1_000_000..), EPOCH + random.u64(0..31_536_000_000));
    format!("{{\"type\":\"orders\",\"sequence\":{sequence},\"time\":{time},\"orders\":[")
}

fn order(random: &mut Rng, text: &mut String) {
    let pick = |random: &mut Rng, from: &[&'static str]| from[random.usize(..from.len())];
    let (id, time) = (random.u64(..), EPOCH + random.u64(0..31_536_000_000));
    let (user, symbol) = (pick(random, &USERS), pick(random, &SYMBOLS));
    let side = if random.bool() { "buy" } else { "sell" };
    let (whole, cents) = (random.u32(1..5000), random.u32(0..100));
    let (quantity, state) = (random.u32(1..10_000), pick(random, &STATES));
    // To write to a string does not fail.
    let _ = write!(
        text,
        "{{\"id\":\"{id:016x}\",\"time\":{time},\"user\":\"{user}\",\"symbol\":\"{symbol}\",\
         \"side\":\"{side}\",\"price\":{whole}.{cents:02},\"quantity\":{quantity},\
         \"state\":\"{state}\",\"remark\":\""
    );
    for number in 0..random.usize(3..=8) {
        text.push_str(if number > 0 { " " } else { "" });
        text.push_str(pick(random, &WORDS));
    }
    text.push_str("\"}");
}

/// Words, and spaces where none fits, up to so many bytes.
fn fill(text: &mut String, len: usize, random: &mut Rng) {
    while text.len() < len {
        let word = WORDS[random.usize(..WORDS.len())];
        match text.len() + word.len() < len {
            true => text.push_str(word),
            false => text.extend(std::iter::repeat_n('.', len - 1 - text.len())),
        }
        text.push(' ');
    }
}

fn short(size: usize, random: &mut Rng) -> Vec<u8> {
    let mut text = String::with_capacity(size);
    match size {
        0 => {}
        1 => text.push('7'),
        _ => {
            text.push('"');
            fill(&mut text, size - 1, random);
            text.push('"');
        }
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_size_but_none_is_json_and_differs_by_seed() {
        for size in (1..600).chain([1024, 16 << 10, 100_000]) {
            for seed in 0..3 {
                let text = json(size, seed);
                assert_eq!(text.len(), size);
                let value: Result<serde_json::Value, _> = serde_json::from_slice(&text);
                assert!(value.is_ok(), "{size} {}", String::from_utf8_lossy(&text));
                assert_eq!(text, json(size, seed));
            }
            assert!(size < 100 || json(size, 1) != json(size, 2), "{size}");
        }
    }

    #[test]
    fn a_kibibyte_has_several_orders_and_none_is_longer_than_there_is_room_for() {
        let value: serde_json::Value = serde_json::from_slice(&json(1024, 7)).unwrap();
        assert!(value["orders"].as_array().unwrap().len() >= 3, "{value}");
        let mut random = Rng::with_seed(7);
        for _ in 0..1000 {
            let mut text = String::new();
            order(&mut random, &mut text);
            assert!(text.len() < ORDER_BYTES_MAX, "{text}");
        }
    }
}
