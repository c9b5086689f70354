use super::{Command, EchoWorker, Kind, Loop, Measured, Plan};
use crate::{
    clock::now,
    load::{Deflate, DriverKind, LoadDriver, Outcome, processes::Worker},
    raw::RawServer,
};
use quelea::{
    CloseCode, Config, Conn, Handle, Handler, Message, Server,
    deflate::{Compress, Policy, Settings, WindowBits},
    driver::Poll,
};
use quelea_core::{handshake::accept_key, mask};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

const STALL: Duration = Duration::from_millis(50);
const STALL_EVERY: Duration = Duration::from_millis(400);

/// What a server does with a message.
enum Answer {
    Echo,
    /// Echoes, and stands still for so long now and then: the next time then.
    Stall(Duration, Instant),
    /// Echoes after so long, one message after the other.
    After(Duration),
    /// Echoes, and compresses only every other message.
    Alternate(u64),
    Wrong,
    OtherKind,
    Twice,
    Close,
    Nothing,
}

impl Handler for Answer {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        match self {
            Self::Stall(length, next) if now() >= *next => {
                sleep(*length);
                *next = now() + STALL_EVERY;
            }
            Self::After(time) => sleep(*time),
            Self::Alternate(number) => {
                *number += 1;
                let how = if *number % 2 == 0 { Compress::No } else { Compress::Auto };
                conn.send_with(message, how);
                return;
            }
            Self::Wrong => {
                let mut bytes = message.as_bytes().to_vec();
                bytes[message.len() - 1] ^= 1;
                conn.send(Message::Binary(&bytes));
                return;
            }
            Self::OtherKind => {
                conn.send(message.as_bytes());
                return;
            }
            Self::Twice => {
                conn.send(message);
            }
            Self::Close => {
                conn.close(CloseCode::POLICY_VIOLATION, "not here");
            }
            Self::Nothing => return,
            Self::Stall(..) | Self::Echo => {}
        }
        conn.send(message);
    }
}

