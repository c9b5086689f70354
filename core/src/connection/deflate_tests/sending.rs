//! What is compressed, and with what before it.

use super::*;

const JSON: &str = r#"{"id":1,"name":"quelea","tags":["a","a","a","a","a","a","a","a","a"]}"#;

#[test]
fn what_is_too_short_does_not_shrink_or_is_not_to_be_compressed_is_plain() {
    let mut server = server(BY_ITSELF);
    assert_eq!(send(&mut server, JSON)[0], 0xc1);
    assert_eq!(send(&mut server, "aaaaaaaaaaaaaaaaaaa")[0], 0x81, "19 bytes");
    assert_eq!(send(&mut server, "aaaaaaaaaaaaaaaaaaaa")[0], 0xc1, "20 bytes");
    assert_eq!(send(&mut server, "the quick brown fox jumps")[0], 0x81);
    for (compress, short, long) in
        [(Compress::No, 0x81, 0x81), (Compress::Yes, 0xc1, 0xc1), (Compress::Auto, 0x81, 0xc1)]
    {
        for (message, first) in [("aaaaaaaaaaaaaaaaaaa", short), (JSON, long)] {
            let End { connection, context, out, .. } = &mut server;
            connection.send_with(Message::Text(message), compress, context, out).unwrap();
            assert_eq!(server.take_out()[0], first, "{compress:?} {message}");
        }
    }
    let noise = noise(100_000);
    let End { connection, context, out, .. } = &mut server;
    connection.send(Message::Binary(&noise), context, out).unwrap();
    assert_eq!(server.out[0], 0x82);
}

#[test]
fn with_takeover_the_second_message_is_shorter_and_what_was_sent_plain_is_no_part_of_it() {
    let policy = takeover(15, 1 << 20);
    let mut server = end(Role::Server, policy, Parameters::default());
    let mut client = end(Role::Client, policy, Parameters::default());
    let first = send(&mut server, JSON);
    client.receive(&first);
    let second = send(&mut server, JSON);
    assert!(second.len() * 3 < first.len(), "{} {}", first.len(), second.len());
    client.receive(&second);
    // Compressed but not sent as such: it must not be referred to.
    let noise: String = noise(1000).iter().map(|byte| char::from(byte % 64 + 48)).collect();
    let hex = format!("{:x?}", super::noise(40));
    for message in [&noise, &noise, &hex, &noise, JSON] {
        let sent = send(&mut server, message);
        client.receive(&sent);
    }
    let expected = [JSON, JSON, &noise, &noise, &hex, &noise, JSON].map(text);
    assert_eq!(client.events, expected);
}

#[test]
fn what_did_not_shrink_leaves_nothing_to_what_is_compressed_next() {
    for len in [100, 4000, 70_000, 300_000, 1_000_000] {
        for policy in [Policy::Shared, takeover(15, 2 << 20), takeover(15, 100 << 10)] {
            let mut server = end(Role::Server, policy, Parameters::default());
            let mut client = end(Role::Client, policy, Parameters::default());
            let (noise, long) = (noise(len), "é€😀".repeat(len / 9));
            for _ in 0..3 {
                let End { connection, context, out, .. } = &mut server;
                connection.send(Message::Binary(&noise), context, out).unwrap();
                assert_eq!(out[0], 0x82);
                connection.send(Message::Text(&long), context, out).unwrap();
                connection.send(Message::Text(JSON), context, out).unwrap();
                client.receive(&server.take_out());
                let expected = [Owned::Binary(noise.clone()), text(&long), text(JSON)];
                assert!(client.events == expected, "{len} {policy:?} {:?}", client.events.last());
                client.events.clear();
            }
        }
    }
}

#[test]
fn a_window_that_was_given_back_is_begun_anew() {
    let policy = takeover(15, 1 << 20);
    let mut server = end(Role::Server, policy, Parameters::default());
    let mut client = end(Role::Client, policy, Parameters::default());
    let (first, second) = (send(&mut server, JSON), send(&mut server, JSON));
    let with_window = server.context.windows_bytes();
    let freed = server.connection.trim();
    assert!(freed >= 2 * JSON.len() && freed <= 32 << 10, "{freed}");
    assert_eq!(with_window - server.context.windows_bytes(), 32 << 10);
    assert_eq!(server.connection.trim(), 0, "it has none any more");
    let third = send(&mut server, JSON);
    assert!(third.len() == first.len() && second.len() < first.len());
    [first, second, third].iter().for_each(|bytes| client.receive(bytes));
    assert_eq!(client.events, [JSON; 3].map(text));
}

#[test]
fn connections_that_send_in_turn_each_refer_to_their_own_messages() {
    for budget in [1 << 20, 100 << 10] {
        let policy = takeover(9, budget);
        let parameters = Parameters {
            server_max_window_bits: WindowBits::new(9),
            client_max_window_bits: WindowBits::new(9),
            ..Parameters::default()
        };
        let mut server = end(Role::Server, policy, parameters);
        let mut clients: Vec<_> = (0..5).map(|_| end(Role::Client, policy, parameters)).collect();
        let mut connections: Vec<_> = (0..5)
            .map(|_| Connection::with_deflate(Role::Server, &parameters, &server.context))
            .collect();
        for round in 0..6 {
            for (index, connection) in connections.iter_mut().enumerate() {
                std::mem::swap(connection, &mut server.connection);
                let message = format!("{JSON}{index}").repeat(1 + round);
                let sent = send(&mut server, &message);
                std::mem::swap(connection, &mut server.connection);
                assert_eq!(sent[0], 0xc1);
                clients[index].receive(&sent);
                assert_eq!(clients[index].events.pop(), Some(text(&message)));
            }
        }
        let kept = server.context.pooled_bytes() + server.context.windows_bytes();
        assert!(kept < budget + (500 << 10), "{kept}");
    }
}

