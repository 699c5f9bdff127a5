//! The HTTP API: publishing, health, counters and the page.

use crate::auth;
use crate::client::Patience;
use crate::http::{Request, Response, percent_decode};
use crate::log::line;
use crate::protocol::{self, Publish};
use crate::shared::Shared;
use crate::stats::add;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const PAGE: &str = include_str!("page.html");

/// The only channel that is signed for the page.
const PAGE_CHANNEL: &str = "private-page-chat";

pub(crate) fn handle(
    hub: &Arc<Shared>,
    request: &Request,
    peer: SocketAddr,
    patience: &mut Patience,
) -> Response {
    let reading = matches!(request.method.as_str(), "GET" | "HEAD");
    let only = |allow: &'static str| Response::text(405, allow).header(allow);
    match request.path.as_str() {
        "/healthz" if reading && hub.is_draining() => Response::text(503, "draining"),
        "/healthz" if reading => Response::text(200, "ok"),
        "/stats.json" if reading => {
            let stats = serde_json::to_string(&hub.stats()).expect("numbers are JSON");
            Response::json(stats).header("cache-control: no-store")
        }
        "/" if reading && hub.common.config.page => {
            // A JSON string is a JavaScript string as well. In a page it must not look like the end
            // of the script.
            let key = serde_json::Value::from(hub.common.config.app.key.as_str())
                .to_string()
                .replace('<', "\\u003c");
            let page = PAGE.replace("{{KEY}}", &key).replace("{{CHANNEL}}", PAGE_CHANNEL);
            Response::new(200, "text/html; charset=utf-8", page.into_bytes())
        }
        "/page/auth" if hub.common.config.page => match request.method.as_str() {
            "POST" => page_auth(hub, request),
            _ => only("allow: POST"),
        },
        "/healthz" | "/stats.json" | "/" if !reading => only("allow: GET, HEAD"),
        // An id may have a slash, sent as %2F. So this looks at the path as it was sent.
        _ => match request.raw_path.strip_prefix("/apps/").and_then(|rest| rest.split_once('/')) {
            Some((app_id, "events")) => match request.method.as_str() {
                "POST" => {
                    let response = publish(hub, request, &percent_decode(app_id, false), patience);
                    let (status, why) = (response.status(), response.first_line());
                    match status {
                        200 => {}
                        401 | 403 => {
                            line!(hub.common.log.auth, warn, %peer, status, ?why, "refused an event")
                        }
                        _ => line!(hub.common.log.limits, warn, %peer, status, ?why, "refused an event"),
                    }
                    response
                }
                _ => only("allow: POST"),
            },
            _ => Response::text(404, "this path is not served"),
        },
    }
}

/// Whether a request can only get a 200 if its sender knows the secret.
pub(crate) fn is_signed(request: &Request) -> bool {
    request.raw_path.starts_with("/apps/")
}

/// Signs the page's channel for everyone: the page is a place to try the hub, and open to all who
/// can reach it.
fn page_auth(hub: &Shared, request: &Request) -> Response {
    #[derive(Deserialize)]
    struct Ask {
        socket_id: String,
    }
    match serde_json::from_slice::<Ask>(&request.body) {
        Ok(Ask { socket_id }) if protocol::parse_socket_id(&socket_id).is_ok() => {
            let app = &hub.common.config.app;
            let auth = auth::channel_auth(&app.key, &app.secret, &socket_id, PAGE_CHANNEL);
            Response::json(serde_json::json!({ "auth": auth }).to_string())
        }
        _ => Response::text(400, "the body must be {\"socket_id\": \"123.456\"}"),
    }
}

fn publish(hub: &Shared, request: &Request, app_id: &str, patience: &mut Patience) -> Response {
    let app = &hub.common.config.app;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let signed_as = |path: &str| {
        let Request { method, query, body, .. } = request;
        auth::check_request(&app.key, &app.secret, method, path, query, body, now_s)
    };
    // Some libraries sign the path as it is before percent-encoding.
    let signed = signed_as(&request.raw_path).or_else(|e| signed_as(&request.path).map_err(|_| e));
    if let Err(e) = signed {
        return Response::text(401, &e.to_string());
    }
    if app_id != app.id {
        return Response::text(403, &format!("the key belongs to app {}, not to {app_id}", app.id));
    }
    let event: Publish = match serde_json::from_slice(&request.body) {
        Ok(event) => event,
        Err(e) => return Response::text(400, &format!("the body is not an event: {e}")),
    };
    match check(&event, hub.common.config.max_event_data_bytes) {
        Err((status, why)) => Response::text(status, &why),
        Ok(Checked { channels, except }) => {
            add(&hub.common.counters.published, 1);
            for channel in channels {
                let frame = protocol::event_frame(&event.name, Some(channel), &event.data);
                hub.channels.publish(channel, &frame, except, patience);
            }
            Response::json("{}".into())
        }
    }
}