/// A server on one thread, until it is dropped.
struct Running {
    address: SocketAddr,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(Policy::Off, answer)
    }

    fn start_with(policy: Policy, answer: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        let deflate = Settings::new(policy);
        let config = Config { workers: Some(1), deflate, ..Config::default() };
        let server = Server::new(move |_| answer()).config(config).unwrap();
        let server = server.listen("127.0.0.1:0").unwrap();
        let address = server.local_addresses().next().unwrap().to_string().parse().unwrap();
        let handle = server.handle();
        let thread = Some(thread::spawn(move || server.run().unwrap()));
        Self { address, handle, thread }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn plan(address: SocketAddr) -> Plan {
    Plan {
        target: format!("ws://{address}/").parse().unwrap(),
        driver: DriverKind::Poll,
        connecting_max: 100,
        sizes: vec![20],
        kinds: vec![Kind::Binary],
        fragments: 1,
        exchange: None,
        raw: false,
        deflate: Deflate::default(),
        seed: 7,
        first_source: 0,
        shown_of: 0,
    }
}

fn run(plan: Plan, connections: usize, looping: Loop, length: Duration) -> Outcome<Measured> {
    run_by::<Poll>(plan, connections, looping, length)
}

fn run_by<D: LoadDriver>(
    plan: Plan,
    connections: usize,
    looping: Loop,
    length: Duration,
) -> Outcome<Measured> {
    let mut worker = EchoWorker::<D>::new(plan)?;
    worker.obey(Command::Connect(connections))?;
    worker.obey(Command::Begin(looping, Duration::from_millis(50)))?;
    worker.obey(Command::Measure(length))?;
    let measured = worker.obey(Command::End)?;
    worker.obey(Command::Close)?;
    Ok(measured.expect("an end tells what was measured"))
}

const MOMENT: Duration = Duration::from_millis(200);
const DEPTH_3: Loop = Loop::Closed { depth: 3 };

fn error(plan: Plan) -> String {
    run(plan, 2, DEPTH_3, MOMENT).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_stall_of_the_server_is_in_the_latency_from_the_intended_time_and_is_no_fault_of_the_generator()
{
    let server = Running::start(|| Answer::Stall(STALL, now()));
    let looping = Loop::Open { per_second: 1000.0, depth: 1, together: 1 };
    let measured = run(plan(server.address), 2, looping, Duration::from_secs(2)).unwrap();
    assert_eq!((measured.lost, measured.missing), (0, 0));
    let (intended, sent) = (measured.recorder.latency(), measured.recorder.uncorrected());
    assert_eq!(intended.len(), sent.len());
    // An eighth of the messages were due in a stall; the first of them waited for all of it.
    let slow = STALL.mul_f64(0.8).as_nanos() as u64;
    assert!(intended.value_at_quantile(0.99) >= slow, "{}", intended.value_at_quantile(0.99));
    // Of those that were sent, only the one that each connection had in flight.
    let [intended, sent] = [intended, sent].map(|all| all.count_between(slow, u64::MAX));
    assert!(
        sent > 0 && intended > 3 * sent,
        "{intended} from the intended time, {sent} from sending"
    );
}

#[test]
fn what_waits_for_the_server_is_not_counted_as_sent_late_by_the_generator() {
    let server = Running::start(|| Answer::Stall(Duration::from_millis(800), now()));
    let looping = Loop::Open { per_second: 1000.0, depth: 1, together: 1 };
    let measured = run(plan(server.address), 2, looping, Duration::from_secs(1)).unwrap();
    let waited = measured.recorder.latency().count_between(100_000_000, u64::MAX);
    assert!(waited > 500, "{waited}");
    // Those that waited would be 0.8 of all; a busy machine holds up some by itself.
    assert!(measured.late_share() < 0.6, "{}", measured.late_share());
}

#[test]
fn a_rate_that_the_server_does_not_keep_up_with_makes_the_run_invalid() {
    let server = Running::start(|| Answer::After(Duration::from_millis(10)));
    let looping = Loop::Open { per_second: 1000.0, depth: 1, together: 1 };
    let measured = run(plan(server.address), 2, looping, MOMENT).unwrap();
    assert_eq!(measured.server_fault(), None);
    let mut report = crate::report::Report::new("echo", ());
    measured.judge(None, &mut report);
    let reasons = report.invalid_because.join("\n");
    assert!(!report.valid && reasons.contains("did not keep up with the rate"), "{reasons}");
}

#[test]
fn a_run_in_which_nothing_comes_back_has_no_cost_of_a_message() {
    let server = Running::start(|| Answer::After(MOMENT * 3));
    let looping = Loop::Closed { depth: 1 };
    let measured = run(plan(server.address), 1, looping, MOMENT).unwrap();
    let mut report = crate::report::Report::new("echo", ());
    measured.report(None, &mut report);
    measured.judge(None, &mut report);
    assert!(!report.figures["generator_cpu_ns_per_message"].value.is_finite());
    assert_eq!(report.invalid_because, ["no message came back in the time that was measured"]);
}

#[test]
fn a_generator_that_stands_still_makes_the_run_invalid() {
    let server = Running::start(|| Answer::Echo);
    let mut worker = EchoWorker::<Poll>::new(plan(server.address)).unwrap();
    worker.obey(Command::Connect(2)).unwrap();
    let looping = Loop::Open { per_second: 1000.0, depth: 1024, together: 1 };
    worker.obey(Command::Begin(looping, Duration::ZERO)).unwrap();
    // What was due meanwhile is sent late, and counted with what is measured after it.
    let schedule_stands = |worker: &mut EchoWorker<Poll>| {
        worker.obey(Command::Measure(Duration::from_millis(1))).unwrap();
        sleep(MOMENT);
    };
    schedule_stands(&mut worker);
    worker.obey(Command::Measure(MOMENT)).unwrap();
    let measured = worker.obey(Command::End).unwrap().unwrap();
    let fault = measured.generator_fault(None).unwrap();
    assert!(fault.contains("lagged behind its schedule"), "{fault}");
    let mut report = crate::report::Report::new("echo", ());
    measured.report(None, &mut report);
    measured.judge(None, &mut report);
    assert!(!report.valid && report.invalid_because == [fault]);
}

#[test]
fn each_echo_is_compared_whatever_its_kind_size_and_fragments() {
    let server = Running::start(|| Answer::Echo);
    let mixed = Plan {
        sizes: vec![0, 20, 126, 70_000],
        kinds: vec![Kind::Text, Kind::Binary, Kind::Utf8],
        fragments: 3,
        ..plan(server.address)
    };
    for looping in [DEPTH_3, Loop::Open { per_second: 500.0, depth: 10, together: 1 }] {
        let measured = run(mixed.clone(), 5, looping, MOMENT).unwrap();
        assert!(measured.messages > 20, "{}", measured.messages);
        assert_eq!((measured.lost, measured.missing), (0, 0));
    }
}

#[test]
fn a_server_that_does_not_echo_is_not_measured() {
    for (answer, expected) in [
        ((|| Answer::Wrong) as fn() -> Answer, "sent back something else"),
        (|| Answer::OtherKind, "sent back something else"),
        (|| Answer::Twice, "nobody asked for"),
        (|| Answer::Close, "closed by the server: 1008 not here"),
    ] {
        let server = Running::start(answer);
        // Text: what comes back in the other kind is told from it.
        let error = error(Plan { kinds: vec![Kind::Text], ..plan(server.address) });
        assert!(error.contains(expected), "{error}");
    }
    let server = Running::start(|| Answer::Nothing);
    let mut worker = EchoWorker::<Poll>::new(plan(server.address)).unwrap();
    worker.obey(Command::Connect(1)).unwrap();
    worker.obey(Command::Begin(DEPTH_3, Duration::ZERO)).unwrap();
    worker.obey(Command::Measure(MOMENT)).unwrap();
    worker.echo.stop(worker.engine.clients());
    assert_eq!((worker.echo.in_flight, worker.echo.messages()), (3, 0));
}

/// Answers the first connection with these bytes, and ends it.
fn answer_once(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        let _ = stream.read(&mut head).unwrap();
        stream.write_all(answer).unwrap();
    });
    address
}

