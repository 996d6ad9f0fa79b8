//! Texts that name things: percent-encoding, query strings, hosts and origins (RFC 3986, RFC 6454).

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A `%` that two hex digits do not follow, or bytes that are not UTF-8 when decoded, in a query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEscape<'q> {
    /// The parameter's name as sent. The value is left out: it may be a credential.
    pub name: &'q str,
}

/// Decodes `%XX`, once. `None` if an escape is bad or the result is not UTF-8.
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    let Some(first) = memchr::memchr(b'%', text.as_bytes()) else {
        return Some(Cow::Borrowed(text));
    };
    let (plain, mut rest) = text.as_bytes().split_at(first);
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(plain);
    while let [byte, behind @ ..] = rest {
        rest = behind;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let [high, low, behind @ ..] = behind else { return None };
        decoded.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
        rest = behind;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The parameters of a query string, in order, each decoded once: cut at `&`, then at the first `=`; one without `=` has
/// an empty value; empty pieces are skipped.
///
/// A `+` stays a `+`, as in RFC 3986: these are not HTML forms, and a space is in no charset of the contract.
pub fn query_pairs(query: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), BadEscape<'_>>> {
    query.split('&').filter(|piece| !piece.is_empty()).map(|piece| {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        match (percent_decode(name), percent_decode(value)) {
            (Some(name), Some(value)) => Ok((name, value)),
            _ => Err(BadEscape { name }),
        }
    })
}

/// The host of an authority, without the port and without the brackets of an IPv6 address. Hosts compare without case.
pub fn host_name(authority: &str) -> &str {
    if let Some(literal) = authority.strip_prefix('[') {
        return literal.split_once(']').map_or(literal, |(address, _)| address);
    }
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

/// Whether a host, as [`host_name`] gives it, is an IP address or `localhost`: what no DNS server can point elsewhere.
pub fn is_address_or_localhost(host_without_port: &str) -> bool {
    host_without_port.eq_ignore_ascii_case("localhost")
        || host_without_port.parse::<Ipv4Addr>().is_ok()
        || host_without_port.parse::<Ipv6Addr>().is_ok()
}

/// The host of a serialized origin (`scheme://host[:port]`) as [`host_name`] gives it; `None` for `null` and for junk.
pub fn origin_host(origin: &str) -> Option<&str> {
    let (scheme, authority) = origin.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    (is_scheme && is_authority(authority)).then(|| host_name(authority))
}

/// Whether a text is `host[:port]` with a host that is not empty and no userinfo (RFC 3986 section 3.2).
pub(super) fn is_authority(text: &str) -> bool {
    let (is_host, port) = match text.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
            None => return false,
        },
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (is_registered_name(host), port)
        }
    };
    is_host && is_port(port)
}

/// Nothing, or a colon and digits: `host:` is legal and means the default port.
fn is_port(text: &str) -> bool {
    let is_number =
        |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok();
    matches!(text, "" | ":") || text.strip_prefix(':').is_some_and(is_number)
}

/// Without percent-encoding, which the RFC allows: a name in it could be read in two ways, and no DNS name needs it.
fn is_registered_name(host: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte);
    !host.is_empty() && host.bytes().all(is_name_byte)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_decoded_once() {
        assert!(matches!(percent_decode("plain"), Some(Cow::Borrowed("plain"))));
        assert_eq!(percent_decode("%61%2Fb%c3%A4+").as_deref(), Some("a/bä+"));
        assert_eq!(percent_decode("%2541").as_deref(), Some("%41"));
        for bad in ["%", "%4", "%4x", "%x4", "%+1", "a%", "%ff", "%c3"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_query_is_cut_into_pairs() {
        let pairs: Result<Vec<_>, _> = query_pairs("&a=1&&b=x=y&c&=v&d=%26%3D&e=a+b&").collect();
        let pairs = pairs.unwrap();
        let expected = [("a", "1"), ("b", "x=y"), ("c", ""), ("", "v"), ("d", "&="), ("e", "a+b")];
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(pairs, expected);
        assert_eq!(query_pairs("").count(), 0);
        assert_eq!(query_pairs("token=%zz").next(), Some(Err(BadEscape { name: "token" })));
        assert_eq!(query_pairs("%ff=1").next(), Some(Err(BadEscape { name: "%ff" })));
    }

    #[test]
    fn hosts_lose_port_and_brackets() {
        for (authority, host) in
            [("a.b:80", "a.b"), ("a.b", "a.b"), ("a:", "a"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("", "")]
        {
            assert_eq!(host_name(authority), host);
        }
    }

    #[test]
    fn addresses_and_localhost_are_told_from_names() {
        for host in ["127.0.0.1", "10.1.2.3", "::1", "::ffff:127.0.0.1", "localhost", "LocalHost"] {
            assert!(is_address_or_localhost(host), "{host}");
        }
        for host in [
            "",
            "localhost.",
            "a.localhost",
            "127.1",
            "0x7f.0.0.1",
            "127.0.0.1.example",
            "[::1]",
            "fe80::1%1",
        ] {
            assert!(!is_address_or_localhost(host), "{host}");
        }
    }

    #[test]
    fn an_origin_has_a_host_or_is_junk() {
        assert_eq!(origin_host("http://a.example"), Some("a.example"));
        assert_eq!(origin_host("https://a.example:8443"), Some("a.example"));
        assert_eq!(origin_host("http://[::1]:7002"), Some("::1"));
        assert_eq!(origin_host("capacitor://localhost"), Some("localhost"));
        for junk in [
            "null",
            "",
            "file://",
            "a.example",
            "://a",
            "http://",
            "http://a/",
            "http://a?b",
            "http://u@a",
            "http://a b",
            "http://a:x",
            "1x://a",
            "http://a, http://b",
            "\u{FFFD}",
        ] {
            assert_eq!(origin_host(junk), None, "{junk}");
        }
    }

    #[test]
    fn authorities_are_checked() {
        for good in ["a", "a-b.c_d", "1.2.3.4", "a:0", "a:65535", "a:", "[::1]", "[2001:db8::1]:443"] {
            assert!(is_authority(good), "{good}");
        }
        for bad in [
            "",
            ":80",
            "u@a",
            "u:p@a",
            "a b",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:8x",
            "a:1:2",
            "::1",
            "[]",
            "[::1",
            "[::1]x",
            "[1.2.3.4]",
            "[::1]:x",
            "a/b",
            "a?b",
            "a\"b",
            "ä",
            "%",
            "x%2dy",
            "a\\b",
        ] {
            assert!(!is_authority(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(text in ".*") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let decoded = percent_decode(&encoded);
            prop_assert_eq!(decoded.as_deref(), Some(&*text));
        }

        #[test]
        fn nothing_panics(text in "[%a-f0-9&=:/\\[\\]@ä.]*") {
            percent_decode(&text);
            query_pairs(&text).count();
            host_name(&text);
            is_address_or_localhost(&text);
            origin_host(&text);
            is_authority(&text);
        }
    }
}