#[test]
fn beyond_the_budget_messages_are_compressed_by_themselves() {
    let policy = takeover(15, 1 << 10);
    let parameters = Parameters { client_no_context_takeover: true, ..Parameters::default() };
    let mut first = end(Role::Server, policy, parameters);
    let lengths: Vec<_> = (0..3).map(|_| send(&mut first, JSON).len()).collect();
    assert!(lengths[1] == lengths[0] && first.context.windows_bytes() == 0, "32 KiB do not fit");
    let small = Parameters { server_max_window_bits: WindowBits::new(10), ..parameters };
    first.connection = Connection::with_deflate(Role::Server, &small, &first.context);
    let lengths: Vec<_> = (0..3).map(|_| send(&mut first, JSON).len()).collect();
    assert!(lengths[1] < lengths[0]);
    let mut second = Connection::with_deflate(Role::Server, &small, &first.context);
    std::mem::swap(&mut second, &mut first.connection);
    let again: Vec<_> = (0..3).map(|_| send(&mut first, JSON).len()).collect();
    assert_eq!(again, [lengths[0]; 3]);
    drop(second);
    assert_eq!(first.context.windows_bytes(), 0);
    assert!(
        send(&mut first, JSON).len() == lengths[0] && send(&mut first, JSON).len() < lengths[0]
    );
}

#[test]
fn ten_thousand_connections_stay_within_the_budget_and_idle_ones_give_it_back() {
    let budget = 1 << 20;
    let policy = takeover(11, budget);
    let bits = WindowBits::new(11);
    let parameters = Parameters {
        server_max_window_bits: bits,
        client_no_context_takeover: true,
        ..Parameters::default()
    };
    let mut server = end(Role::Server, policy, parameters);
    let mut connections = Vec::new();
    for _ in 0..10_000 {
        let mut connection = Connection::with_deflate(Role::Server, &parameters, &server.context);
        std::mem::swap(&mut connection, &mut server.connection);
        send(&mut server, JSON);
        std::mem::swap(&mut connection, &mut server.connection);
        connections.push(connection);
    }
    assert!(server.context.windows_bytes() <= budget);
    assert!(server.context.windows_bytes() > budget / 2);
    connections.iter_mut().for_each(|connection| {
        connection.trim();
    });
    assert_eq!(server.context.windows_bytes(), 0);
}

#[test]
fn a_message_in_fragments_is_compressed_if_its_first_is_long_enough() {
    let noise = noise(70_000);
    for policy in [Policy::Shared, takeover(15, 1 << 20)] {
        let mut server = end(Role::Server, policy, Parameters::default());
        let mut client = end(Role::Client, policy, Parameters::default());
        for pieces in [
            &[JSON.as_bytes(), JSON.as_bytes(), JSON.as_bytes()][..],
            &[JSON.as_bytes(), &noise, b"", b"short", JSON.as_bytes(), b""],
            &[JSON.as_bytes(), &noise],
            &[b"short", JSON.as_bytes()],
        ] {
            let End { connection, context, out, .. } = &mut server;
            for (index, piece) in pieces.iter().enumerate() {
                let fin = index + 1 == pieces.len();
                connection.send_fragment(MessageKind::Binary, piece, fin, context, out).unwrap();
            }
            let sent = server.take_out();
            let firsts: Vec<_> = frames_of(&sent).iter().map(|(first, _)| *first).collect();
            let first = if pieces[0].len() < 20 { 0x02 } else { 0x42 };
            let middle = std::iter::repeat_n(0x00, pieces.len() - 2);
            assert!(firsts.into_iter().eq(std::iter::once(first).chain(middle).chain([0x80])));
            client.receive(&sent);
            assert_eq!(client.events.pop(), Some(Owned::Binary(pieces.concat())));
        }
    }
}

#[test]
fn a_message_that_was_compressed_once_is_read_by_all_and_what_follows_too() {
    let policy = takeover(15, 4 << 20);
    let mut server = end(Role::Server, policy, Parameters::default());
    let mut frame = Vec::new();
    let long = JSON.repeat(100);
    let bits = WindowBits::new(10).unwrap();
    assert!(server.context.append_compressed(Message::Text(&long), bits, &mut frame));
    assert!(frame.len() < long.len() / 10);
    for (message, is_compressed) in [("short", false), ("the quick brown fox jumps", false)] {
        let mut out = Vec::new();
        let done = server.context.append_compressed(Message::Text(message), bits, &mut out);
        assert_eq!((done, out.is_empty()), (is_compressed, true));
    }
    for server_bits in [10, 15] {
        let parameters = Parameters {
            server_max_window_bits: WindowBits::new(server_bits),
            ..Parameters::default()
        };
        let mut client = end(Role::Client, policy, parameters);
        server.connection = Connection::with_deflate(Role::Server, &parameters, &server.context);
        assert!(server.connection.compressed_window() >= Some(bits));
        let before = send(&mut server, JSON);
        client.receive(&before);
        client.receive(&frame);
        server.connection.sent_compressed();
        for _ in 0..2 {
            let after = send(&mut server, JSON);
            client.receive(&after);
        }
        assert_eq!(client.events, [JSON, &long, JSON, JSON].map(text));
    }
    assert_eq!(Connection::new(Role::Server).compressed_window(), None);
}
