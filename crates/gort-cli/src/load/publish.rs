//! A publisher sends signed requests over one HTTP connection. Each event has its time in the plan,
//! which does not depend on when the last answer came.

use crate::load::client::source;
use crate::load::error::LoadError;
use crate::load::event::{EVENT, make_data};
use crate::load::tally::Tally;
use crate::plan::LoadPlan;
use crate::rt;
use crate::rt::net::{self, TcpStream};
use gort_hub::auth;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// An event that is further behind its plan than this is not sent.
const BEHIND_MAX: Duration = Duration::from_secs(10);

/// The result of one publisher.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Events the hub accepted, by channel.
    pub(super) accepted: Vec<(usize, u64)>,
    /// Events that were not sent, because the hub was too slow.
    pub(super) unsent: u64,
}

/// Publishes the events of the channels `me`, `me + of`, …. Each channel has one publisher, so that
/// the order of its events is defined.
pub(super) fn publish(
    plan: &LoadPlan,
    tally: &Tally,
    names: &[String],
    me: usize,
    of: usize,
    start: Instant,
) -> Result<Published, LoadError> {
    let total = (f64::from(plan.rate) * plan.duration.as_secs_f64()).round() as u64;
    let mut http = Http::connect(plan)?;
    let mut accepted: Vec<(usize, u64)> =
        (me..plan.channels).step_by(of).map(|channel| (channel, 0)).collect();
    let mut unsent = 0;
    for i in 0..total {
        let channel = (i % plan.channels as u64) as usize;
        if channel % of != me {
            continue;
        }
        let intended = start + Duration::from_secs_f64(i as f64 / f64::from(plan.rate));
        rt::sleep_until(intended);
        if intended.elapsed() > BEHIND_MAX {
            unsent += 1;
            continue;
        }
        let count = &mut accepted[channel / of].1;
        let data = make_data(*count, tally.ns_of(intended), plan.payload);
        http.post(plan, &names[channel], &data)?;
        *count += 1;
        tally.published();
    }
    Ok(Published { accepted, unsent })
}

struct Http {
    stream: TcpStream,
    path: String,
}

impl Http {
    fn connect(plan: &LoadPlan) -> Result<Http, LoadError> {
        let io = |source| LoadError::Connect { addr: plan.addr, source };
        let stream = net::TcpStream::connect_from(source(0, 1, plan.addr), plan.addr).map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        Ok(Http { stream, path: format!("/apps/{}/events", auth::percent_encode(&plan.app.id)) })
    }

    fn post(&mut self, plan: &LoadPlan, channel: &str, data: &str) -> Result<(), LoadError> {
        let body = serde_json::json!({"name": EVENT, "channel": channel, "data": data}).to_string();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let (app, path) = (&plan.app, &self.path);
        let query = auth::signed_query(&app.key, &app.secret, "POST", path, body.as_bytes(), now_s);
        let request = format!(
            "POST {path}?{query} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            plan.addr,
            body.len()
        );
        let answer = self
            .stream
            .set_read_deadline(Some(Instant::now() + ANSWER_TIMEOUT))
            .and_then(|()| (&self.stream).write_all(request.as_bytes()))
            .and_then(|()| self.answer());
        match answer {
            Ok((200, _)) => Ok(()),
            Ok((status, body)) => Err(LoadError::Publish(format!("HTTP {status}: {}", body.trim()))),
            Err(e) => Err(LoadError::Publish(e.to_string())),
        }
    }

    fn answer(&self) -> io::Result<(u16, String)> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
        let mut bytes = Vec::new();
        loop {
            let mut small = [0; 1024];
            let n = (&self.stream).read(&mut small)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(&small[..n]);
            let mut headers = vec![httparse::EMPTY_HEADER; 32];
            let mut response = httparse::Response::new(&mut headers);
            let head_len = match response.parse(&bytes) {
                Ok(httparse::Status::Complete(n)) => n,
                Ok(httparse::Status::Partial) if bytes.len() < 8192 => continue,
                _ => return Err(bad("the answer is not HTTP")),
            };
            let length = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
            let length = length.and_then(|h| std::str::from_utf8(h.value).ok()?.trim().parse::<usize>().ok());
            let length =
                length.filter(|n| *n < 1 << 20).ok_or_else(|| bad("the answer has no content-length"))?;
            if bytes.len() >= head_len + length {
                let body = String::from_utf8_lossy(&bytes[head_len..head_len + length]).into_owned();
                return Ok((response.code.unwrap_or(0), body));
            }
        }
    }
}
