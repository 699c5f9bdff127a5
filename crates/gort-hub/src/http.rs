//! The part of HTTP/1.1 that the handshake, the API and a page need. httparse parses the heads, and
//! every part of a request has a limit.
//!
//! A connection that waits for its next request holds no buffer.

use crate::rt::net::TcpStream;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

const MAX_HEADERS: usize = 64;
/// The most bytes of the line before a chunk, which has the chunk's length and may have extensions.
const MAX_CHUNK_LINE: usize = 1024;

/// How large a request may be and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) head_bytes: usize,
    pub(crate) body_bytes: usize,
    pub(crate) request_timeout: Duration,
}

/// A request with its body. Only the headers that the hub uses are kept.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Percent-decoded.
    pub(crate) path: String,
    /// The path as it was sent, which is what a sender signs.
    pub(crate) raw_path: String,
    /// Names and values, percent-decoded.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: Option<Upgrade>,
}

/// The headers of a request that asks to become a WebSocket.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Upgrade {
    pub(crate) key: Option<String>,
    pub(crate) version: Option<String>,
}

impl Request {
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// There is no request; the response says why. It is `None` if the peer is gone or has sent
/// nothing, so that there is no one to answer.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Option<Response>);

fn refuse(status: u16, text: &str) -> Refused {
    Refused(Some(Response::text(status, text).close()))
}

/// Reads the requests of one connection.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    stream: &'a TcpStream,
    limits: Limits,
    /// Bytes that were read and not yet used.
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(stream: &'a TcpStream, limits: Limits) -> Reader<'a> {
        Reader { stream, limits, buffer: Vec::new() }
    }

    /// The bytes after the last request. A WebSocket client that did not wait for the answer has
    /// sent them.
    pub(crate) fn into_rest(self) -> Vec<u8> {
        self.buffer
    }

    /// The next request. `arm` sets the read deadline: `idle_until` for the first byte, and then
    /// the request time-out for the rest.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    pub(crate) fn next(&mut self, idle_until: Instant, arm: impl Fn(Instant)) -> Result<Request, Refused> {
        if self.buffer.is_empty() {
            arm(idle_until);
            match self.fill() {
                Ok(n) if n > 0 => {}
                _ => return Err(Refused(None)),
            }
        }
        arm(Instant::now() + self.limits.request_timeout);
        let (mut request, body, continue_100) = loop {
            if let Some(head) = parse_head(&self.buffer)? {
                let Head { request, head_len, body, continue_100 } = head;
                self.buffer.drain(..head_len);
                break (request, body, continue_100);
            }
            if self.buffer.len() >= self.limits.head_bytes {
                return Err(refuse(431, "the head of the request is too large"));
            }
            self.fill_or_refuse()?;
        };
        let go_on = || {
            if continue_100 {
                let _ = (&mut &*self.stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        };
        request.body = match body {
            Body::Length(len) => {
                let len = self.within_limit(len)?;
                if self.buffer.len() < len {
                    go_on();
                }
                self.take(len)?
            }
            Body::Chunked => {
                if self.buffer.is_empty() {
                    go_on();
                }
                self.take_chunks()?
            }
        };
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        Ok(request)
    }

    fn within_limit(&self, len: u64) -> Result<usize, Refused> {
        let most = self.limits.body_bytes;
        let too_large = || refuse(413, &format!("the body may have at most {most} bytes"));
        usize::try_from(len).ok().filter(|len| *len <= most).ok_or_else(too_large)
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, Refused> {
        while self.buffer.len() < len {
            self.fill_or_refuse()?;
        }
        let rest = self.buffer.split_off(len);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// A body in chunks (RFC 9112, 7.1). Each chunk follows its length, and the last one is empty.
    /// Then come trailers, which are ignored, and an empty line.
    fn take_chunks(&mut self) -> Result<Vec<u8>, Refused> {
        let malformed = || refuse(400, "the chunks of the body are malformed");
        let mut body = Vec::new();
        loop {
            let (line_len, chunk_len) = loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete(size)) => break size,
                    Ok(httparse::Status::Partial) if self.buffer.len() < MAX_CHUNK_LINE => {
                        self.fill_or_refuse()?;
                    }
                    _ => return Err(malformed()),
                }
            };
            self.take(line_len)?;
            if chunk_len == 0 {
                break;
            }
            let len = self.within_limit(chunk_len.saturating_add(body.len() as u64))? - body.len();
            body.extend_from_slice(&self.take(len)?);
            if self.take(2)? != b"\r\n" {
                return Err(malformed());
            }
        }
        let mut trailers = 0;
        loop {
            let line = match self.buffer.iter().position(|b| *b == b'\n') {
                Some(end) => self.take(end + 1)?,
                None if self.buffer.len() < self.limits.head_bytes => {
                    self.fill_or_refuse()?;
                    continue;
                }
                None => return Err(malformed()),
            };
            trailers += line.len();
            if line == b"\r\n" {
                return Ok(body);
            }
            if trailers > self.limits.head_bytes {
                return Err(malformed());
            }
        }
    }

    fn fill_or_refuse(&mut self) -> Result<(), Refused> {
        match self.fill() {
            Ok(0) => Err(Refused(None)),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                Err(refuse(408, "the request took too long to arrive"))
            }
            Err(_) => Err(Refused(None)),
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut small = [0; 1024];
        let mut stream = self.stream;
        let n = stream.read(&mut small)?;
        self.buffer.extend_from_slice(&small[..n]);
        Ok(n)
    }
}

#[derive(Debug)]
struct Head {
    request: Request,
    head_len: usize,
    body: Body,
    continue_100: bool,
}

/// How long a body is.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked,
}

