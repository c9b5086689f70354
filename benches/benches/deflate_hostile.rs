//! What compressed messages cost their receiver that are made to cost much. After each row stands how many bytes
//! of it are on the wire, how many it inflates to, and how many of these its receiver takes.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quelea_core::{
    Connection, Context, Event, Limits, Message, Received, Role,
    deflate::{Parameters, Policy, Settings, WindowBits},
};
use std::hint::black_box;

const ALONE: Parameters = Parameters {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: None,
    client_max_window_bits: None,
};
const TAKEOVER: Policy = Policy::Takeover { window_bits: WindowBits::MAX, budget_bytes: 64 << 20 };
const LIMIT: usize = 1 << 20;

/// Begins a block in which each 0 bit is a half of a match of 258 zeros: each byte of zeros stands for 1032.
const ZEROS_BEGIN: &[u8] = b"\xec\xe0\x81\x00\x00\x00\x00\x80\x20\xec\x4f\xbd\x48\x05";
/// Begins a block in which each 0 bit is a zero.
const LITERALS_BEGIN: &[u8] = b"\x04\xe0\x81\x00\x00\x00\x00\x80\x20\xb4\xbf\xf4\x01";
/// Ends one of these blocks, and the message.
const END: &[u8] = b"\x03";
/// Blocks of no bytes with codes of their own: the shortest, one that needs large tables, and two of them.
const EMPTY_BY_CODES: [&[u8]; 3] = [
    b"\x04\xc0\x81\x00\x00\x00\x00\x00\x90\xff\x6b\x08\x20\x80\x00",
    b"\x04\xe0\x01\x82\x24\x49\x92\xe4\xd8\xde\xff\xb8\x20\x16\x35\x8f\xac\x9e\xfd\xff\x3d",
    b"\x04\xee\x01\x82\x24\x49\x92\x64\x3b\xde\xff\xb8\x8f\x58\xd4\x3c\xb2\x7a\xfe\x2e\xf0\x88\x45\xcd\x23\xab\xe7\x7f",
];
const EMPTY_STORED: &[u8] = b"\x00\x00\x00\xff\xff";
const EMPTY_LAST: &[u8] = b"\x03\x00";

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = match payload.len() {
        len @ ..126 => vec![first, 0x80 | len as u8],
        len @ ..=0xffff => vec![first, 0xfe, (len >> 8) as u8, len as u8],
        len => [&[first, 0xff][..], &(len as u64).to_be_bytes()].concat(),
    };
    // A mask of zeros costs as much to take off as any other.
    bytes.extend([0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

/// Bytes of these bits, the first the lowest.
fn packed(bits: &str) -> Vec<u8> {
    let byte = |bits: &[u8]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | (bit - b'0'));
    bits.as_bytes().chunks(8).map(byte).collect()
}

/// A message of so many zeros and a few hundred, by as few bytes as can be.
fn zeros(len: usize) -> Vec<u8> {
    [ZEROS_BEGIN, &vec![0; (len - 517) / 1032], END].concat()
}

/// Matches of three bytes, each as far back as can be.
fn far(count: usize) -> Vec<u8> {
    let fixed = "010";
    let far = "0000001".to_owned() + "11101" + &"1".repeat(13);
    let begin = [zeros(40_000), EMPTY_STORED[1..].to_vec()].concat();
    [begin, packed(&(fixed.to_owned() + &far.repeat(count) + "0000000" + "000"))].concat()
}

/// By a real compressor, as well as it can.
fn compressed(text: &str) -> Vec<u8> {
    let settings = Settings { level: 9, ..Settings::new(Policy::Shared) };
    let mut context = Context::new(Limits::default(), [0; 32]).with_deflate(settings);
    let mut frame = Vec::new();
    assert!(context.append_compressed(Message::Text(text), WindowBits::MAX, &mut frame));
    frame.split_off(if frame[1] == 126 { 4 } else { 2 })
}

/// What came of a message, and that nothing is left of it.
enum End {
    Message(usize),
    Failed,
}

struct Receiver {
    connection: Connection,
    context: Context,
    out: Vec<u8>,
}

impl Receiver {
    fn new(policy: Policy) -> Self {
        let limits = Limits { message_bytes_max: LIMIT, ..Limits::default() };
        let context = Context::new(limits, [0; 32]).with_deflate(Settings::new(policy));
        Self { connection: Connection::new(Role::Server), context, out: Vec::new() }
    }

    fn open(&mut self, parameters: &Parameters) {
        self.connection = Connection::with_deflate(Role::Server, parameters, &self.context);
    }

    fn receive(&mut self, input: &mut [u8]) -> Option<End> {
        let mut received = Received::new(input);
        let mut end = None;
        self.out.clear();
        loop {
            match self.connection.poll_event(&mut received, &mut self.context, &mut self.out) {
                Ok(Some(Event::Message(message))) => {
                    end = Some(End::Message(black_box(message).as_bytes().len()));
                }
                Ok(Some(_)) => {}
                Ok(None) => return end,
                Err(_) => return Some(End::Failed),
            }
        }
    }
}

/// One message on a new connection: `chunk` bytes at once.
fn alone(criterion: &mut Criterion, name: &str, wire: &[u8], chunk: usize, inflated: usize) {
    let mut receiver = Receiver::new(Policy::Shared);
    let mut input = Vec::new();
    let mut taken = None;
    let mut group = criterion.benchmark_group("deflate/hostile");
    group.throughput(Throughput::Bytes(wire.len() as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            receiver.open(&ALONE);
            input.clear();
            input.extend_from_slice(wire);
            taken = input.chunks_mut(chunk).find_map(|chunk| receiver.receive(chunk));
        });
    });
    group.finish();
    let taken = match taken {
        Some(End::Message(len)) => format!("{len} B"),
        Some(End::Failed) => "refused".to_owned(),
        None => "unfinished".to_owned(),
    };
    println!("{name}: {} B on the wire, inflates to {inflated} B, {taken}", wire.len());
}

