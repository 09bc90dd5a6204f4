//! The head of one HTTP/1 request, read with a limit and parsed strictly.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Most bytes of a request line and its headers: Prometheus sends about 300.
pub(super) const HEAD_BYTES_MAX: usize = 8 * 1024;

/// What matters of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The path without its query.
    pub(super) path: String,
    /// The query, without its question mark.
    pub(super) query: String,
    /// False for HEAD.
    pub(super) with_body: bool,
}

impl Request {
    /// The whole number that the query gives for `key`.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key)?.1.parse().ok()
    }
}

/// A request that is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    #[error("the request line is not \"GET /path HTTP/1.1\"")]
    Malformed,
    #[error("only GET and HEAD are served here")]
    Method,
    #[error("the request's head is longer than {HEAD_BYTES_MAX} bytes")]
    TooLong,
    #[error("only HTTP/1.0 and HTTP/1.1 are served here")]
    Version,
}

impl RequestError {
    pub(super) const fn status(self) -> u16 {
        match self {
            RequestError::Malformed => 400,
            RequestError::Method => 405,
            RequestError::TooLong => 431,
            RequestError::Version => 505,
        }
    }

    pub(super) const fn phrase(self) -> &'static str {
        match self {
            RequestError::Malformed => "Bad Request",
            RequestError::Method => "Method Not Allowed",
            RequestError::TooLong => "Request Header Fields Too Large",
            RequestError::Version => "HTTP Version Not Supported",
        }
    }
}

/// Reads to the empty line that ends the head. `Err(None)` when the client closed first or the connection broke.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Request, Option<RequestError>> {
    let mut head = Vec::with_capacity(1024);
    let mut part = [0; 1024];
    loop {
        let count = match stream.read(&mut part).await {
            Ok(0) | Err(_) => return Err(None),
            Ok(count) => count,
        };
        // The end may straddle two reads: look again at the last three bytes.
        let search_from = head.len().saturating_sub(3);
        head.extend_from_slice(&part[..count]);
        if let Some(end) = head[search_from..].windows(4).position(|four| four == b"\r\n\r\n") {
            let end = search_from + end;
            let request = if end > HEAD_BYTES_MAX { Err(RequestError::TooLong) } else { parse(&head[..end]) };
            return request.map_err(Some);
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(Some(RequestError::TooLong));
        }
    }
}

/// Parses a head without its empty line. Headers are not looked at: no page depends on one.
fn parse(head: &[u8]) -> Result<Request, RequestError> {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = core::str::from_utf8(line).map_err(|_| RequestError::Malformed)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(RequestError::Malformed);
    };
    if !version.starts_with("HTTP/") || method.is_empty() || !target.starts_with('/') {
        return Err(RequestError::Malformed);
    }
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return Err(RequestError::Version);
    }
    let with_body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return Err(RequestError::Method),
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Request { path: path.to_owned(), query: query.to_owned(), with_body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_head_is_read_whole_however_it_arrives() {
        let text = b"GET /metrics?debug=1 HTTP/1.1\r\nHost: x\r\n\r\nrest";
        for split in 1..text.len() {
            let mut stream = (&text[..split]).chain(&text[split..]);
            let request = read(&mut stream).await.unwrap();
            assert_eq!(
                (request.path.as_str(), request.query.as_str()),
                ("/metrics", "debug=1"),
                "split {split}"
            );
            assert!(request.with_body);
            assert_eq!((request.number("debug"), request.number("bug")), (Some(1), None));
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_named() {
        let cases: [(&[u8], Option<RequestError>); 9] = [
            (b"", None),
            (b"GET / HTTP/1.1\r\n", None),
            (b"\r\n\r\n", Some(RequestError::Malformed)),
            (b"GET /metrics\r\n\r\n", Some(RequestError::Malformed)),
            (b"GET  / HTTP/1.1\r\n\r\n", Some(RequestError::Malformed)),
            (b"GET /\xff HTTP/1.1\r\n\r\n", Some(RequestError::Malformed)),
            (b"GET http://x/ HTTP/1.1\r\n\r\n", Some(RequestError::Malformed)),
            (b"PUT / HTTP/1.1\r\n\r\n", Some(RequestError::Method)),
            (b"PRI / HTTP/2.0\r\n\r\n", Some(RequestError::Version)),
        ];
        for (mut text, error) in cases {
            assert_eq!(read(&mut text).await.unwrap_err(), error, "{}", String::from_utf8_lossy(text));
        }
        let endless = vec![b'a'; HEAD_BYTES_MAX + 1];
        assert_eq!(read(&mut endless.as_slice()).await.unwrap_err(), Some(RequestError::TooLong));
    }
}
