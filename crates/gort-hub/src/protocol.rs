//! The JSON of the Pusher Channels protocol, version 7: names, codes, and events in both
//! directions.

use crate::ws;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The oldest and the newest protocol version of clients. Their differences do not concern the hub.
pub(crate) const VERSIONS: std::ops::RangeInclusive<u64> = 5..=7;

pub(crate) const MAX_CHANNEL_NAME: usize = 164;
pub(crate) const MAX_EVENT_NAME: usize = 200;
pub(crate) const MAX_CHANNELS_PER_EVENT: usize = 100;

/// Codes of `pusher:error` events and of closed connections. The hundreds tell a client what to do.
pub mod code {
    /// No such app. Do not reconnect.
    pub const NO_SUCH_APP: u16 = 4001;
    /// The `protocol` parameter is not a number. Do not reconnect.
    pub const BAD_VERSION: u16 = 4006;
    /// The hub does not support this version. Do not reconnect.
    pub const UNSUPPORTED_VERSION: u16 = 4007;
    /// No `protocol` parameter. Do not reconnect.
    pub const NO_VERSION: u16 = 4008;
    /// The hub or the client's queue is full. Reconnect after a while.
    pub const OVER_CAPACITY: u16 = 4100;
    /// The hub is going down, or the client sent something that is not an event. Reconnect at once.
    pub const RECONNECT: u16 = 4200;
    /// A ping was not answered. Reconnect at once.
    pub const NO_PONG: u16 = 4201;
    /// A client event over the rate limit. The connection stays open.
    pub const RATE_LIMIT: u16 = 4301;
    /// A client event that is not allowed. The connection stays open.
    pub const REFUSED_EVENT: u16 = 4302;
}

/// The name of a connection: two numbers with a dot between them. Signatures contain it, and a
/// publisher names the connection to leave out by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketId {
    /// Random, and the same for all connections of a hub. So an old signature is not valid after a
    /// restart.
    pub(crate) hub: u32,
    /// The number of the connection.
    pub(crate) number: u64,
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.hub, self.number)
    }
}

/// The text is not two numbers with a dot between them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("socket_id is not of the form 123.456")]
pub struct ParseSocketIdError;

/// Reads a well-formed `socket_id`. `None` if it is too large for any connection to have it.
pub(crate) fn parse_socket_id(text: &str) -> Result<Option<SocketId>, ParseSocketIdError> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match text.split_once('.') {
        Some((hub, number)) if digits(hub) && digits(number) => Ok(u32::from_str(hub)
            .ok()
            .zip(u64::from_str(number).ok())
            .map(|(hub, number)| SocketId { hub, number })),
        _ => Err(ParseSocketIdError),
    }
}

/// Whether the protocol allows this channel name.
pub(crate) fn is_channel_name(name: &str) -> bool {
    (1..=MAX_CHANNEL_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-=@,.;".contains(&b))
}

/// The kind of a channel, which the beginning of its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelKind {
    Public,
    Private,
    /// Like private, but without client events, which the hub could not encrypt.
    Encrypted,
    /// Presence and cache channels, which the hub refuses.
    NotServed,
}

pub(crate) fn channel_kind(name: &str) -> ChannelKind {
    let not_served = ["presence-", "cache-", "private-cache-", "private-encrypted-cache-"];
    if not_served.iter().any(|prefix| name.starts_with(prefix)) {
        ChannelKind::NotServed
    } else if name.starts_with("private-encrypted-") {
        ChannelKind::Encrypted
    } else if name.starts_with("private-") {
        ChannelKind::Private
    } else {
        ChannelKind::Public
    }
}

/// An event as a client sends it. `data` stays text and is parsed only where that is needed.
#[derive(Debug, Deserialize)]
pub(crate) struct Incoming<'a> {
    #[serde(borrow)]
    pub(crate) event: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) channel: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) data: Option<&'a RawValue>,
}

/// `data` of `pusher:subscribe` and `pusher:unsubscribe`.
#[derive(Debug, Deserialize)]
pub(crate) struct Subscribe {
    pub(crate) channel: String,
    #[serde(default)]
    pub(crate) auth: Option<String>,
    /// What the signing server says about the user, mostly JSON. The signature covers it.
    #[serde(default)]
    channel_data: Option<serde_json::Value>,
}

