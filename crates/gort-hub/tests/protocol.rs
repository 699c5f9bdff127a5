//! The protocol as clients see it: handshake, channels, events, errors and close codes. The client
//! is tungstenite.
mod common;

use common::{Client, Http, KEY, SECRET, hub, tcp};
use gort_hub::{Verdict, auth};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

#[test]
fn an_event_reaches_exactly_the_subscribers_of_its_channels() {
    let hub = hub(|_| {});
    let mut on_a = hub.connect();
    let mut on_both = hub.connect();
    let mut on_none = hub.connect();
    on_a.subscribe("a");
    on_both.subscribe("a");
    on_both.subscribe("b");
    let data = r#"{"text":"grüße \"x\"\n"}"#;
    assert_eq!(hub.trigger(&json!({"name": "news", "channels": ["a", "b"], "data": data}), 200), "{}");
    let expected =
        |channel: &str| json!({"event": "news", "channel": channel, "data": {"text": "grüße \"x\"\n"}});
    assert_eq!(on_a.event(), expected("a"));
    assert_eq!(on_both.event(), expected("a"));
    assert_eq!(on_both.event(), expected("b"));
    on_none.ping();
    on_a.ping();
}

#[test]
fn data_that_is_not_json_stays_a_string() {
    let hub = hub(|_| {});
    let mut client = hub.connect();
    client.subscribe("a");
    hub.publish("a", "e", "plain text");
    assert_eq!(client.event()["data"], "plain text");
}

#[test]
fn the_sender_can_be_left_out() {
    let hub = hub(|_| {});
    let (mut one, mut two) = (hub.connect(), hub.connect());
    one.subscribe("a");
    two.subscribe("a");
    let event = json!({"name": "e", "channel": "a", "data": "1", "socket_id": one.socket_id});
    hub.trigger(&event, 200);
    two.expect("e");
    one.ping();
}

#[test]
fn events_of_one_publisher_arrive_in_order() {
    let hub = hub(|_| {});
    let mut clients: Vec<Client> = (0..5).map(|_| hub.connect()).collect();
    clients.iter_mut().for_each(|client| client.subscribe("a"));
    let mut http = Http::connect(hub.addr);
    for i in 0..500 {
        assert_eq!(http.post_event(&json!({"name": "n", "channel": "a", "data": i.to_string()})).0, 200);
    }
    for client in &mut clients {
        for i in 0..500 {
            assert_eq!(client.event()["data"], i);
        }
    }
    assert_eq!(hub.hub.stats().published, 500);
}

// Joining, leaving and publishing race on one name. No client misses an event that is published
// while it is subscribed.
#[test]
fn a_channel_that_dies_and_comes_back_loses_nothing() {
    let hub = hub(|_| {});
    std::thread::scope(|scope| {
        for me in 0..6 {
            let hub = &hub;
            scope.spawn(move || {
                let mut client = hub.connect();
                let mut http = Http::connect(hub.addr);
                for round in 0..40 {
                    client.send(json!({"event": "pusher:subscribe", "data": {"channel": "a"}}));
                    while client.event()["event"] != "pusher_internal:subscription_succeeded" {}
                    let mark = format!("mark-{me}-{round}");
                    assert_eq!(http.post_event(&json!({"name": mark, "channel": "a", "data": "1"})).0, 200);
                    while client.event()["event"] != mark.as_str() {}
                    client.send(json!({"event": "pusher:unsubscribe", "data": {"channel": "a"}}));
                }
            });
        }
    });
    hub.until("all are gone", |stats| stats.connections == 0 && stats.channels == 0);
}

// More members than one segment holds, and then fewer again.
#[test]
fn a_crowded_channel() {
    let hub = hub(|_| {});
    let mut crowd: Vec<Client> = (0..600).map(|_| hub.connect()).collect();
    crowd.iter_mut().for_each(|client| client.subscribe("a"));
    for left in [600, 300, 1] {
        crowd.truncate(left);
        hub.until("the others are gone", |stats| stats.connections == left);
        hub.publish("a", "e", &left.to_string());
        for client in &mut crowd {
            assert_eq!(client.event()["data"], left);
        }
    }
}

