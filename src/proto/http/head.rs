//! The head of a request: request line and fields (RFC 9112 sections 2 to 6).
//!
//! httparse checks the grammar of a head; what it lets pass and a strict server must not (bare LF, any number of empty
//! lines in front, everything about Host and body length) is refused here.

use std::mem::MaybeUninit;

use super::error::HeadError;
use super::framing::{BodyLength, Framing};
use super::is_token_byte;
use super::method::{Method, Version};
use super::target::is_authority;

/// The most field lines that a head may have.
pub const MAX_HEADERS: usize = 100;

/// Empty lines tolerated before a request line (RFC 9112 section 2.2 asks for one at least).
const MAX_LEADING_EMPTY_LINES: usize = 2;

/// Stands for a field value that is not UTF-8: it still counts as a line, and equals nothing that is ever expected.
const UNREADABLE: &str = "\u{FFFD}";

/// A request's head, borrowed from the bytes that it was read from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head<'b> {
    pub method: Method,
    pub version: Version,
    /// As sent, still percent-encoded. Begins with `/`; or is `*` (OPTIONS), or `host:port` (CONNECT).
    pub path: &'b str,
    /// As sent, without the `?`.
    pub query: Option<&'b str>,
    /// The authority asked for, valid and with its port, but perhaps empty: of the request target if it names one
    /// (RFC 9112 section 3.2.2), otherwise of the Host field. `None` only in HTTP/1.0.
    pub host: Option<&'b str>,
    pub origin: Option<&'b str>,
    pub body: BodyLength,
    /// Never true in HTTP/1.0, which is answered and closed.
    pub keep_alive: bool,
    /// A body is announced, and held back until [`CONTINUE`](super::CONTINUE) has been sent.
    pub expect_continue: bool,
    /// Content-Type is `application/json`, with or without parameters.
    pub json: bool,
    /// The field lines, each with its CRLF, known to be well-formed.
    fields: &'b [u8],
}

impl<'b> Head<'b> {
    /// The values of all fields of this name (any case), in order, without the white space around them. A value that is
    /// not UTF-8 comes as one replacement character.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'b str> {
        let mut rest = self.fields;
        std::iter::from_fn(move || {
            let end = memchr::memchr(b'\n', rest)? + 1;
            let (line, behind) = rest.split_at(end);
            rest = behind;
            Some(line)
        })
        .filter_map(move |line| {
            let (field, value) = line.split_at(memchr::memchr(b':', line)?);
            field.eq_ignore_ascii_case(name.as_bytes()).then(|| text(value[1..].trim_ascii()))
        })
    }

    /// Whether a comma-separated list names `token`, in any case, over all fields of the name: `Connection: Upgrade`.
    pub fn has_token(&self, header: &str, token: &str) -> bool {
        self.headers(header).any(|value| list(value).any(|element| element.eq_ignore_ascii_case(token)))
    }
}

/// Parses the head that `input` begins with, and says how many bytes it took; `None` while its end has not arrived.
///
/// `scanned` is 0 for a new head and otherwise what the call before left in it: how far the end has been looked for, so
/// that a head sent byte by byte costs linear work. It is 0 again when a head has been returned. `max_bytes` bounds the
/// head with the empty line behind it. Allocates nothing.
pub fn parse_head<'b>(
    input: &'b [u8],
    scanned: &mut usize,
    max_bytes: usize,
) -> Result<Option<(Head<'b>, usize)>, HeadError> {
    let window = &input[..input.len().min(max_bytes)];
    match find_head(window, scanned)? {
        Some((start, end)) => {
            *scanned = 0;
            Ok(Some((parse_complete(&window[start..end])?, end)))
        }
        None if input.len() >= max_bytes => Err(HeadError::TooLarge),
        None => Ok(None),
    }
}

/// Where the head begins, behind empty lines, and where it ends. Bare LF is refused here and not left to the parser:
/// who ends lines so sends no CRLF CRLF to wait for.
fn find_head(input: &[u8], scanned: &mut usize) -> Result<Option<(usize, usize)>, HeadError> {
    let mut start = 0;
    while input[start..].starts_with(b"\r\n") {
        start += 2;
        if start > 2 * MAX_LEADING_EMPTY_LINES {
            return Err(HeadError::BadRequest("empty lines before the request"));
        }
    }
    match &input[start..] {
        [] | [b'\r'] => return Ok(None),
        [first, ..] if is_token_byte(*first) => {}
        _ => return Err(HeadError::BadRequest("not an HTTP request")),
    }
    let from = start.max(*scanned).min(input.len());
    for line_feed in memchr::memchr_iter(b'\n', &input[from..]).map(|at| from + at) {
        // The first byte is no line end, so both bytes looked at belong to this head.
        if input[line_feed - 1] != b'\r' {
            return Err(HeadError::BadRequest("a line that does not end with CRLF"));
        }
        if input[line_feed - 2] == b'\n' {
            return Ok(Some((start, line_feed + 1)));
        }
    }
    *scanned = input.len();
    Ok(None)
}

