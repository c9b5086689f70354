//! What the timers of a million connections cost: a wheel on a clock that is made up, with a ping
//! round every 30 s.
//!
//! `cargo bench -p quelea --bench wheel`. The runs are the same each time, so a tick's time
//! is the median of them, and the longest tick is the longest of those: what else the machine does
//! is not counted.

// The wheel is no part of the public interface: the bench takes its source, with its tests unused.
#[allow(
    dead_code,
    unused_imports,
    unfulfilled_lint_expectations,
    reason = "the bench needs part of it"
)]
#[path = "../src/parts/slots.rs"]
mod slots;
#[allow(
    dead_code,
    unused_imports,
    unfulfilled_lint_expectations,
    reason = "the bench needs part of it"
)]
#[path = "../src/parts/timer.rs"]
mod timer;

use std::{
    fs,
    time::{Duration, Instant},
};
use timer::{TICK, Wheel};

const CONNECTIONS: usize = 1_000_000;
const INTERVAL: Duration = Duration::from_secs(30);
/// The time that is simulated, after all are armed.
const SPAN: Duration = Duration::from_secs(60);
const RUNS: usize = 5;

/// How the connections came, and what they do.
#[derive(Clone, Copy)]
enum Load {
    /// Their deadlines are spread over the interval, and they say nothing.
    Spread,
    /// They came at 60,000 a second, as fast as a core accepts them, and say nothing.
    Rush,
    /// Spread, and half of them said something at some time before: their timers only move.
    Talking,
}

/// A number that looks random, from another.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 20
}

/// The time of each tick, the CPU time of all, and how many timers were due.
fn run(load: Load) -> (Vec<Duration>, Duration, u64) {
    let start = now();
    let mut wheel = Wheel::new(start);
    // The order in which connections come has nothing to do with where they lie.
    for slot in 0..CONNECTIONS {
        let at = match load {
            Load::Spread | Load::Talking => mix(slot as u64) % INTERVAL.as_millis() as u64,
            Load::Rush => slot as u64 / 60,
        };
        wheel.arm(slot, start + INTERVAL + Duration::from_millis(at));
    }
    let mut ticks = Vec::new();
    let mut count = 0;
    let cpu = cpu_time();
    let mut at = start + INTERVAL;
    while at < start + INTERVAL + SPAN {
        at += TICK;
        let before = now();
        wheel.set_now(at);
        while let Some(slot) = wheel.expired(at) {
            count += 1;
            let silence = match load {
                Load::Talking if slot % 2 == 0 => mix(slot as u64 + count) % 30_000,
                _ => 0,
            };
            wheel.arm(slot, at + INTERVAL - Duration::from_millis(silence / 2));
        }
        ticks.push(before.elapsed());
    }
    (ticks, cpu_time() - cpu, count)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("a Linux with schedstat");
    let nanoseconds = stat.split_whitespace().next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the CPU time comes first"))
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}

fn main() {
    println!(
        "{CONNECTIONS} timers, a round every {INTERVAL:?}, a tick every {TICK:?}, {RUNS} runs"
    );
    println!("load     due a second  CPU a second  a timer  median tick  longest tick");
    for (name, load) in [("spread", Load::Spread), ("rush", Load::Rush), ("talking", Load::Talking)]
    {
        let runs: Vec<_> = (0..RUNS).map(|_| run(load)).collect();
        let ticks: Vec<_> = (0..runs[0].0.len())
            .map(|at| median(runs.iter().map(|(ticks, ..)| ticks[at]).collect()))
            .collect();
        let cpu = median(runs.iter().map(|(_, cpu, _)| *cpu).collect());
        let count = runs[0].2;
        println!(
            "{name:<8} {:>12.0}  {:>9.2} ms  {:>4.0} ns  {:>8.1} us  {:>9.1} us",
            count as f64 / SPAN.as_secs_f64(),
            cpu.as_secs_f64() * 1e3 / SPAN.as_secs_f64(),
            cpu.as_nanos() as f64 / count as f64,
            median(ticks.clone()).as_nanos() as f64 / 1e3,
            ticks.iter().max().map_or(0.0, |longest| longest.as_nanos() as f64 / 1e3),
        );
    }
}
