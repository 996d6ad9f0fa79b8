//! A blocking HTTP/1.1 client that shows what was on the wire: raw bytes out, one response at a time in.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long a read waits unless told otherwise: far beyond what a healthy daemon takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Name and value pairs, sent as they stand.
pub type Headers<'a> = &'a [(&'a str, &'a str)];

/// One response, with its body decoded from Content-Length or chunked framing (RFC 9112 section 6).
#[derive(Clone)]
pub struct Response {
    /// `HTTP/1.1` or what else the status line begins with.
    pub version: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, whose name is compared without case. Panics when it stands there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values =
            self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} stands twice in {:?}", self.headers);
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: no JSON in {self:?}"))
    }

    /// Whether the server says that this is its last response on the connection.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Asserts an RFC 9457 problem with all the members of contract section 3, and returns it.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["code"], code, "{problem}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        problem
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(1000)]);
        write!(f, "{} {} {:?} {body:?}", self.version, self.status, self.headers)
    }
}

/// One connection. Bytes that came behind a response are kept for the next one.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffered: Vec<u8>,
    host: String,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("connect"))
    }

    /// A connection that was made with options of its own.
    pub fn over(stream: TcpStream) -> Self {
        let host = stream.peer_addr().expect("a peer").to_string();
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("read timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("write timeout");
        Self { stream, buffered: Vec::new(), host }
    }

    pub fn set_patience(&mut self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("read timeout");
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends raw bytes; a daemon that has closed meanwhile is no error here, it shows when reading.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends `bytes` until the server has taken nothing for a second. Panics when it takes all, or closes.
    #[track_caller]
    pub fn send_until_stalled(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.set_write_timeout(Some(Duration::from_secs(1))).expect("write timeout");
        let sent = self.stream.write_all(bytes.as_ref());
        self.stream.set_write_timeout(Some(PATIENCE)).expect("write timeout");
        match sent {
            Err(error) if is_timeout(&error) => {}
            Err(error) => panic!("the connection ended: {error}"),
            Ok(()) => panic!("all of it was taken"),
        }
    }

    /// Sends a request with `Host`, and `Content-Length` when there is a body.
    pub fn send_request(&mut self, method: &str, target: &str, headers: Headers, body: &[u8]) {
        let request = encode_request(&self.host, method, target, headers, body);
        self.send(request);
    }

    /// Sends a request and reads its response.
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, headers: Headers, body: &[u8]) -> Response {
        self.send_request(method, target, headers, body);
        self.response_to(method).unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    /// FIN: nothing more will be sent.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shutdown");
    }

    /// The next response to anything but HEAD. Interim (1xx) responses are returned like any other.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET").unwrap_or_else(|error| panic!("no response: {error}"))
    }

    /// The head of the next response alone; its body is then taken piece by piece, with [`Client::chunk`] or
    /// [`Client::take`].
    pub fn head(&mut self) -> io::Result<Response> {
        parse_head(&self.take_until(b"\r\n\r\n")?)
    }

    /// The next response to `method`, or `UnexpectedEof` when the server closed, or `WouldBlock` when it is silent.
    pub fn response_to(&mut self, method: &str) -> io::Result<Response> {
        let mut response = self.head()?;
        let bodyless = method == "HEAD" || response.status / 100 == 1 || matches!(response.status, 204 | 304);
        if bodyless {
            return Ok(response);
        }
        if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            response.body = self.take_chunked()?;
        } else {
            let length = response.header("content-length").map(str::parse::<usize>);
            let length = length.ok_or_else(|| invalid("a response without a length"))?;
            response.body = self.take(length.map_err(|_| invalid("a bad Content-Length"))?)?;
        }
        Ok(response)
    }

    /// Asserts that the server closes, with nothing more said before.
    #[track_caller]
    pub fn expect_close(&mut self) {
        let rest = self.read_to_close();
        assert!(rest.is_empty(), "more before the close: {}", String::from_utf8_lossy(&rest));
    }

    /// Everything until FIN (or RST, which a peer that sent too much may get).
    #[track_caller]
    pub fn read_to_close(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("the server did not close: {error}, had {:?}", self.text_so_far()),
            }
        }
        std::mem::take(&mut self.buffered)
    }

    /// Asserts that nothing comes for `time`, and that the connection stays open.
    #[track_caller]
    pub fn expect_silence(&mut self, time: Duration) {
        self.set_patience(time);
        let read = self.fill();
        self.set_patience(PATIENCE);
        assert!(self.buffered.is_empty(), "{:?}", self.text_so_far());
        let error = read.expect_err("bytes");
        assert!(is_timeout(&error), "{error}");
    }

    fn text_so_far(&self) -> String {
        String::from_utf8_lossy(&self.buffered).into_owned()
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16_384];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.buffered.extend_from_slice(&chunk[..n]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for `count` bytes and leaves them where they are, so that a timeout loses none.
    pub fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.buffered.len() < count {
            self.fill()?;
        }
        Ok(&self.buffered[..count])
    }

    /// Takes exactly `count` bytes.
    pub fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        self.peek(count)?;
        let rest = self.buffered.split_off(count);
        Ok(std::mem::replace(&mut self.buffered, rest))
    }

    /// Takes everything up to and including `end`.
    fn take_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            let found = self.buffered[searched..].windows(end.len()).position(|window| window == end);
            if let Some(at) = found {
                return self.take(searched + at + end.len());
            }
            searched = self.buffered.len().saturating_sub(end.len() - 1);
            self.fill()?;
        }
    }

    fn take_chunked(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk()? {
            body.extend(chunk);
        }
        Ok(body)
    }

    /// The next chunk of a chunked body, or `None` for the last one, with the end of the body behind it taken too.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.take_until(b"\r\n")?;
        let size = std::str::from_utf8(&line[..line.len() - 2]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or_else(|| invalid("a bad chunk size"))?;
        let data = self.take(size)?;
        match (self.take(2)?.as_slice(), size) {
            (b"\r\n", 0) => Ok(None),
            (b"\r\n", _) => Ok(Some(data)),
            (_, 0) => Err(invalid("trailers, which nobody asked for")),
            _ => Err(invalid("a chunk without its line end")),
        }
    }
}

