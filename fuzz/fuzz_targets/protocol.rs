//! Events in JSON: what goes out to clients is JSON again, and says what came in.
//!
//! The module is the hub's own file.
#![no_main]

use gort_hub::ws::{Decoder, Message, Role};
use libfuzzer_sys::fuzz_target;
use protocol::{Incoming, Publish, Subscribe};
use serde::de::IgnoredAny;

#[path = "../../crates/gort-hub/src/protocol.rs"]
#[allow(dead_code, reason = "the target uses what it needs")]
mod protocol;

mod ws {
    pub(crate) use gort_hub::ws::*;
}

/// An event for clients is one text frame, and holds these.
fn check_frame(event: &str, channel: Option<&str>, data: &str) {
    let mut decoder = Decoder::new(Role::Client, usize::MAX / 2);
    decoder.push(&protocol::event_frame(event, channel, data));
    let Ok(Some(Message::Text(text))) = decoder.next_message() else { panic!("not one text message") };
    assert!(!decoder.is_mid_message());
    let json: serde_json::Value = serde_json::from_str(&text).expect("an event is JSON");
    assert_eq!(json["event"], event);
    assert_eq!(json.get("channel").and_then(|channel| channel.as_str()), channel);
    assert_eq!(json["data"], data);
}

fuzz_target!(|text: &str| {
    if let Ok(event) = serde_json::from_str::<Incoming<'_>>(text) {
        if let Some(subscribe) = Subscribe::parse(event.data) {
            assert!(subscribe.signed_channel().starts_with(&subscribe.channel));
            if protocol::is_channel_name(&subscribe.channel) {
                protocol::channel_kind(&subscribe.channel);
            }
        }
        let data = protocol::client_data(event.data);
        serde_json::from_str::<IgnoredAny>(&data).expect("the data of a client event is JSON");
        check_frame(&event.event, event.channel.as_deref(), &data);
    }
    if let Ok(event) = serde_json::from_str::<Publish>(text) {
        check_frame(&event.name, event.channel.as_deref(), &event.data);
        if let Some(Ok(Some(id))) = event.socket_id.as_deref().map(protocol::parse_socket_id) {
            assert_eq!(protocol::parse_socket_id(&id.to_string()), Ok(Some(id)));
        }
    }
    check_frame(text, Some(text), text);
});