#[test]
fn leaving_a_channel_ends_its_events() {
    let hub = hub(|_| {});
    let mut client = hub.connect();
    client.subscribe("a");
    client.unsubscribe("a");
    assert_eq!(hub.hub.stats().channels, 0);
    hub.publish("a", "e", "1");
    client.ping();
    client.subscribe("a");
    hub.publish("a", "e", "2");
    assert_eq!(client.event()["data"], 2);
    client.unsubscribe("never-joined");
}

#[test]
fn private_channels_need_the_right_signature() {
    let hub = hub(|_| {});
    let mut client = hub.connect();
    let other = hub.connect();
    let auths = [
        Value::Null,
        json!(""),
        json!("nonsense"),
        json!(auth::channel_auth(KEY, SECRET, &other.socket_id, "private-a")),
        json!(auth::channel_auth(KEY, SECRET, &client.socket_id, "private-b")),
        json!(auth::channel_auth(KEY, "wrong secret", &client.socket_id, "private-a")),
    ];
    for auth in auths {
        client.send(json!({"event": "pusher:subscribe", "data": {"channel": "private-a", "auth": auth}}));
        let error = client.expect("pusher:subscription_error");
        assert_eq!(error["channel"], "private-a");
        assert_eq!(error["data"]["type"], "AuthError");
        assert_eq!(error["data"]["status"], 401);
    }
    hub.publish("private-a", "e", "1");
    client.ping();
    client.subscribe("private-a");
    client.subscribe("private-encrypted-a");
    hub.publish("private-a", "e", "2");
    assert_eq!(client.event()["data"], 2);
}

