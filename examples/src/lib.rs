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

/// The options that all servers share.
pub mod server {
    use clap::Args;

    /// Where to listen, and with how many threads.
    #[derive(Args, Clone, Debug)]
    pub struct Options {
        /// Where to listen: HOST:PORT, or unix:PATH.
        #[arg(long, default_value = "127.0.0.1:9001")]
        pub listen: String,
        /// How many workers, each a thread [default: one for each core].
        #[arg(long, value_name = "COUNT")]
        pub workers: Option<usize>,
    }
}
