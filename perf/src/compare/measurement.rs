//! What is measured: a run of another mode of this program, and what of its figures is taken.

use super::{Options, Placement, What};
use crate::{echo::Kind, report::Unit, server::ServerCommand};
use std::net::SocketAddr;

/// Runs of one mode with one set of options, a round of each server.
#[derive(Debug)]
pub(super) struct Measurement {
    pub(super) placement: Placement,
    pub(super) start: Start,
    /// The mode and its options, all but those that depend on the server.
    pub(super) arguments: Vec<String>,
    pub(super) takes: Vec<Take>,
}

/// Who starts the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It runs for all rounds of all measurements of the placement.
    Once,
    /// It is started anew, so that nothing is in its memory yet.
    Anew,
    /// The mode does, and it is the one that publishes.
    ByMode,
}

/// A figure of the run that is a column of the result.
#[derive(Clone, Debug)]
pub(super) struct Take {
    pub(super) table: String,
    pub(super) column: String,
    figure: &'static str,
    how: How,
}

/// What a figure of the run says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Nanoseconds of the server's CPU for one of something: how many of it are done in a second.
    PerSecond,
    /// How many of something: the more, the better.
    Count,
    /// Bytes a connection: the fewer, the better.
    Bytes,
    /// The same a message.
    MessageBytes,
}

/// What is taken of an echo; how well servers compress is the same wherever the load comes from.
fn echo_takes(options: &Options, placement: Placement, depth: usize, size: usize) -> Vec<Take> {
    let cpu = Take {
        table: format!(
            "Echo, {depth} in flight, load from {}: messages a CPU-second",
            placement.core()
        ),
        column: format!("{size} B"),
        figure: "server_cpu_ns_per_message",
        how: How::PerSecond,
    };
    let wire = || Take {
        table: "Echo: bytes of an answer on the wire".to_owned(),
        column: format!("{size} B"),
        figure: "wire_received_per_message",
        how: How::MessageBytes,
    };
    let is_first = options.placements.first() == Some(&placement)
        && options.depths.first() == Some(&depth)
        && !options.deflate.offers().is_empty();
    [cpu].into_iter().chain(is_first.then(wire)).collect()
}

fn fanout_takes(options: &Options, column: String) -> Vec<Take> {
    let wire = (!options.deflate.offers().is_empty()).then(|| Take {
        table: "Fan-out: bytes of a delivery on the wire".to_owned(),
        column: column.clone(),
        figure: "wire_received_per_delivery",
        how: How::MessageBytes,
    });
    let cpu = Take {
        table: "Fan-out: deliveries a CPU-second".to_owned(),
        column,
        figure: "deliveries_per_server_cpu_second",
        how: How::Count,
    };
    [cpu].into_iter().chain(wire).collect()
}

impl Take {
    /// From the JSON of a run.
    pub(super) fn value(&self, report: &serde_json::Value) -> Option<f64> {
        let value = report["figures"][self.figure]["value"].as_f64()?;
        match self.how {
            How::PerSecond => (value > 0.0).then(|| 1e9 / value),
            How::Count | How::Bytes | How::MessageBytes => Some(value),
        }
    }

    pub(super) fn is_less_better(&self) -> bool {
        matches!(self.how, How::Bytes | How::MessageBytes)
    }

    pub(super) const fn unit(&self) -> Unit {
        match self.how {
            How::PerSecond | How::Count => Unit::Count,
            How::Bytes => Unit::BytesPerConnection,
            How::MessageBytes => Unit::BytesPerMessage,
        }
    }
}

const KEPT_CONNECTIONS: usize = 1000;
const KEPT_MESSAGE_BYTES: usize = 60_000;
/// A tenth of the idle connections come before, so that what a server needs once is not counted.
const BEFORE_PART: usize = 10;

impl Measurement {
    pub(super) fn all(options: &Options) -> Vec<Self> {
        options.only.iter().flat_map(|what| Self::of(*what, options)).collect()
    }

