//! HTTP/1.1 on one connection: just enough of it, and in our own hands, because the faults that
//! tests need (a body that stalls, stops or ends in a reset) are what HTTP libraries rule out.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::content::{COPY_BYTES, Content, Part};

/// Longest request head that is read.
const HEAD_LIMIT_BYTES: usize = 64 << 10;
/// Longest body that is read; a report carries the whole boot document.
const BODY_LIMIT_BYTES: u64 = 4 << 20;

/// A request as it came over the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Wire {
    fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    fn content_length(&self) -> u64 {
        self.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// The part that is asked for, unless it was of another version.
    fn part(&self, etag: &str, length: u64) -> Part {
        match self.header("if-range") {
            Some(version) if version != etag => Part::Whole,
            _ => Part::select(self.header("range"), length),
        }
    }
}

/// An answer before it is sent.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) content: Content,
    pub(super) framing: Framing,
    /// Whether parts of it can be asked for, with a name for this version of it.
    pub(super) ranges: bool,
    /// Whether the body is cut off after so many bytes, and how it goes on.
    pub(super) cut: Option<(u64, Ending)>,
}

impl Response {
    pub(super) fn new(status: u16, content: impl Into<Content>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content: content.into(),
            framing: Framing::Length,
            ranges: false,
            cut: None,
        }
    }

    pub(super) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
}

/// What happens to the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    KeepOpen,
    Stall,
    Close,
    Reset,
}

/// A connection, and what was read from it ahead of time.
pub(super) struct Connection<S> {
    stream: S,
    ahead: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// The next request; `None` when the client has closed.
    pub(super) async fn next(&mut self) -> io::Result<Option<Wire>> {
        loop {
            if let Some((mut wire, head_bytes)) = parse_head(&self.ahead)? {
                self.ahead.drain(..head_bytes);
                wire.body = self.read_body(wire.content_length()).await?;
                return Ok(Some(wire));
            }
            if self.ahead.len() > HEAD_LIMIT_BYTES {
                return Err(io::Error::other("request head is too long"));
            }
            if self.stream.read_buf(&mut self.ahead).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn read_body(&mut self, length: u64) -> io::Result<Vec<u8>> {
        if length > BODY_LIMIT_BYTES {
            return Err(io::Error::other("request body is too long"));
        }
        while (self.ahead.len() as u64) < length {
            if self.stream.read_buf(&mut self.ahead).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.ahead.split_off(length as usize);
        Ok(std::mem::replace(&mut self.ahead, rest))
    }

    /// Sends `response` to `request`; says what is to become of the connection.
    pub(super) async fn send(
        &mut self,
        request: &Wire,
        mut response: Response,
    ) -> io::Result<Ending> {
        let length = response.content.length().await?;
        let part = if response.ranges {
            let etag = response.content.etag().await?;
            let part = request.part(&etag, length);
            response = response.with_header("Accept-Ranges", "bytes").with_header("ETag", etag);
            part
        } else {
            Part::Whole
        };
        self.stream.write_all(head(&response, part, length).as_bytes()).await?;
        if request.method == "HEAD" || response.status == 204 || part == Part::Unsatisfiable {
            self.stream.flush().await?;
            return Ok(Ending::KeepOpen);
        }
        let (start, end) = match part {
            Part::Slice { start, end } => (start, end),
            Part::Whole | Part::Unsatisfiable => (0, length),
        };
        self.send_body(&response, start, end).await
    }

    async fn send_body(&mut self, response: &Response, start: u64, end: u64) -> io::Result<Ending> {
        let (limit, ending) = match response.cut {
            Some((after, ending)) if after < end - start => (after, ending),
            _ => (end - start, Ending::KeepOpen),
        };
        let mut source = response.content.open(start).await?.take(limit);
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let count = source.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            self.send_piece(response.framing, &buffer[..count]).await?;
        }
        if response.framing == Framing::Chunked && ending == Ending::KeepOpen {
            self.stream.write_all(b"0\r\n\r\n").await?;
        }
        self.stream.flush().await?;
        Ok(ending)
    }

    async fn send_piece(&mut self, framing: Framing, piece: &[u8]) -> io::Result<()> {
        if framing == Framing::Length {
            return self.stream.write_all(piece).await;
        }
        self.stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        self.stream.write_all(piece).await?;
        self.stream.write_all(b"\r\n").await
    }

    /// Sends nothing more and returns when the client goes away.
    pub(super) async fn stall(&mut self) -> io::Result<()> {
        let mut ignored = [0; 4096];
        while self.stream.read(&mut ignored).await? != 0 {}
        Ok(())
    }
}

fn head(response: &Response, part: Part, length: u64) -> String {
    let status = match part {
        Part::Whole => response.status,
        Part::Slice { .. } => 206,
        Part::Unsatisfiable => 416,
    };
    let mut head = format!("HTTP/1.1 {status} {}\r\nServer: vmtest\r\n", reason(status));
    for (name, value) in &response.headers {
        head += &format!("{name}: {value}\r\n");
    }
    match (response.framing, part) {
        (_, Part::Unsatisfiable) => {
            head += &format!("Content-Range: bytes */{length}\r\nContent-Length: 0\r\n");
        }
        (Framing::Chunked, _) => head += "Transfer-Encoding: chunked\r\n",
        (Framing::Length, Part::Whole) if status == 204 => {}
        (Framing::Length, Part::Whole) => head += &format!("Content-Length: {length}\r\n"),
        (Framing::Length, Part::Slice { start, end }) => {
            let last = end - 1;
            head += &format!("Content-Range: bytes {start}-{last}/{length}\r\n");
            head += &format!("Content-Length: {}\r\n", end - start);
        }
    }
    head + "\r\n"
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// The head and its length in bytes; `None` while it is incomplete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(Wire, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    let status = request.parse(bytes).map_err(io::Error::other)?;
    let httparse::Status::Complete(head_bytes) = status else { return Ok(None) };
    let headers = request
        .headers
        .iter()
        .map(|field| (field.name.to_owned(), String::from_utf8_lossy(field.value).into_owned()))
        .collect();
    let wire = Wire {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        headers,
        body: Vec::new(),
    };
    Ok(Some((wire, head_bytes)))
}

/// Decodes `application/x-www-form-urlencoded`.
pub(super) fn decode_form(body: &[u8]) -> Vec<(String, String)> {
    body.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let split = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let value = pair.get(split + 1..).unwrap_or_default();
            (percent_decode(&pair[..split]), percent_decode(value))
        })
        .collect()
}

fn percent_decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => match hex_pair(tail) {
                Some(byte) => {
                    bytes.push(byte);
                    rest = &tail[2..];
                }
                None => bytes.push(b'%'),
            },
            other => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_pair(text: &[u8]) -> Option<u8> {
    let pair = std::str::from_utf8(text.get(..2)?).ok()?;
    u8::from_str_radix(pair, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_field_by_field() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("message=success", &[("message", "success")]),
            (
                "message=error%3a+no+way&debug.config=%7B%7d",
                &[("message", "error: no way"), ("debug.config", "{}")],
            ),
            ("a&b=&c=100%", &[("a", ""), ("b", ""), ("c", "100%")]),
        ];
        for (text, expected) in table {
            let expected: Vec<_> =
                expected.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            assert_eq!(decode_form(text.as_bytes()), expected, "{text}");
        }
    }
}
