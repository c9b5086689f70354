//! Quelea: a framework for realtime servers.