impl Subscribe {
    /// The channel as it is in the signed text, with its `channel_data`. A channel's name has no
    /// colon, so this cannot be taken for another channel.
    pub(crate) fn signed_channel(&self) -> Cow<'_, str> {
        match &self.channel_data {
            None | Some(serde_json::Value::Null) => (&*self.channel).into(),
            Some(serde_json::Value::String(data)) if data.is_empty() => (&*self.channel).into(),
            Some(serde_json::Value::String(data)) => format!("{}:{data}", self.channel).into(),
            Some(data) => format!("{}:{data}", self.channel).into(),
        }
    }

    /// Reads `data`, which some libraries send as a string that holds the JSON.
    pub(crate) fn parse(data: Option<&RawValue>) -> Option<Subscribe> {
        let text = data?.get();
        if text.starts_with('"') {
            let inner: String = serde_json::from_str(text).ok()?;
            serde_json::from_str(&inner).ok()
        } else {
            serde_json::from_str(text).ok()
        }
    }
}

/// The data of a client event, as JSON. Some libraries (laravel-echo with a string, the Java
/// library) send a string that holds JSON; then this is the JSON in it, so that receivers get the
/// same as from an object. Any other value stays as it is.
pub(crate) fn client_data(data: Option<&RawValue>) -> Cow<'_, str> {
    let text = data.map_or("null", RawValue::get);
    if text.starts_with('"')
        && let Ok(inner) = serde_json::from_str::<String>(text)
        && serde_json::from_str::<serde::de::IgnoredAny>(&inner).is_ok()
    {
        return inner.into();
    }
    text.into()
}

/// Whether the protocol reserves the name. A client would take such an event for one of the hub.
pub(crate) fn is_reserved(event: &str) -> bool {
    event.starts_with("pusher:") || event.starts_with("pusher_internal:")
}

/// An event as the HTTP API takes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Publish {
    pub(crate) name: String,
    pub(crate) data: String,
    #[serde(default)]
    pub(crate) channels: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) channel: Option<String>,
    #[serde(default)]
    pub(crate) socket_id: Option<String>,
}

/// The frame of an event for clients. `data` becomes a JSON string.
pub(crate) fn event_frame(event: &str, channel: Option<&str>, data: &str) -> Arc<[u8]> {
    let mut text = String::with_capacity(48 + event.len() + channel.map_or(0, str::len) + data.len() * 9 / 8);
    text.push_str("{\"event\":");
    push_json_string(&mut text, event);
    if let Some(channel) = channel {
        text.push_str(",\"channel\":");
        push_json_string(&mut text, channel);
    }
    text.push_str(",\"data\":");
    push_json_string(&mut text, data);
    text.push('}');
    ws::text_frame(&text)
}

fn push_json_string(to: &mut String, s: &str) {
    // Most names and much of the data need no escapes.
    if s.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        to.push('"');
        to.push_str(s);
        to.push('"');
    } else {
        to.push_str(&serde_json::Value::from(s).to_string());
    }
}

pub(crate) fn connection_established(id: SocketId, activity_timeout_s: u64) -> Arc<[u8]> {
    let data = format!("{{\"socket_id\":\"{id}\",\"activity_timeout\":{activity_timeout_s}}}");
    event_frame("pusher:connection_established", None, &data)
}

pub(crate) fn subscription_succeeded(channel: &str) -> Arc<[u8]> {
    event_frame("pusher_internal:subscription_succeeded", Some(channel), "{}")
}

pub(crate) fn subscription_error(channel: &str, kind: &str, error: &str, status: u16) -> Arc<[u8]> {
    let data = serde_json::json!({ "type": kind, "error": error, "status": status }).to_string();
    event_frame("pusher:subscription_error", Some(channel), &data)
}

pub(crate) fn error(code: Option<u16>, message: &str) -> Arc<[u8]> {
    let data = serde_json::json!({ "code": code, "message": message }).to_string();
    event_frame("pusher:error", None, &data)
}

pub(crate) fn ping() -> Arc<[u8]> {
    event_frame("pusher:ping", None, "{}")
}