fn parse_complete(head: &[u8]) -> Result<Head<'_>, HeadError> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(HeadError::BadRequest("the head does not end where it should")),
        Err(error) => return Err(refusal(error, head)),
    }
    let (Some(token), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(HeadError::BadRequest("the request line is incomplete"));
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };

    let mut framing = Framing::default();
    let (mut host, mut origin, mut content_type) = (None, None, None);
    let (mut close, mut expects, mut expects_other) = (false, false, false);
    for line in request.headers.iter() {
        let named = |name: &str| line.name.eq_ignore_ascii_case(name);
        if named("host") {
            only_once(&mut host, line.value, "more than one Host")?;
        } else if named("content-length") {
            framing.content_length(line.value)?;
        } else if named("transfer-encoding") {
            framing.transfer_encoding(line.value)?;
        } else if named("connection") {
            close |= list(text(line.value)).any(|option| option.eq_ignore_ascii_case("close"));
        } else if named("expect") {
            for expectation in list(text(line.value)) {
                let known = expectation.eq_ignore_ascii_case("100-continue");
                expects |= known;
                expects_other |= !known;
            }
        } else if named("content-type") {
            only_once(&mut content_type, line.value, "more than one Content-Type")?;
        } else if named("origin") {
            only_once(&mut origin, line.value, "more than one Origin")?;
        }
    }

    let body = framing.body_length(version)?;
    match host {
        None if version == Version::Http11 => return Err(HeadError::BadRequest("Host is missing")),
        Some(host) if !host.is_empty() && !is_authority(host) => {
            return Err(HeadError::BadRequest("Host is not a host and port"));
        }
        _ => {}
    }
    let method = Method::from_token(token).ok_or(HeadError::NotImplemented("the method is not known"))?;
    let target = Target::parse(target, method)?;
    // An HTTP/1.0 client knows no interim answer: its expectation is ignored (RFC 9110 section 10.1.1).
    let expects_in_11 = version == Version::Http11;
    if expects_other && expects_in_11 {
        return Err(HeadError::ExpectationFailed);
    }
    let fields_at = memchr::memchr(b'\n', head).map_or(head.len(), |line_feed| line_feed + 1);
    Ok(Head {
        method,
        version,
        path: target.path,
        query: target.query,
        host: target.authority.or(host),
        origin,
        body,
        keep_alive: version == Version::Http11 && !close,
        expect_continue: expects
            && expects_in_11
            && !matches!(body, BodyLength::None | BodyLength::Exactly(0)),
        json: content_type.is_some_and(is_json),
        fields: &head[fields_at..head.len() - 2],
    })
}

/// The request target, in the four forms of RFC 9112 section 3.2.
struct Target<'b> {
    authority: Option<&'b str>,
    path: &'b str,
    query: Option<&'b str>,
}

impl<'b> Target<'b> {
    fn parse(target: &'b str, method: Method) -> Result<Self, HeadError> {
        // What no URI may have (RFC 3986 section 2): `\` for one is read as `/` by some.
        if target.bytes().any(|byte| !byte.is_ascii_graphic() || b"#\"<>\\^`{|}".contains(&byte)) {
            return Err(HeadError::BadRequest("the request target has a character that must be encoded"));
        }
        if method == Method::Connect {
            let is_host_and_port =
                is_authority(target) && target.ends_with(|last: char| last.is_ascii_digit());
            return match target.rsplit_once(':') {
                Some(_) if is_host_and_port => {
                    Ok(Self { authority: Some(target), path: target, query: None })
                }
                _ => Err(HeadError::BadRequest("the target of CONNECT is not host:port")),
            };
        }
        if target.starts_with('/') {
            return Ok(Self::split(None, target, method));
        }
        if target == "*" && method == Method::Options {
            return Ok(Self { authority: None, path: target, query: None });
        }
        let Some((scheme, rest)) = target.split_once("://") else {
            return Err(HeadError::BadRequest("the request target is no path"));
        };
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(HeadError::BadRequest("the request target is of another scheme"));
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if !is_authority(authority) {
            return Err(HeadError::BadRequest("the request target names no host"));
        }
        Ok(Self::split(Some(authority), path, method))
    }

    fn split(authority: Option<&'b str>, path: &'b str, method: Method) -> Self {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let path = match path {
            // RFC 9112 section 3.2.4: a proxy's way to write asterisk-form.
            "" if method == Method::Options && query.is_none() => "*",
            "" => "/",
            path => path,
        };
        Self { authority, path, query }
    }
}

fn refusal(error: httparse::Error, head: &[u8]) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooLarge,
        httparse::Error::Version if names_another_version(head) => HeadError::VersionNotSupported,
        httparse::Error::Version => {
            HeadError::BadRequest("the request line does not end with an HTTP version")
        }
        httparse::Error::HeaderName => HeadError::BadRequest("a field name cannot be read"),
        httparse::Error::HeaderValue => HeadError::BadRequest("a field value cannot be read"),
        httparse::Error::NewLine => HeadError::BadRequest("a line that does not end with CRLF"),
        httparse::Error::Token | httparse::Error::Status => {
            HeadError::BadRequest("the request line cannot be read")
        }
    }
}

/// Tells HTTP/2.0, which is well-formed, from junk and from a target with a space in it.
fn names_another_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    match line.splitn(3, |&byte| byte == b' ').nth(2) {
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]) => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

fn only_once<'b>(slot: &mut Option<&'b str>, value: &'b [u8], twice: &'static str) -> Result<(), HeadError> {
    match slot.replace(text(value)) {
        None => Ok(()),
        Some(_) => Err(HeadError::BadRequest(twice)),
    }
}

fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).unwrap_or(UNREADABLE)
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim_ascii).filter(|element| !element.is_empty())
}

fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case("application/json")
}