fn messages(criterion: &mut Criterion) {
    let whole = |payload: &[u8]| frame(0xc2, payload);
    let full = zeros(LIMIT - 600);
    let euros = compressed(&"€".repeat(LIMIT / 3));
    let bomb = zeros(400 << 20);
    let all = usize::MAX;
    alone(criterion, "zeros, up to the limit", &whole(&full), all, LIMIT - 600);
    alone(
        criterion,
        "text of three bytes, up to the limit",
        &frame(0xc1, &euros),
        all,
        LIMIT / 3 * 3,
    );
    alone(criterion, "zeros, 400 times the limit", &whole(&bomb), all, 400 << 20);
    let cut = bomb
        .chunks(1000)
        .enumerate()
        .flat_map(|(index, piece)| frame(if index == 0 { 0x42 } else { 0x00 }, piece));
    alone(
        criterion,
        "the same in fragments of 1000 B",
        &cut.collect::<Vec<_>>(),
        16 << 10,
        400 << 20,
    );
    let literals = [LITERALS_BEGIN, &[0; 100_000], END].concat();
    alone(criterion, "zeros, a bit each", &whole(&literals), all, 800_006);
    alone(criterion, "three bytes at 32 KiB, again and again", &whole(&far(100_000)), all, 339_000);
    let nothing = |block: &[u8]| whole(&[&block.repeat(LIMIT / block.len())[..], b"\x00"].concat());
    for chunk in [all, 16 << 10, 1] {
        let how = match chunk {
            1 => ", a byte at a time",
            _ if chunk == all => "",
            _ => ", 16 KiB at a time",
        };
        let name = format!("empty stored blocks{how}");
        alone(criterion, &name, &nothing(EMPTY_STORED), chunk, 0);
        for block in EMPTY_BY_CODES {
            let name = format!("empty blocks by codes of {} B{how}", block.len());
            alone(criterion, &name, &nothing(block), chunk, 0);
        }
    }
    let last = [&zeros(33_000)[..], &EMPTY_STORED[1..], &EMPTY_LAST.repeat(255), b"\x00"].concat();
    alone(criterion, "255 last blocks behind 32 KiB", &whole(&last), all, 33_000);
    let fragments = Limits::default().fragments_max as usize;
    let first = frame(0x42, &zeros(200_000)[..180]);
    let empty = frame(0x00, b"").repeat(fragments - 2);
    let fragments = [first, empty, frame(0x80, END)].concat();
    alone(criterion, "empty fragments, as many as may be", &fragments, 16 << 10, 0);
}