#[inline(never)]
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, Refused> {
    // On the heap, to keep the stack of the connection small: that is what an idle one costs.
    let mut headers = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let head_len = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(refuse(431, "too many headers")),
        Err(e) => return Err(refuse(400, &format!("this is not an HTTP request: {e}"))),
    };
    let minor = parsed.version.expect("complete");
    let target = parsed.path.expect("complete");
    let (raw_path, raw_query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: parsed.method.expect("complete").to_string(),
        path: percent_decode(raw_path, false),
        raw_path: raw_path.to_string(),
        query: parse_query(raw_query),
        keep_alive: minor >= 1,
        ..Request::default()
    };
    let mut upgrade = Upgrade::default();
    let (mut wants_upgrade, mut says_websocket) = (false, false);
    let mut body_len = None;
    let mut chunked = false;
    let mut continue_100 = false;
    for header in parsed.headers {
        let value = String::from_utf8_lossy(header.value);
        let value = value.trim();
        let has = |token: &str| value.split(',').any(|t| t.trim().eq_ignore_ascii_case(token));
        match header.name.to_ascii_lowercase().as_str() {
            "connection" => {
                wants_upgrade |= has("upgrade");
                if has("close") {
                    request.keep_alive = false;
                } else if has("keep-alive") {
                    request.keep_alive = true;
                }
            }
            "upgrade" => says_websocket |= has("websocket"),
            "sec-websocket-key" => upgrade.key = Some(value.to_string()),
            "sec-websocket-version" => upgrade.version = Some(value.to_string()),
            "content-length" => {
                let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                let len = value.parse::<u64>().ok().filter(|_| digits);
                let len = len.ok_or_else(|| refuse(400, "content-length is not a number"))?;
                // Two different ones can smuggle a request past a proxy.
                if body_len.is_some_and(|before| before != len) {
                    return Err(refuse(400, "two different content-lengths"));
                }
                body_len = Some(len);
            }
            "transfer-encoding" if !chunked && minor >= 1 && value.eq_ignore_ascii_case("chunked") => {
                chunked = true
            }
            "transfer-encoding" => {
                return Err(refuse(501, "the only transfer-encoding that is served is chunked"));
            }
            "expect" => continue_100 |= has("100-continue"),
            _ => {}
        }
    }
    if wants_upgrade && says_websocket && minor >= 1 {
        request.upgrade = Some(upgrade);
    }
    let body = match (chunked, body_len) {
        (false, len) => Body::Length(len.unwrap_or(0)),
        (true, None) => Body::Chunked,
        // This can smuggle a request as well.
        (true, Some(_)) => return Err(refuse(400, "both content-length and transfer-encoding")),
    };
    Ok(Some(Head { request, head_len, body, continue_100 }))
}

fn parse_query(raw: &str) -> Vec<(String, String)> {
    raw.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(name, true), percent_decode(value, true))
        })
        .collect()
}