/// Writes an echo of each message as told, to the first connection.
fn echo_by_hand(write: impl Fn(&mut TcpStream, &[u8]) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut head = [0; 1024];
        let len = stream.read(&mut head).unwrap();
        let head = std::str::from_utf8(&head[..len]).unwrap();
        let key = head.split("Sec-WebSocket-Key: ").nth(1).unwrap().lines().next().unwrap();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            std::str::from_utf8(&accept_key(key)).unwrap()
        );
        stream.write_all(answer.as_bytes()).unwrap();
        let mut header = [0; 6];
        // Until the generator has seen enough. Its pings and pongs are left alone.
        while stream.read_exact(&mut header).is_ok() && header[0] != 0x88 {
            let mut payload = vec![0; usize::from(header[1] & 0x7f)];
            stream.read_exact(&mut payload).unwrap();
            mask::apply(&mut payload, header[2..].try_into().unwrap());
            if header[0] == 0x82 {
                write(&mut stream, &payload);
            }
        }
    });
    address
}

#[test]
fn an_echo_is_taken_however_it_is_cut_and_refused_wherever_it_differs() {
    let run = |address| run(plan(address), 1, Loop::Closed { depth: 1 }, MOMENT);
    let pause = || sleep(Duration::from_millis(2));
    for cut in [1, 2, 10, 21] {
        let address = echo_by_hand(move |stream, payload| {
            let frame = [&[0x82, 20], payload].concat();
            let (start, end) = frame.split_at(cut);
            stream.write_all(start).unwrap();
            pause();
            let _ = stream.write_all(end);
        });
        assert!(run(address).unwrap().messages > 3);
        // A part of it came as it should.
        let address = echo_by_hand(move |stream, payload| {
            let mut frame = [&[0x82, 20], payload].concat();
            frame[21] ^= 1;
            let (start, end) = frame.split_at(cut);
            stream.write_all(start).unwrap();
            pause();
            let _ = stream.write_all(end);
        });
        let error = run(address).unwrap_err().to_string();
        assert!(error.contains("sent back something else"), "{error}");
    }
    // In fragments, with a ping between them; the second comes in two parts.
    let address = echo_by_hand(move |stream, payload| {
        let (first, second) = payload.split_at(7);
        stream.write_all(&[&[0x02, 7], first, &[0x89, 0, 0x80, 13]].concat()).unwrap();
        pause();
        stream.write_all(second).unwrap();
    });
    assert!(run(address).unwrap().messages > 3);
    // A whole frame of another kind, and then none: the start of what is expected is kept for core.
    let address = echo_by_hand(move |stream, payload| {
        stream.write_all(&[0x82]).unwrap();
        pause();
        stream.write_all(&[&[0x80 | 20], payload].concat()).unwrap();
    });
    let error = run(address).unwrap_err().to_string();
    assert!(error.contains("server frame with a mask"), "{error}");
}