/// Short messages behind full windows, each of which is needed again.
fn short(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deflate/hostile");
    for (name, count) in
        [("a byte, behind 32 KiB", 1), ("the same, 1000 connections in turn", 1000)]
    {
        let mut receiver = Receiver::new(TAKEOVER);
        let parameters = Parameters::default();
        let fill = frame(0xc2, &zeros(33_000));
        let mut connections = Vec::new();
        for _ in 0..count {
            receiver.open(&parameters);
            assert!(matches!(receiver.receive(&mut fill.clone()), Some(End::Message(_))));
            connections
                .push(std::mem::replace(&mut receiver.connection, Connection::new(Role::Server)));
        }
        // The literal `a`.
        let wire = frame(0xc2, &packed(&["010", "10010001", "0000000", "000"].concat()));
        let (mut input, mut turn) = (Vec::new(), 0);
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                input.clear();
                input.extend_from_slice(&wire);
                turn = (turn + 1) % count;
                std::mem::swap(&mut receiver.connection, &mut connections[turn]);
                assert!(matches!(receiver.receive(&mut input), Some(End::Message(1))));
                std::mem::swap(&mut receiver.connection, &mut connections[turn]);
            });
        });
        println!("{name}: {} B on the wire", wire.len());
    }
    group.finish();
}

/// What comes is sent back, compressed: the least that makes a server compress.
fn echo(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deflate/hostile");
    for (name, policy, parameters, count, len) in [
        ("517 zeros, each by itself", Policy::Shared, ALONE, 1, 517),
        ("517 zeros, with takeover", TAKEOVER, Parameters::default(), 1, 517),
        ("the same, 1000 connections in turn", TAKEOVER, Parameters::default(), 1000, 517),
        ("zeros up to the limit", Policy::Shared, ALONE, 1, LIMIT - 600),
    ] {
        let mut receiver = Receiver::new(policy);
        let fill: Vec<u8> =
            (0..33_000u32).map(|index| ((index * index) >> 7) as u8 & 0x3f).collect();
        let mut connections = Vec::new();
        for _ in 0..count {
            receiver.open(&parameters);
            let Receiver { connection, context, out } = &mut receiver;
            out.clear();
            assert!(connection.send(Message::Binary(&fill), context, out).is_ok());
            connections.push(std::mem::replace(connection, Connection::new(Role::Server)));
        }
        let zeroes = vec![0; len];
        let wire = frame(0xc2, &zeros(len));
        let (mut input, mut turn) = (Vec::new(), 0);
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(format!("echo/{name}"), |bencher| {
            bencher.iter(|| {
                input.clear();
                input.extend_from_slice(&wire);
                turn = (turn + 1) % count;
                let Receiver { connection, context, out } = &mut receiver;
                std::mem::swap(connection, &mut connections[turn]);
                out.clear();
                let mut received = Received::new(&mut input);
                let event = connection.poll_event(&mut received, context, out);
                assert!(matches!(event, Ok(Some(Event::Message(_)))));
                assert_eq!(connection.poll_event(&mut received, context, out), Ok(None));
                let message = Message::Binary(black_box(&zeroes));
                assert!(connection.send(message, context, out).is_ok());
                std::mem::swap(connection, &mut connections[turn]);
            });
        });
        println!("{name}: {} B on the wire, {} B back", wire.len(), receiver.out.len());
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = quelea_benches::criterion();
    targets = messages, short, echo
}
criterion_main!(benches);