pub(crate) fn pong() -> Arc<[u8]> {
    event_frame("pusher:pong", None, "{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(frame: Arc<[u8]>) -> String {
        let mut decoder = ws::Decoder::new(ws::Role::Client, 1 << 20);
        decoder.push(&frame);
        match decoder.next_message() {
            Ok(Some(ws::Message::Text(text))) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn data_is_a_string_that_holds_json() {
        let frame = event_frame("e\"1", Some("room"), "{\"a\":\"\u{1}ü\\\"}");
        let value: serde_json::Value = serde_json::from_str(&text(frame)).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"event": "e\"1", "channel": "room", "data": "{\"a\":\"\u{1}ü\\\"}"})
        );
    }

    #[test]
    fn socket_ids() {
        let id = SocketId { hub: 12, number: 345 };
        assert_eq!(parse_socket_id(&id.to_string()), Ok(Some(id)));
        assert_eq!(parse_socket_id("99999999999999999999.1"), Ok(None));
        for bad in ["", ".", "1.", ".1", "1", "a.1", "1.1.1", "+1.1", "1.-1", "1.1\n"] {
            assert_eq!(parse_socket_id(bad), Err(ParseSocketIdError), "{bad:?}");
        }
    }

    #[test]
    fn channel_names() {
        assert!(is_channel_name("private-Foo_=@,.;9"));
        assert!(is_channel_name(&"a".repeat(164)));
        for bad in ["", "a b", "a/b", "ü", "a:b", "#x", &"a".repeat(165)] {
            assert!(!is_channel_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn kinds() {
        assert_eq!(channel_kind("room"), ChannelKind::Public);
        assert_eq!(channel_kind("private"), ChannelKind::Public);
        assert_eq!(channel_kind("private-room"), ChannelKind::Private);
        assert_eq!(channel_kind("private-encrypted-room"), ChannelKind::Encrypted);
        for name in ["presence-x", "cache-x", "private-cache-x", "private-encrypted-cache-x"] {
            assert_eq!(channel_kind(name), ChannelKind::NotServed);
        }
    }

    /// A string that holds JSON becomes that JSON. Every other value stays as it is.
    #[test]
    fn data_of_client_events() {
        let check = |json: &str, expected: &str| {
            let raw: &RawValue = serde_json::from_str(json).unwrap();
            assert_eq!(client_data(Some(raw)), expected, "{json}");
        };
        check(r#"{"a":1}"#, r#"{"a":1}"#);
        check(r#""{\"a\": \"ü\"}""#, r#"{"a": "ü"}"#);
        check(r#""[1]""#, "[1]");
        check(r#""12""#, "12");
        check(r#""plain text""#, r#""plain text""#);
        check(r#""{""#, r#""{""#);
        check(r#""""#, r#""""#);
        check("12", "12");
        assert_eq!(client_data(None), "null");
    }

    #[test]
    fn subscribe_as_object_and_as_text() {
        let parse = |json: &str| Subscribe::parse(serde_json::from_str::<Incoming<'_>>(json).unwrap().data);
        let object = parse(r#"{"event":"pusher:subscribe","data":{"channel":"a","auth":"k:s"}}"#).unwrap();
        assert_eq!((object.channel.as_str(), object.auth.as_deref()), ("a", Some("k:s")));
        let string = parse(r#"{"event":"pusher:subscribe","data":"{\"channel\":\"a\"}"}"#).unwrap();
        assert_eq!((string.channel.as_str(), string.auth), ("a", None));
        assert!(parse(r#"{"event":"pusher:subscribe"}"#).is_none());
        let signed = |data: &str| {
            let event = format!(r#"{{"event":"e","data":{{"channel":"a","channel_data":{data}}}}}"#);
            parse(&event).unwrap().signed_channel().into_owned()
        };
        assert_eq!(signed(r#""{\"user_id\":\"1\"}""#), r#"a:{"user_id":"1"}"#);
        assert_eq!(signed(r#"{"user_id":"1"}"#), r#"a:{"user_id":"1"}"#);
        assert_eq!((signed("null").as_str(), signed(r#""""#).as_str()), ("a", "a"));
        assert!(parse(r#"{"event":"pusher:subscribe","data":[1]}"#).is_none());
    }
}