/// The signature covers `channel_data`, on private channels as well.
#[test]
fn channel_data_is_part_of_the_signature() {
    let hub = hub(|_| {});
    let mut client = hub.connect();
    let data = r#"{"user_id":"7"}"#;
    let sign = |what: &str| json!(auth::channel_auth(KEY, SECRET, &client.socket_id, what));
    let with = sign(&format!("private-a:{data}"));
    let without = sign("private-a");
    let mut check = |auth: &Value, data: Value, answer: &str| {
        let subscribe = json!({"channel": "private-a", "auth": auth, "channel_data": data});
        client.send(json!({"event": "pusher:subscribe", "data": subscribe}));
        client.expect(answer);
    };
    check(&without, json!(data), "pusher:subscription_error");
    check(&with, Value::Null, "pusher:subscription_error");
    check(&with, json!(r#"{"user_id":"8"}"#), "pusher:subscription_error");
    check(&with, json!(data), "pusher_internal:subscription_succeeded");
}

/// A string that holds JSON arrives as that JSON (laravel-echo with a string, the Java library).
/// Any other string arrives unchanged.
#[test]
fn a_client_event_whose_data_is_a_string() {
    let hub = hub(|_| {});
    let (mut one, mut two) = (hub.connect(), hub.connect());
    one.subscribe("private-a");
    two.subscribe("private-a");
    for (sent, arrives) in [
        (json!({"text": "a"}), json!({"text": "a"})),
        (json!(r#"{"text":"a"}"#), json!({"text": "a"})),
        (json!("plain"), json!("plain")),
        (json!("{not json"), json!("{not json")),
    ] {
        one.send(json!({"event": "client-e", "channel": "private-a", "data": sent}));
        assert_eq!(two.expect("client-e")["data"], arrives);
    }
}

#[test]
fn bad_names_kinds_and_second_subscriptions_are_refused() {
    let hub = hub(|_| {});
    let mut client = hub.connect();
    for name in ["", "a b", "a/b", &"a".repeat(165)] {
        client.send(json!({"event": "pusher:subscribe", "data": {"channel": name}}));
        assert_eq!(client.expect("pusher:subscription_error")["data"]["status"], 400, "{name:?}");
    }
    for name in ["presence-a", "cache-a", "private-cache-a"] {
        client.send(json!({"event": "pusher:subscribe", "data": {"channel": name}}));
        assert_eq!(client.expect("pusher:subscription_error")["data"]["type"], "NotServed", "{name:?}");
    }
    client.subscribe("a");
    client.send(json!({"event": "pusher:subscribe", "data": {"channel": "a"}}));
    assert!(client.expect_error(Value::Null).contains("existing subscription"));
    hub.publish("a", "e", "1");
    client.expect("e");
    client.ping();
}

#[test]
fn a_connection_has_a_limit_of_channels() {
    let hub = hub(|config| config.max_channels_per_client = 2);
    let mut client = hub.connect();
    client.subscribe("a");
    client.subscribe("b");
    client.send(json!({"event": "pusher:subscribe", "data": {"channel": "c"}}));
    let error = client.expect("pusher:subscription_error");
    assert_eq!(
        (error["data"]["type"].as_str(), error["data"]["status"].as_u64()),
        (Some("LimitReached"), Some(4100))
    );
    client.unsubscribe("a");
    client.subscribe("c");
}

#[test]
fn client_events_go_to_the_others() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let hub = hub(move |config| {
        config.on_client_event = Some(Arc::new(move |event| {
            log.lock().unwrap().push((
                event.event.to_string(),
                event.channel.to_string(),
                event.data.to_string(),
            ));
            if event.event == "client-secret" { Verdict::Drop } else { Verdict::Forward }
        }));
    });
    let (mut one, mut two) = (hub.connect(), hub.connect());
    one.subscribe("private-a");
    two.subscribe("private-a");
    one.send(json!({"event": "client-secret", "channel": "private-a", "data": 1}));
    one.send(json!({"event": "client-hi", "channel": "private-a", "data": {"x": "\"y\""}}));
    assert_eq!(two.event(), json!({"event": "client-hi", "channel": "private-a", "data": {"x": "\"y\""}}));
    one.ping();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], ("client-secret".into(), "private-a".into(), "1".into()));
    assert_eq!(seen.len(), 2);
}

#[test]
fn client_events_that_are_refused() {
    let hub = hub(|config| config.max_event_data_bytes = 100);
    let (mut one, mut two) = (hub.connect(), hub.connect());
    for client in [&mut one, &mut two] {
        client.subscribe("a");
        client.subscribe("private-a");
        client.subscribe("private-encrypted-a");
    }
    let long_name = format!("client-{}", "x".repeat(200));
    let long_data = "x".repeat(100);
    for event in [
        json!({"event": "client-e", "channel": "a", "data": {}}),
        json!({"event": "client-e", "channel": "private-encrypted-a", "data": {}}),
        json!({"event": "client-e", "channel": "private-b", "data": {}}),
        json!({"event": "client-e", "data": {}}),
        json!({"event": long_name, "channel": "private-a", "data": {}}),
        json!({"event": "client-e", "channel": "private-a", "data": long_data}),
    ] {
        one.send(event);
        one.expect_error(4302);
    }
    one.send(json!({"event": "news", "channel": "private-a", "data": {}}));
    one.expect_error(Value::Null);
    two.ping();
}

#[test]
fn client_events_are_rate_limited_and_the_connection_stays() {
    let hub = hub(|config| config.client_events_per_second = 1);
    let (mut one, mut two) = (hub.connect(), hub.connect());
    one.subscribe("private-a");
    two.subscribe("private-a");
    for i in 0..10 {
        one.send(json!({"event": "client-e", "channel": "private-a", "data": i}));
    }
    assert_eq!(two.expect("client-e")["data"], 0);
    one.expect_error(4301);
    // The pong follows the answers to all ten.
    one.send(json!({"event": "pusher:ping", "data": {}}));
    while one.event()["event"] != "pusher:pong" {}
    let refused = hub.hub.stats().rate_limited;
    assert!((1..=9).contains(&refused), "{refused}");
    hub.publish("private-a", "e", "1");
    while one.event()["event"] != "e" {}
    one.ping();
}

#[test]
fn bad_events_get_an_error_and_the_connection_stays() {
    let hub = hub(|_| {});
    let mut client = hub.connect();
    let deep = "[".repeat(20_000);
    for text in ["", "{", "[]", "null", "{\"event\":1}", "{\"data\":{}}", "\u{0}", &deep] {
        client.ws.send(Message::text(text)).unwrap();
        client.expect_error(4200);
    }
    for event in ["pusher:subscribe", "pusher:unsubscribe"] {
        client.send(json!({ "event": event }));
        client.expect_error(4200);
        client.send(json!({ "event": event, "data": {"channel": 1} }));
        client.expect_error(4200);
    }
    client.ping();
}

#[test]
fn versions_and_keys_that_are_refused() {
    let hub = hub(|_| {});
    let check = |path: &str, code: u16| {
        let mut client = Client::open(hub.addr, path);
        client.expect_error(code);
        assert_eq!(client.closed(), code, "{path}");
    };
    check("/app/wrong?protocol=7", 4001);
    check(&format!("/app/{KEY}/x?protocol=7"), 4001);
    check(&format!("/app/{KEY}"), 4008);
    check(&format!("/app/{KEY}?protocol=seven"), 4006);
    check(&format!("/app/{KEY}?protocol="), 4006);
    check(&format!("/app/{KEY}?protocol=-7"), 4006);
    check(&format!("/app/{KEY}?protocol=4"), 4007);
    check(&format!("/app/{KEY}?protocol=8"), 4007);
    assert_eq!(hub.hub.stats().connections_total, 0);
    for version in 5..=7 {
        Client::open(hub.addr, &format!("/app/{KEY}?protocol={version}"))
            .expect("pusher:connection_established");
    }
}

#[test]
fn over_capacity() {
    let hub = hub(|config| config.max_connections = 2);
    let (one, _two) = (hub.connect(), hub.connect());
    let mut three = Client::open(hub.addr, &format!("/app/{KEY}?protocol=7"));
    three.expect_error(4100);
    assert_eq!(three.closed(), 4100);
    assert_eq!(hub.hub.stats().refused, 1);
    drop(one);
    hub.until("one left", |stats| stats.connections == 1);
    hub.connect().ping();
}

fn check_closed(code: u16, break_rules: impl FnOnce(&mut Client)) {
    let hub = hub(|config| config.max_message_bytes = 1000);
    let mut bystander = hub.connect();
    let mut client = hub.connect();
    client.subscribe("a");
    break_rules(&mut client);
    assert_eq!(client.closed(), code);
    drop(client);
    bystander.ping();
    hub.until("it is gone", |stats| stats.connections == 1 && stats.channels == 0);
}

#[test]
fn a_binary_message_closes_with_1003() {
    check_closed(1003, |client| client.ws.send(Message::binary(vec![1, 2, 3])).unwrap());
}

#[test]
fn text_that_is_not_utf8_closes_with_1007() {
    check_closed(1007, |client| {
        client.send_frame(Frame::message(vec![0xc3, 0x28], OpCode::Data(Data::Text), true));
    });
}

#[test]
fn a_message_that_is_too_long_closes_with_1009() {
    check_closed(1009, |client| client.ws.send(Message::text("x".repeat(1001))).unwrap());
}

#[test]
fn fragments_that_are_too_long_together_close_with_1009() {
    check_closed(1009, |client| {
        client.send_frame(Frame::message(vec![b'x'; 600], OpCode::Data(Data::Text), false));
        client.send_frame(Frame::message(vec![b'x'; 600], OpCode::Data(Data::Continue), true));
    });
}

#[test]
fn an_unmasked_frame_closes_with_1002() {
    check_closed(1002, |client| client.send_raw(b"\x81\x02{}"));
}

#[test]
fn reserved_bits_and_opcodes_close_with_1002() {
    check_closed(1002, |client| client.send_raw(b"\xc1\x80\0\0\0\0"));
    check_closed(1002, |client| client.send_raw(b"\x83\x80\0\0\0\0"));
}

#[test]
fn a_message_in_fragments_with_a_ping_between_them() {
    let hub = hub(|_| {});
    let mut client = hub.connect();
    let (a, b) = br#"{"event":"pusher:subscribe","data":{"channel":"a"}}"#.split_at(20);
    client.send_frame(Frame::message(a.to_vec(), OpCode::Data(Data::Text), false));
    client.send_frame(Frame::ping(&b"hello"[..]));
    match client.ws.read().unwrap() {
        Message::Pong(payload) => assert_eq!(&payload[..], b"hello"),
        other => panic!("{other:?}"),
    }
    client.send_frame(Frame::message(b.to_vec(), OpCode::Data(Data::Continue), true));
    client.expect("pusher_internal:subscription_succeeded");
}

#[test]
fn a_close_is_answered_with_its_code() {
    let hub = hub(|_| {});
    let mut client = hub.connect();
    let code = tungstenite::protocol::frame::coding::CloseCode::from(1000);
    client.ws.close(Some(tungstenite::protocol::CloseFrame { code, reason: "bye".into() })).unwrap();
    match client.ws.read().unwrap() {
        Message::Close(Some(frame)) => assert_eq!(frame.code, code),
        other => panic!("{other:?}"),
    }
    assert!(client.ws.read().is_err());
    hub.until("it is gone", |stats| stats.connections == 0);
}

// The handshake and the first event arrive together, and none of it may be lost.
#[test]
fn a_client_that_does_not_wait_for_the_handshake() {
    let hub = hub(|_| {});
    let mut stream = tcp(hub.addr);
    let mut bytes = format!(
        "GET /app/{KEY}?protocol=7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    bytes.extend(gort_hub::ws::masked_text_frame(r#"{"event":"pusher:ping"}"#, [1, 2, 3, 4]));
    stream.write_all(&bytes).unwrap();
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("pusher:pong") {
        let mut buf = [0; 1024];
        let n = stream.read(&mut buf).unwrap();
        assert!(n > 0, "{:?}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&buf[..n]);
    }
    let text = String::from_utf8_lossy(&got);
    // The key and the answer to it are the example in the RFC.
    assert!(text.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{text}");
    assert!(text.contains("pusher:connection_established"));
}

#[test]
fn silent_clients_are_pinged_and_those_that_answer_stay() {
    let hub = hub(|config| {
        config.activity_timeout = Duration::from_secs(1);
        config.pong_timeout = Duration::from_secs(2);
    });
    let mut alive = hub.connect();
    let mut dead = hub.connect();
    dead.subscribe("a");
    let reader = std::thread::spawn(move || {
        for _ in 0..2 {
            alive.expect("pusher:ping");
            alive.send(json!({"event": "pusher:pong", "data": {}}));
        }
        alive
    });
    dead.expect("pusher:ping");
    assert_eq!(dead.closed(), 4201);
    let mut alive = reader.join().unwrap();
    assert_eq!(hub.hub.stats().timed_out, 1);
    alive.send(json!({"event": "pusher:pong"}));
    drop(alive);
}

// Single bytes do not count as activity: until its message ends, the client is silent.
#[test]
fn a_message_that_never_ends_is_silence() {
    let hub = hub(|config| {
        config.activity_timeout = Duration::from_millis(200);
        config.pong_timeout = Duration::from_millis(200);
    });
    let mut client = hub.connect();
    let mut trickle = client.ws.get_ref().try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let _ = trickle.write_all(b"\x81\xfe\x03\xe8\0\0\0\0");
        while trickle.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(client.closed(), 4201);
    drop(client);
    sender.join().unwrap();
}