#[test]
fn what_is_wrong_with_a_server_is_said() {
    for (answer, expected) in [
        (&b"HTTP/1.1 503 Service Unavailable\r\n\r\n"[..], "503"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP response"),
        (b"", "ended the connection before it answered"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "upgrade: "),
    ] {
        let address = answer_once(answer);
        let error = run(plan(address), 1, DEPTH_3, MOMENT).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("0 of 1 connections"), "{error}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = error(plan(nobody));
    assert!(error.contains("connect: Connection refused"), "{error}");
}

#[test]
fn bytes_come_back_as_they_are_without_frames() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the process.
    thread::spawn(move || RawServer::new(Poll::new().unwrap(), listener).unwrap().serve().unwrap());
    let raw = |size| Plan { raw: true, sizes: vec![size], ..plan(address) };
    for size in [1, 20, 300_000] {
        let measured = run(raw(size), 5, DEPTH_3, MOMENT).unwrap();
        assert!(measured.messages > 20 && measured.missing == 0, "{}", measured.messages);
    }
    let server = Running::start(|| Answer::Echo);
    let error = error(Plan { target: plan(server.address).target, ..raw(20) });
    assert!(error.contains("other bytes than it got"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn messages_and_bare_bytes_come_back_by_io_uring_on_both_sides() {
    use quelea::driver::Uring;
    let server = Running::start(|| Answer::Echo);
    let by_uring = Plan { driver: DriverKind::Uring, ..plan(server.address) };
    let measured = run_by::<Uring>(by_uring, 5, DEPTH_3, MOMENT).unwrap();
    assert!(measured.messages > 20 && measured.missing == 0, "{}", measured.messages);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the process.
    thread::spawn(move || {
        RawServer::new(Uring::start().unwrap(), listener).unwrap().serve().unwrap();
    });
    for size in [20, 300_000] {
        let raw = Plan { driver: DriverKind::Uring, raw: true, sizes: vec![size], ..plan(address) };
        let measured = run_by::<Uring>(raw, 5, DEPTH_3, MOMENT).unwrap();
        assert!(measured.messages > 20 && measured.missing == 0, "{}", measured.messages);
    }
}

#[test]
fn a_message_in_fragments_is_exchanged_on_each_connection() {
    let server = Running::start(|| Answer::Echo);
    for (size, fragments) in [(100_000, 10), (1, 3), (1_000_000, 1)] {
        let plan = Plan { exchange: Some((size, fragments)), ..plan(server.address) };
        let mut worker = EchoWorker::<Poll>::new(plan).unwrap();
        worker.obey(Command::Connect(6)).unwrap();
        worker.obey(Command::Exchange(5)).unwrap();
        assert_eq!(worker.echo.messages(), 5);
        let error = worker.obey(Command::Exchange(7)).unwrap_err().to_string();
        assert!(error.contains("more messages than connections"), "{error}");
    }
}

#[test]
fn the_sum_of_several_processes_is_what_one_would_have_measured() {
    use crate::load::{Recorder, Time};
    let mut whole = Recorder::new(Time::default(), true);
    let mut parts = vec![whole.clone(); 3];
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..10_000 {
        let intended = random.u64(0..5_000_000_000);
        let sent = intended + random.u64(0..1_000_000);
        let now = sent + random.u64(1_000..100_000_000);
        let [now, intended, sent] = [now, intended, sent].map(Time::from_nanos);
        whole.record(now, intended, sent, 1);
        random.choice(&mut parts).unwrap().record(now, intended, sent, 1);
    }
    let sum = parts.into_iter().map(|part| {
        let json = serde_json::to_string(&part).unwrap();
        serde_json::from_str::<Recorder>(&json).unwrap()
    });
    let sum = sum.reduce(|mut sum, part| {
        sum.merge(&part).unwrap();
        sum
    });
    assert_eq!(sum, Some(whole));
}

const TAKEOVER: Policy =
    Policy::Takeover { window_bits: WindowBits::new(11).unwrap(), budget_bytes: 16 << 20 };

/// JSON, most of which is longer on the wire if it is not compressed.
fn offering(offer: &str, address: SocketAddr) -> Plan {
    let deflate = Deflate { offered: offer.parse().unwrap(), deflate_optional: false };
    Plan { kinds: vec![Kind::Json], sizes: vec![1024, 20, 5000], deflate, ..plan(address) }
}

#[test]
fn compressed_echoes_are_right_whatever_was_agreed_on() {
    let none = "; server_no_context_takeover; client_no_context_takeover";
    for (policy, offer, agreed) in [
        (Policy::Shared, "shared", none),
        (Policy::Shared, "takeover", none),
        (TAKEOVER, "shared", none),
        (TAKEOVER, "takeover", "; server_max_window_bits=11; client_max_window_bits=11"),
        (
            TAKEOVER,
            "client_max_window_bits=9; server_no_context_takeover",
            "; server_no_context_takeover; server_max_window_bits=11; client_max_window_bits=9",
        ),
        (TAKEOVER, "permessage-deflate", "; client_no_context_takeover; server_max_window_bits=11"),
    ] {
        let server = Running::start_with(policy, || Answer::Echo);
        for fragments in [1, 3] {
            let plan = Plan { fragments, ..offering(offer, server.address) };
            let measured = run(plan, 5, DEPTH_3, MOMENT).unwrap();
            assert!(measured.messages > 100 && measured.missing == 0, "{}", measured.messages);
            let mut report = crate::report::Report::new("echo", ());
            measured.report(None, &mut report);
            let counts = &report.counts["deflate"].counts;
            let window = match (policy, offer) {
                (TAKEOVER, "shared") => "; server_max_window_bits=11",
                _ => "",
            };
            assert_eq!(counts[&format!("permessage-deflate{agreed}{window}")], 5, "{counts:?}");
            // A moment takes them in turns, from wherever it begins, and cuts those that are in flight.
            let messages = measured.messages as f64;
            let cut = 15.0 * 5000.0;
            let most = 0.7 * measured.goodput as f64 + 24.0 * messages + cut;
            for name in ["wire_sent_per_message", "wire_received_per_message"] {
                let bytes = messages * report.figures[name].value;
                assert!(bytes < most, "{offer}: {name}: {bytes} of {most}, {messages} messages");
            }
        }
    }
}

#[test]
fn a_compressed_echo_that_is_wrong_is_told_from_a_right_one() {
    for policy in [Policy::Shared, TAKEOVER] {
        for (answer, expected) in [
            ((|| Answer::Wrong) as fn() -> Answer, "sent back something else"),
            (|| Answer::Twice, "nobody asked for"),
        ] {
            let server = Running::start_with(policy, answer);
            let error = error(offering("takeover", server.address));
            // The next but one is another message.
            assert!(
                error.contains(expected) || error.contains("sent back something else"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_server_that_declines_compression_is_measured_only_if_that_is_allowed() {
    let server = Running::start(|| Answer::Echo);
    let plan = offering("shared", server.address);
    let error = error(plan.clone());
    assert!(error.contains("declined permessage-deflate; --deflate-optional"), "{error}");
    let deflate = Deflate { deflate_optional: true, ..plan.deflate };
    let measured = run(Plan { deflate, ..plan }, 2, DEPTH_3, MOMENT).unwrap();
    let mut report = crate::report::Report::new("echo", ());
    measured.report(None, &mut report);
    assert_eq!(report.counts["deflate"].counts["declined"], 2);
    assert!(report.figures["wire_received_per_message"].value > 1500.0);
}

/// Compresses by hand, in a way of its own each time: what was learned is not what comes next.
#[test]
fn bytes_that_differ_from_those_that_were_learned_are_inflated_and_compared() {
    let server = Running::start_with(Policy::Shared, || Answer::Alternate(0));
    let measured = run(offering("shared", server.address), 3, DEPTH_3, MOMENT).unwrap();
    assert!(measured.messages > 50 && measured.missing == 0, "{}", measured.messages);
}
