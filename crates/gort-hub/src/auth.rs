//! The two signatures of the protocol: for a private channel and for a request to the HTTP API.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// How far `auth_timestamp` may be from the hub's clock, in seconds.
pub const TIMESTAMP_WINDOW_S: u64 = 600;

/// The hex HMAC-SHA256 of `message` with the key `secret`: the signature that Pusher's libraries
/// make.
///
/// ```
/// // The example from Pusher's public documentation.
/// let signature = gort_hub::auth::sign("7ad3773142a6692b25b8", "1234.1234:private-foobar");
/// assert_eq!(signature, "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4");
/// ```
pub fn sign(secret: &str, message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(message.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

/// What a client sends as `auth` to subscribe to a private channel: `key:signature`. If there is
/// `channel_data`, pass `CHANNEL:CHANNEL_DATA` as `channel`.
pub fn channel_auth(key: &str, secret: &str, socket_id: &str, channel: &str) -> String {
    format!("{key}:{}", sign(secret, &format!("{socket_id}:{channel}")))
}

/// Whether `auth` is what [`channel_auth`] returns. Takes the same time wherever the two differ.
pub fn channel_auth_is_valid(key: &str, secret: &str, socket_id: &str, channel: &str, auth: &str) -> bool {
    same(&channel_auth(key, secret, socket_id, channel), auth)
}

/// Percent-encodes a part of a path or of a query: all characters but ASCII letters, digits and
/// `-._~`.
///
/// ```
/// assert_eq!(gort_hub::auth::percent_encode("a b/ü"), "a%20b%2F%C3%BC");
/// ```
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The query string of a request to the HTTP API, with its signature. `path` is as it is sent,
/// which is percent-encoded.
pub fn signed_query(key: &str, secret: &str, method: &str, path: &str, body: &[u8], now_s: u64) -> String {
    let md5 = hex::encode(Md5::digest(body));
    let rest = format!("auth_timestamp={now_s}&auth_version=1.0&body_md5={md5}");
    // The signature covers the values, not their form in a URL.
    let signature = sign(secret, &format!("{method}\n{path}\nauth_key={key}&{rest}"));
    format!("auth_key={}&{rest}&auth_signature={signature}", percent_encode(key))
}

/// Why a request to the HTTP API was not accepted. The hub answers all of these with 401.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AuthError {
    /// One of the parameters `auth_…` and `body_md5` is missing.
    #[error("the query has no {0}")]
    Missing(&'static str),
    /// No app has this key.
    #[error("unknown auth_key")]
    UnknownKey,
    /// Only version 1.0 exists.
    #[error("auth_version must be 1.0")]
    Version,
    /// Not a number, or more than [`TIMESTAMP_WINDOW_S`] away from the hub's clock.
    #[error("auth_timestamp is not within {TIMESTAMP_WINDOW_S} s of the server's time, {now_s}")]
    Timestamp {
        /// The hub's clock, so that the sender sees how far its own is off.
        now_s: u64,
    },
    /// The body is not the one that was signed.
    #[error("body_md5 does not match the body")]
    BodyMd5,
    /// It was made with another secret, or for another request.
    #[error("invalid auth_signature: expected the hex HMAC-SHA256 of {expected_text:?}")]
    Signature {
        /// The text to sign. Most bugs of senders are in it.
        expected_text: String,
    },
}

/// Checks the signature of a request to the HTTP API. `query` holds decoded names and values, in
/// any order.
pub fn check_request(
    key: &str,
    secret: &str,
    method: &str,
    path: &str,
    query: &[(String, String)],
    body: &[u8],
    now_s: u64,
) -> Result<(), AuthError> {
    let value = |name: &'static str| {
        query
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .ok_or(AuthError::Missing(name))
    };
    if !same(value("auth_key")?, key) {
        return Err(AuthError::UnknownKey);
    }
    if value("auth_version")? != "1.0" {
        return Err(AuthError::Version);
    }
    let signature = value("auth_signature")?;
    let stamp: u64 = value("auth_timestamp")?.parse().map_err(|_| AuthError::Timestamp { now_s })?;
    if stamp.abs_diff(now_s) > TIMESTAMP_WINDOW_S {
        return Err(AuthError::Timestamp { now_s });
    }
    // A GET has no body and need not carry a digest of it.
    let says_md5 = query.iter().any(|(name, _)| name.eq_ignore_ascii_case("body_md5"));
    if (says_md5 || !body.is_empty()) && !same(value("body_md5")?, &hex::encode(Md5::digest(body))) {
        return Err(AuthError::BodyMd5);
    }
    let mut pairs: Vec<(String, &str)> = query
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .filter(|(name, _)| name != "auth_signature")
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected_text = format!("{method}\n{path}\n{}", pairs.join("&"));
    if !same(signature, &sign(secret, &expected_text)) {
        return Err(AuthError::Signature { expected_text });
    }
    Ok(())
}

/// Equality that takes the same time wherever the two differ.
fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Key, secret, body and results are from the examples in Pusher's public documentation.
    const KEY: &str = "278d425bdf160c739803";
    const SECRET: &str = "7ad3773142a6692b25b8";
    const BODY: &[u8] = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
    const SIGNATURE: &str = "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c";
    const NOW: u64 = 1_353_088_179;

    fn documented() -> Vec<(String, String)> {
        [
            ("auth_key", KEY),
            ("auth_timestamp", "1353088179"),
            ("auth_version", "1.0"),
            ("body_md5", "ec365a775a4cd0599faeb73354201b6f"),
            ("auth_signature", SIGNATURE),
        ]
        .map(|(n, v)| (n.to_string(), v.to_string()))
        .to_vec()
    }

    fn check(query: &[(String, String)], body: &[u8], now: u64) -> Result<(), AuthError> {
        check_request(KEY, SECRET, "POST", "/apps/3/events", query, body, now)
    }

    #[test]
    fn the_documented_channel_signature() {
        let auth = channel_auth(KEY, SECRET, "1234.1234", "private-foobar");
        assert_eq!(auth, format!("{KEY}:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"));
        assert!(channel_auth_is_valid(KEY, SECRET, "1234.1234", "private-foobar", &auth));
        assert!(!channel_auth_is_valid(KEY, SECRET, "1234.1235", "private-foobar", &auth));
        assert!(!channel_auth_is_valid(KEY, SECRET, "1234.1234", "private-foobaz", &auth));
        assert!(!channel_auth_is_valid(KEY, SECRET, "1234.1234", "private-foobar", ""));
    }

    #[test]
    fn the_documented_request() {
        assert_eq!(check(&documented(), BODY, NOW), Ok(()));
        let query = signed_query(KEY, SECRET, "POST", "/apps/3/events", BODY, NOW);
        assert!(query.ends_with(&format!("&auth_signature={SIGNATURE}")));
    }

    #[test]
    fn order_and_case_of_names_do_not_matter() {
        let mut query = documented();
        query.reverse();
        query[0].0 = "Auth_Signature".into();
        query[3].0 = "AUTH_TIMESTAMP".into();
        assert_eq!(check(&query, BODY, NOW), Ok(()));
    }

    #[test]
    fn timestamps_expire_after_600_s_on_both_sides() {
        assert_eq!(check(&documented(), BODY, NOW + 600), Ok(()));
        assert_eq!(check(&documented(), BODY, NOW - 600), Ok(()));
        assert_eq!(check(&documented(), BODY, NOW + 601), Err(AuthError::Timestamp { now_s: NOW + 601 }));
        assert_eq!(check(&documented(), BODY, NOW - 601), Err(AuthError::Timestamp { now_s: NOW - 601 }));
    }

    #[test]
    fn each_wrong_part_is_named() {
        let with = |i: usize, v: &str| {
            let mut query = documented();
            query[i].1 = v.into();
            query
        };
        assert_eq!(check(&with(0, "nobody"), BODY, NOW), Err(AuthError::UnknownKey));
        assert_eq!(check(&with(1, "soon"), BODY, NOW), Err(AuthError::Timestamp { now_s: NOW }));
        assert_eq!(check(&with(2, "2.0"), BODY, NOW), Err(AuthError::Version));
        assert_eq!(check(&documented(), b"{}", NOW), Err(AuthError::BodyMd5));
        assert!(matches!(check(&with(4, "00"), BODY, NOW), Err(AuthError::Signature { .. })));
        for i in 0..5 {
            let mut query = documented();
            let (name, _) = query.remove(i);
            assert!(matches!(check(&query, BODY, NOW), Err(AuthError::Missing(n)) if n == name));
        }
    }
}