#[derive(Debug)]
struct Checked<'a> {
    channels: Vec<&'a str>,
    except: Option<protocol::SocketId>,
}

fn check(event: &Publish, max_data: usize) -> Result<Checked<'_>, (u16, String)> {
    let refuse = |why: String| Err((400, why));
    let channels: Vec<&str> = match (&event.channels, &event.channel) {
        (Some(channels), None) => channels.iter().map(String::as_str).collect(),
        (None, Some(channel)) => vec![channel],
        _ => return refuse("an event needs either channel or channels".into()),
    };
    if !(1..=protocol::MAX_CHANNELS_PER_EVENT).contains(&channels.len()) {
        let most = protocol::MAX_CHANNELS_PER_EVENT;
        let n = channels.len();
        return refuse(format!("an event goes to 1 to {most} channels; this one names {n}"));
    }
    if let Some(bad) = channels.iter().find(|name| !protocol::is_channel_name(name)) {
        return refuse(format!("{bad:?} is not a channel name"));
    }
    if !(1..=protocol::MAX_EVENT_NAME).contains(&event.name.len()) {
        return refuse(format!("an event name has 1 to {} bytes", protocol::MAX_EVENT_NAME));
    }
    if protocol::is_reserved(&event.name) {
        return refuse(format!(
            "{:?} is reserved: names that begin with pusher: or pusher_internal: are the protocol's",
            event.name
        ));
    }
    if event.data.len() > max_data {
        return Err((
            413,
            format!("the data of an event has at most {max_data} bytes; this one has {}", event.data.len()),
        ));
    }
    let except = match event.socket_id.as_deref().map(protocol::parse_socket_id) {
        None => None,
        Some(Ok(id)) => id,
        Some(Err(e)) => return refuse(e.to_string()),
    };
    Ok(Checked { channels, except })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(body: &str, status: u16, about: &str) {
        let event: Publish = serde_json::from_str(body).unwrap();
        let (got, why) = check(&event, 100).unwrap_err();
        assert_eq!(got, status, "{why}");
        assert!(why.contains(about), "{why}");
    }

    #[test]
    fn bad_events_are_refused() {
        check_refused(r#"{"name":"e","data":""}"#, 400, "channels");
        check_refused(r#"{"name":"e","data":"","channel":"a","channels":["a"]}"#, 400, "either");
        check_refused(r#"{"name":"e","data":"","channels":[]}"#, 400, "names 0");
        let many = vec!["a"; 101];
        check_refused(&serde_json::json!({"name":"e","data":"","channels":many}).to_string(), 400, "101");
        check_refused(r#"{"name":"e","data":"","channel":"a b"}"#, 400, "\"a b\"");
        check_refused(r#"{"name":"","data":"","channel":"a"}"#, 400, "event name");
        check_refused(r#"{"name":"e","data":"","channel":"a","socket_id":"x"}"#, 400, "socket_id");
        check_refused(r#"{"name":"pusher:error","data":"","channel":"a"}"#, 400, "pusher:");
        check_refused(r#"{"name":"pusher_internal:x","data":"","channel":"a"}"#, 400, "pusher_internal:");
        let long = "x".repeat(101);
        check_refused(&serde_json::json!({"name":"e","data":long,"channel":"a"}).to_string(), 413, "101");
    }

    #[test]
    fn an_event_for_a_hundred_channels() {
        let many = vec!["a"; 100];
        let event: Publish = serde_json::from_value(
            serde_json::json!({"name":"e","data":"x","channels":many,"socket_id":"1.2"}),
        )
        .unwrap();
        let checked = check(&event, 100).unwrap();
        assert_eq!(checked.channels.len(), 100);
        assert_eq!(checked.except.unwrap().to_string(), "1.2");
    }
}