    fn of(what: What, options: &Options) -> Vec<Self> {
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
        let Options { connections, seconds, kind, deflate, .. } = options;
        // One argument, though an offer has spaces in it.
        let offering = |text: String| {
            let mut words: Vec<String> = words(text);
            words.extend(["--deflate".to_owned(), deflate.to_string()]);
            words
        };
        let kind = |default: Kind| kind.unwrap_or(default).name();
        let warm_up = seconds / 4.0;
        match what {
            What::Echo => {
                let mut echoes = Vec::new();
                for &placement in &options.placements {
                    for &depth in &options.depths {
                        echoes.extend(options.sizes.iter().map(|size| Self {
                            placement,
                            start: Start::Once,
                            arguments: offering(format!(
                                "echo --connections {connections} --depth {depth} --size {size} --kind {} \
                                 --seconds {seconds} --warm-up {warm_up} --seed 1",
                                kind(Kind::Utf8)
                            )),
                            takes: echo_takes(options, placement, depth, *size),
                        }));
                    }
                }
                echoes
            }
            What::Handshakes => {
                let of = |&placement: &Placement| Self {
                    placement,
                    start: Start::Once,
                    arguments: offering(format!("churn --seconds {seconds}")),
                    takes: vec![Take {
                        table: "Handshakes a CPU-second".to_owned(),
                        column: format!("load from {}", placement.core()),
                        figure: "server_cpu_ns_per_handshake",
                        how: How::PerSecond,
                    }],
                };
                options.placements.iter().map(of).collect()
            }
            What::Idle => {
                let count = options.idle_connections;
                let before = count.div_ceil(BEFORE_PART);
                let take = |column: &str, figure| Take {
                    table: format!("Memory of {count} idle connections: bytes each"),
                    column: column.to_owned(),
                    figure,
                    how: How::Bytes,
                };
                vec![Self {
                    placement: Placement::Cross,
                    start: Start::Anew,
                    arguments: offering(format!("idle --connections {count} --before {before}")),
                    takes: vec![
                        take("of the server", "user_bytes_per_connection"),
                        take("of the kernel", "kernel_bytes_per_connection"),
                    ],
                }]
            }
            What::Kept => vec![Self {
                placement: Placement::Cross,
                start: Start::Anew,
                arguments: offering(format!(
                    "idle --connections {KEPT_CONNECTIONS} --before {} --messages {KEPT_CONNECTIONS} \
                     --message-bytes {KEPT_MESSAGE_BYTES} --fragments 1",
                    KEPT_CONNECTIONS / BEFORE_PART
                )),
                takes: vec![Take {
                    table: format!(
                        "Memory kept after a message of {KEPT_MESSAGE_BYTES} bytes on each of \
                         {KEPT_CONNECTIONS} connections: bytes each"
                    ),
                    column: "of the server".to_owned(),
                    figure: "user_bytes_kept_per_message",
                    how: How::Bytes,
                }],
            }],
            What::Fanout => {
                let of = |column: String, load: String| Self {
                    placement: Placement::Cross,
                    start: Start::ByMode,
                    arguments: offering(format!(
                        "fanout --no-floor {load} --size {} --kind {} --rounds 1 --seconds {seconds}",
                        options.publish_size,
                        kind(Kind::Text)
                    )),
                    takes: fanout_takes(options, column),
                };
                let of = |count: &usize| {
                    [
                        of(
                            format!("a lone message to {count}"),
                            format!("--subscribers {count} --burst 1"),
                        ),
                        of(
                            format!("{count} clients, all to all"),
                            format!("--all-to-all --clients {count}"),
                        ),
                    ]
                };
                options.subscribers.iter().flat_map(of).collect()
            }
        }
    }

    /// All the arguments, for a server that runs.
    pub(super) fn arguments_for(&self, address: SocketAddr, pid: u32) -> Vec<String> {
        let mut words = self.arguments.clone();
        words.extend([format!("ws://{address}/"), "--server-pid".to_owned(), pid.to_string()]);
        words
    }

    /// All the arguments, for a server that the mode starts.
    pub(super) fn arguments_with(&self, command: &ServerCommand) -> Vec<String> {
        let mut words = self.arguments.clone();
        words.extend(["--server".to_owned(), command.to_string()]);
        words
    }
}

impl Placement {
    const fn core(self) -> &'static str {
        match self {
            Self::Same => "the same core",
            Self::Cross => "another core",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::parse;

    fn all(options: &str) -> Vec<Measurement> {
        Measurement::all(&parse(&format!("--server|a=x {{port}}|{options}")).unwrap())
    }

    #[test]
    fn an_offer_is_one_argument_and_tells_how_short_answers_are() {
        let measurements = all("--only|echo,idle,fanout|--deflate|takeover|--kind|json|--sizes|20");
        for measurement in &measurements {
            let mut words = measurement.arguments.iter().skip_while(|word| *word != "--deflate");
            let offer = words.nth(1).map(String::as_str);
            assert_eq!(offer, Some("permessage-deflate; client_max_window_bits"));
            let is_load = measurement.arguments[0] != "idle";
            assert_eq!(measurement.arguments.contains(&"json".to_owned()), is_load);
        }
        let takes = measurements.iter().flat_map(|measurement| &measurement.takes);
        let wires: Vec<_> = takes.filter(|take| take.unit() == Unit::BytesPerMessage).collect();
        assert_eq!(wires.len(), 1 + 4, "of the first echo, and of each fan-out");
        assert!(wires.iter().all(|take| take.is_less_better()));
    }

    #[test]
    fn without_an_offer_echoes_are_no_ascii_and_fan_out_is_text() {
        for measurement in all("--only|echo,fanout|--sizes|20") {
            let text = measurement.arguments.join(" ");
            let kind =
                if text.starts_with("echo") { "--kind utf8" } else { "--size 100 --kind text" };
            assert!(text.contains(kind) && text.ends_with("--deflate off"), "{text}");
            assert_eq!(measurement.takes.len(), 1);
        }
    }
}
