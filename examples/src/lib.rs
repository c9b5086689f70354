//! What the examples share.

/// Logs to standard error; `RUST_LOG`, such as `RUST_LOG=quelea=debug`, says how much.
pub mod logging {
    use tracing_subscriber::{EnvFilter, filter::LevelFilter};

    /// Starts logging: `info` and above, unless `RUST_LOG` says otherwise.
    pub fn start() {
        let filter =
            EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init();
    }
}

/// Whether messages are compressed.
pub mod compression {
    use clap::{Args, ValueEnum};
    use quelea::deflate::{Policy, Settings, WindowBits};

    /// Whether to compress messages, and at which cost.
    #[derive(Args, Clone, Debug)]
    // Apart from the other options, whose type has the same name.
    #[group(id = "compression")]
    pub struct Options {
        /// Whether messages are compressed, for clients that offer it: each by itself, or with those before it.
        #[arg(long, default_value = "off")]
        pub deflate: Deflate,
        /// From 1, fast, to 9, small.
        #[arg(long, default_value_t = Settings::default().level, value_name = "LEVEL")]
        #[arg(value_parser = clap::value_parser!(u8).range(1..=9))]
        pub deflate_level: u8,
        /// The window of --deflate takeover: 9 to 15, for 512 bytes to 32 KiB.
        #[arg(long, default_value = "15", value_parser = window_bits, value_name = "BITS")]
        pub window: WindowBits,
        /// What windows may take in each worker with --deflate takeover.
        #[arg(long, default_value_t = 64 << 20, value_name = "BYTES")]
        pub window_budget: usize,
    }

    /// How to compress.
    #[derive(Clone, Copy, Debug, ValueEnum)]
    pub enum Deflate {
        /// Not at all.
        Off,
        /// Each message by itself.
        Shared,
        /// With those before it.
        Takeover,
    }

    fn window_bits(text: &str) -> Result<WindowBits, String> {
        let bits = text.parse().ok().and_then(WindowBits::new);
        bits.ok_or_else(|| "it must be 9 to 15".into())
    }

    impl Options {
        /// The settings that they ask for.
        pub fn settings(&self) -> Settings {
            let policy = match self.deflate {
                Deflate::Off => Policy::Off,
                Deflate::Shared => Policy::Shared,
                Deflate::Takeover => {
                    let (window_bits, budget_bytes) = (self.window, self.window_budget);
                    Policy::Takeover { window_bits, budget_bytes }
                }
            };
            Settings { level: self.deflate_level, ..Settings::new(policy) }
        }
    }
}

/// The options that all servers share.
pub mod server {
    use clap::{Args, ValueEnum};
    use quelea::{Config, Drain, DriverKind, Handle, MetricsServer};
    use std::time::Duration;

    /// Where to listen, with how many threads, and how to end.
    #[derive(Args, Clone, Debug)]
    pub struct Options {
        /// Where to listen: HOST:PORT, or unix:PATH.
        #[arg(long, default_value = "127.0.0.1:9001")]
        pub listen: String,
        /// How many workers, each a thread [default: one for each core].
        #[arg(long, value_name = "COUNT")]
        pub workers: Option<usize>,
        /// How the workers speak to the kernel.
        #[arg(long, default_value = "auto")]
        pub driver: Driver,
        /// Shares its port with other servers that have this option too: more processes, more
        /// descriptors.
        #[arg(long)]
        pub share_port: bool,
        /// The most connections of all workers [default: 1000000].
        #[arg(long, value_name = "COUNT")]
        pub connections_max: Option<usize>,
        /// How long it takes to close all connections after a SIGTERM; after Ctrl-C it is no time.
        /// A second signal ends the server at once. Either way it exits with 0 [default: 10].
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        pub drain_window: Option<Duration>,
        /// When the server ends at the latest after a signal [default: 25, or 15 more than the
        /// window].
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        pub drain_timeout: Option<Duration>,
        /// Where to answer /metrics, /health/live and /health/ready [default: nowhere].
        #[arg(long, value_name = "ADDRESS")]
        pub metrics: Option<String>,
    }

    /// How to speak to the kernel.
    #[derive(Clone, Copy, Debug, ValueEnum)]
    pub enum Driver {
        /// io_uring where it costs less and all of it is to be had; epoll else, and the log says why.
        Auto,
        /// epoll, or what else tells of readiness.
        Poll,
        /// io_uring: Linux 6.0 or later.
        Uring,
    }

    impl From<Driver> for DriverKind {
        fn from(driver: Driver) -> Self {
            match driver {
                Driver::Auto => Self::Auto,
                Driver::Poll => Self::Poll,
                Driver::Uring => Self::Uring,
            }
        }
    }

    impl Options {
        /// The configuration that they ask for.
        pub fn config(&self) -> Config {
            let Self { workers, driver, share_port, connections_max, .. } = *self;
            let defaults = Config::default();
            Config {
                workers,
                driver: driver.into(),
                share_port,
                connections_max: connections_max.unwrap_or(defaults.connections_max),
                ..defaults
            }
        }

        /// How to drain.
        pub fn drain(&self) -> Drain {
            let defaults = Drain::default();
            let window_max = self.drain_timeout.unwrap_or(defaults.window);
            let window = self.drain_window.unwrap_or(defaults.window.min(window_max));
            let after = defaults.timeout - defaults.window;
            let timeout = self.drain_timeout.unwrap_or(window.saturating_add(after));
            Drain { window, timeout, ..defaults }
        }

        /// Answers about a server where it is wanted, until what is returned is dropped.
        ///
        /// # Errors
        /// The address is none, or cannot be had.
        pub fn start_metrics(&self, handle: Handle) -> quelea::Result<Option<MetricsServer>> {
            self.metrics.as_ref().map(|address| MetricsServer::start(address, handle)).transpose()
        }
    }

    /// Reads a time in seconds, such as `0.5`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn seconds(text: &str) -> Result<Duration, String> {
        let seconds = text.parse().map_err(|error| format!("{error}"))?;
        Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
    }
}