/// Decodes `%41` to `A`. What is not a valid escape stays as it is.
pub(crate) fn percent_decode(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let escape = tail.split_at_checked(2).filter(|_| byte == b'%');
        match escape.and_then(|(digits, after)| hex::decode(digits).ok().map(|b| (b[0], after))) {
            Some((decoded, after)) => {
                bytes.push(decoded);
                rest = after;
            }
            None if byte == b'+' && plus_is_space => bytes.push(b' '),
            None => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    status: u16,
    content_type: &'static str,
    body: std::borrow::Cow<'static, [u8]>,
    extra: &'static str,
    close: bool,
}

impl Response {
    pub(crate) fn new(
        status: u16,
        content_type: &'static str,
        body: impl Into<std::borrow::Cow<'static, [u8]>>,
    ) -> Response {
        Response { status, content_type, body: body.into(), extra: "", close: false }
    }

    pub(crate) fn text(status: u16, line: &str) -> Response {
        Response::new(status, "text/plain; charset=utf-8", format!("{line}\n").into_bytes())
    }

    pub(crate) fn json(body: String) -> Response {
        Response::new(200, "application/json", body.into_bytes())
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// The first line of the body, for a log.
    pub(crate) fn first_line(&self) -> String {
        String::from_utf8_lossy(&self.body).lines().next().unwrap_or("").chars().take(200).collect()
    }

    /// Sets an additional header, which is a whole line.
    pub(crate) fn header(mut self, line: &'static str) -> Response {
        self.extra = line;
        self
    }

    /// Ends the connection after this answer.
    pub(crate) fn close(mut self) -> Response {
        self.close = true;
        self
    }

    /// The bytes to send, and whether the connection goes on after them.
    pub(crate) fn encode(&self, keep_alive: bool, head_only: bool) -> (Vec<u8>, bool) {
        let keep_alive = keep_alive && !self.close;
        let mut head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\n",
            self.status,
            reason(self.status),
            self.content_type,
            self.body.len()
        );
        if !self.extra.is_empty() {
            let _ = write!(head, "{}\r\n", self.extra);
        }
        head.push_str(if keep_alive {
            "connection: keep-alive\r\n\r\n"
        } else {
            "connection: close\r\n\r\n"
        });
        let mut bytes = head.into_bytes();
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        (bytes, keep_alive)
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        parse_head(text.as_bytes()).unwrap_or_else(|e| panic!("{e:?}")).expect("a whole head")
    }

    fn check_refused(text: &str, status: u16) {
        match parse_head(text.as_bytes()) {
            Err(Refused(Some(response))) => assert_eq!(response.status, status, "{text:?}"),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn paths_and_queries_are_decoded() {
        let request = head("GET /app/k%41?protocol=7&a=b%20c+d&&e HTTP/1.1\r\nHost: x\r\n\r\n").request;
        assert_eq!((request.path.as_str(), request.raw_path.as_str()), ("/app/kA", "/app/k%41"));
        assert_eq!(request.query("a"), Some("b c d"));
        assert_eq!(request.query("e"), Some(""));
        assert_eq!(request.query("f"), None);
        assert_eq!(percent_decode("100%", true), "100%");
        assert_eq!(percent_decode("%zz%4", true), "%zz%4");
    }

    #[test]
    fn keep_alive_by_version_and_by_header() {
        assert!(head("GET / HTTP/1.1\r\n\r\n").request.keep_alive);
        assert!(!head("GET / HTTP/1.0\r\n\r\n").request.keep_alive);
        assert!(!head("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").request.keep_alive);
        assert!(head("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").request.keep_alive);
    }

    #[test]
    fn upgrades() {
        let request = head(
            "GET / HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
             Sec-WebSocket-Key: abc\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .request;
        assert_eq!(request.upgrade, Some(Upgrade { key: Some("abc".into()), version: Some("13".into()) }));
        assert!(head("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n").request.upgrade.is_none());
    }

    #[test]
    fn bad_requests_are_refused() {
        check_refused("\x16\x03\x01\x02\x00\r\n\r\n", 400);
        check_refused("GET\r\n\r\n", 400);
        check_refused("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400);
        check_refused("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400);
        check_refused("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400);
        check_refused("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501);
        check_refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 501);
        check_refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400);
        check_refused(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65)), 431);
    }
}
