//! What is measured: a run of another mode of this program, and what of its figures is taken.

use super::{Options, Placement, What};
use crate::server::ServerCommand;
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
    /// Bytes: the fewer, the better.
    Bytes,
}

impl Take {
    /// From the JSON of a run.
    pub(super) fn value(&self, report: &serde_json::Value) -> Option<f64> {
        let value = report["figures"][self.figure]["value"].as_f64()?;
        match self.how {
            How::PerSecond => (value > 0.0).then(|| 1e9 / value),
            How::Count | How::Bytes => Some(value),
        }
    }

    pub(super) fn is_less_better(&self) -> bool {
        self.how == How::Bytes
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
        let Options { connections, seconds, .. } = options;
        let warm_up = seconds / 4.0;
        match what {
            What::Echo => {
                let mut echoes = Vec::new();
                for &placement in &options.placements {
                    for &depth in &options.depths {
                        echoes.extend(options.sizes.iter().map(|size| Self {
                            placement,
                            start: Start::Once,
                            arguments: words(format!(
                                "echo --connections {connections} --depth {depth} --size {size} --kind utf8 \
                                 --seconds {seconds} --warm-up {warm_up}"
                            )),
                            takes: vec![Take {
                                table: format!(
                                    "Echo, {depth} in flight, load from {}: messages a CPU-second",
                                    placement.core()
                                ),
                                column: format!("{size} B"),
                                figure: "server_cpu_ns_per_message",
                                how: How::PerSecond,
                            }],
                        }));
                    }
                }
                echoes
            }
            What::Handshakes => {
                let of = |&placement: &Placement| Self {
                    placement,
                    start: Start::Once,
                    arguments: words(format!("churn --seconds {seconds}")),
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
                    arguments: words(format!("idle --connections {count} --before {before}")),
                    takes: vec![
                        take("of the server", "user_bytes_per_connection"),
                        take("of the kernel", "kernel_bytes_per_connection"),
                    ],
                }]
            }
            What::Kept => vec![Self {
                placement: Placement::Cross,
                start: Start::Anew,
                arguments: words(format!(
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
                    arguments: words(format!(
                        "fanout --no-floor {load} --rounds 1 --seconds {seconds}"
                    )),
                    takes: vec![Take {
                        table: "Fan-out: deliveries a CPU-second".to_owned(),
                        column,
                        figure: "deliveries_per_server_cpu_second",
                        how: How::Count,
                    }],
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
