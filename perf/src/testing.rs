//! Servers on threads of this process, for tests of the modes.

use quelea::{Config, Handle, Handler, Server, Worker};
use std::{
    net::SocketAddr,
    thread::{self, JoinHandle},
};

/// A server with one worker, until this is dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    pub(crate) fn start<H: Handler + 'static>(
        config: Config,
        make: impl Fn(Worker) -> H + Send + Sync + 'static,
    ) -> Self {
        let config = Config { workers: Some(1), ..config };
        let server = Server::new(make).config(config).unwrap().listen("127.0.0.1:0").unwrap();
        let address = server.local_addresses().next().unwrap().to_string().parse().unwrap();
        let handle = server.handle();
        let thread = Some(thread::spawn(move || server.run().unwrap()));
        Self { address, handle, thread }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.handle.stop();
        let result = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || result.is_some_and(|result| result.is_ok()));
    }
}
