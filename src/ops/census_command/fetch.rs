//! One `GET /v1/census?audit=1`, with a bound on everything.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// For the connection to be made, and again for the whole answer to come.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// A longer answer is no census, in bytes.
const MAX_ANSWER_BYTES: usize = 16 << 20;
const MAX_FIELDS: usize = 64;

/// The body of the answer.
///
/// # Errors
/// Nobody there, no answer in time, or not this one; as text that says what to check.
pub fn census(address: SocketAddr) -> Result<String, String> {
    let answer = exchange(address, TIME_LIMIT).map_err(|error| advice(address, &error))?;
    let (status, body) = parse(&answer).ok_or_else(|| {
        format!("{address} does not answer in HTTP: is that the daemon's http.bind, or another service?")
    })?;
    match status {
        200 => Ok(body),
        401 => Err(format!(
            "{address} asks for a token (401): is that this version's daemon, and this configuration?"
        )),
        _ => {
            Err(format!("{address} answers {status}, {}: is that the daemon's http.bind?", first_line(&body)))
        }
    }
}

/// Sends the request and reads to the end, all of it within `limit` once it is connected.
fn exchange(address: SocketAddr, limit: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, TIME_LIMIT)?;
    let deadline = Instant::now() + limit;
    stream.set_write_timeout(Some(limit))?;
    // Made anew because the text of a link-local address would have its scope in it, which Host may not.
    let host = SocketAddr::new(address.ip(), address.port());
    write!(stream, "GET /v1/census?audit=1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut chunk = vec![0; 65_536];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(answer),
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() > MAX_ANSWER_BYTES {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "an answer of more than 16 MiB"));
        }
    }
}

fn advice(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => format!(
            "nobody listens on {address}: is the daemon running, and with this http.bind? \
             Give --config FILE if it has one"
        ),
        // A read past its time is WouldBlock, a connection attempt TimedOut.
        ErrorKind::TimedOut | ErrorKind::WouldBlock => format!(
            "no answer from {address} within {} s: does the daemon still turn (GET /healthz)? Is that its http.bind?",
            TIME_LIMIT.as_secs()
        ),
        _ => format!("{address}: {error}; is the daemon running, and is that its http.bind?"),
    }
}

/// Status and body of a whole answer; `None` if it is none.
fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let body = match head.parse(answer) {
        Ok(httparse::Status::Complete(length)) => &answer[length..],
        _ => return None,
    };
    let length = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length: Option<usize> =
        length.and_then(|field| std::str::from_utf8(field.value).ok()?.trim().parse().ok());
    let body = body.get(..length.unwrap_or(body.len()))?;
    Some((head.code?, String::from_utf8_lossy(body).into_owned()))
}

/// Enough of a body of somebody's to be recognised, and nothing that a terminal would act on.
fn first_line(body: &str) -> String {
    body.lines().next().unwrap_or_default().chars().filter(|letter| !letter.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// A server that says `answer` once, whatever it is asked, and then closes or holds on to the connection.
    fn serve(answer: &'static str, closes: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            if closes {
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            }
            // Until the other side closes: a reset would take the answer with it.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        address
    }

    #[test]
    fn the_body_of_a_good_answer() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
        assert_eq!(census(serve(answer, true)), Ok("{}".to_owned()));
    }

    #[test]
    fn other_answers_say_who_gave_them_and_what() {
        for (answer, expected) in [
            ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "asks for a token (401)"),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n\x1b[31mnone\n", "answers 404, [31mnone:"),
            ("SSH-2.0-OpenSSH\r\n", "does not answer in HTTP"),
            ("", "does not answer in HTTP"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}", "does not answer in HTTP"),
        ] {
            let address = serve(answer, true);
            let error = census(address).unwrap_err();
            assert!(error.starts_with(&address.to_string()) && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn nobody_there_and_no_end() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = census(address).unwrap_err();
        assert!(error.contains(&format!("nobody listens on {address}")), "{error}");

        let address = serve("HTTP/1.1 200 OK\r\n", false);
        let error = exchange(address, Duration::from_millis(50)).unwrap_err();
        assert!(advice(address, &error).starts_with("no answer from"), "{error:?}");
    }
}
