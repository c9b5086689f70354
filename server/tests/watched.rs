//! Who watches a process that has no more descriptors is answered. The limit is one of the process, so this
//! test has a process of its own.

mod support;

use quelea::{Config, Conn, Handler, Message, MetricsServer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use std::fs::{self, File};
use support::*;

struct Silent;

impl Handler for Silent {
    type State = ();

    fn on_message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}
}

#[test]
fn who_watches_is_answered_though_there_are_no_more_descriptors() {
    let serving = Serving::start(Config::default(), &["127.0.0.1:0"], |_| Silent);
    let metrics = MetricsServer::start("127.0.0.1:0", serving.handle.clone()).unwrap();
    let address = metrics.local_addresses().next().unwrap().to_string().parse().unwrap();
    is_running(&serving.handle);
    let address = socket2::SockAddr::from(std::net::SocketAddr::V4(address));
    let ask = |socket: Socket| {
        socket.connect(&address).unwrap();
        let mut raw = Raw::new(socket.into());
        raw.send(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(raw.read_response().1, "live\n");
        raw
    };
    // It is answered once it runs.
    drop(ask(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()));
    // Those who watch have theirs before there are none.
    let watchers: Vec<_> =
        (0..12).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let used = fs::read_dir("/proc/self/fd").unwrap().count();
    let limit = getrlimit(Resource::Nofile);
    let current = Some(used as u64 + 20);
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    let hoard: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(!hoard.is_empty());
    let mut open = Vec::new();
    for socket in watchers {
        open.push(ask(socket));
        if open.len() == 4 {
            drop(open.remove(0));
        }
    }
    drop(hoard);
}
