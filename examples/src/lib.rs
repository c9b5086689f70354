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