/// One request on a connection of its own.
#[track_caller]
pub fn request(address: SocketAddr, method: &str, target: &str, headers: Headers, body: &[u8]) -> Response {
    Client::connect(address).request(method, target, headers, body)
}

#[track_caller]
pub fn get(address: SocketAddr, target: &str) -> Response {
    request(address, "GET", target, &[], b"")
}

/// The bytes of a request. `Host` and `Content-Length` are added when `headers` has none of its own.
pub fn encode_request(host: &str, method: &str, target: &str, headers: Headers, body: &[u8]) -> Vec<u8> {
    let named = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let mut request = format!("{method} {target} HTTP/1.1\r\n");
    if !named("host") {
        request.push_str(&format!("Host: {host}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !(body.is_empty() && method != "POST" || named("content-length") || named("transfer-encoding")) {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    [request.as_bytes(), body].concat()
}

/// Whether a read ended because its time was over.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn parse_head(head: &[u8]) -> io::Result<Response> {
    let text = std::str::from_utf8(head).map_err(|_| invalid("a head that is not ASCII"))?;
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let (version, rest) = status_line.split_once(' ').ok_or_else(|| invalid(status_line))?;
    let status = rest.get(..3).and_then(|status| status.parse().ok()).ok_or_else(|| invalid(status_line))?;
    // RFC 9112 section 4: the space behind the code stands even before an empty reason.
    if rest.as_bytes().get(3) != Some(&b' ') {
        return Err(invalid(status_line));
    }
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| invalid(line))?;
        if name.is_empty() || name.contains(char::is_whitespace) || value.contains(['\r', '\n']) {
            return Err(invalid(line));
        }
        headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok(Response { version: version.to_owned(), status, headers, body: Vec::new() })
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not HTTP/1.1: {what}"))
}
