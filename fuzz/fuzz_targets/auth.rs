//! Signatures: the hub accepts its own, for the very request, and refuses all others.
#![no_main]

use gort_hub::auth::{channel_auth, channel_auth_is_valid, check_request, percent_encode, signed_query};
use libfuzzer_sys::fuzz_target;

struct Input<'a> {
    key: &'a str,
    secret: &'a str,
    method: &'a str,
    path: &'a str,
    body: &'a [u8],
}

/// The parts of the input, which are separated by bytes that are no UTF-8.
fn parts(data: &[u8]) -> Option<Input<'_>> {
    let mut parts = data.splitn(5, |byte| *byte == 0xff);
    let mut text = || std::str::from_utf8(parts.next()?).ok();
    let (key, secret, method, path) = (text()?, text()?, text()?, text()?);
    Some(Input { key, secret, method, path, body: parts.next()? })
}

/// Names and values, undecoded.
fn pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fuzz_target!(|data: &[u8]| {
    let Some(Input { key, secret, method, path, body }) = parts(data) else { return };
    let now = 1_000_000;

    // Any query, path and method.
    let _ = check_request(key, secret, method, path, &pairs(method), body, now);

    let mut query = pairs(&signed_query(key, secret, method, path, body, now));
    assert_eq!(query[0], ("auth_key".into(), percent_encode(key)));
    query[0].1 = key.into();
    assert_eq!(check_request(key, secret, method, path, &query, body, now), Ok(()));
    assert_eq!(check_request(key, secret, method, path, &query, body, now + 600), Ok(()));
    assert!(check_request(key, secret, method, path, &query, body, now + 601).is_err());
    let other = [body, b"x"].concat();
    assert!(check_request(key, secret, method, path, &query, &other, now).is_err());
    assert!(check_request(key, &format!("{secret}x"), method, path, &query, body, now).is_err());

    let auth = channel_auth(key, secret, method, path);
    assert!(channel_auth_is_valid(key, secret, method, path, &auth));
    assert!(!channel_auth_is_valid(key, &format!("{secret}x"), method, path, &auth));
});
