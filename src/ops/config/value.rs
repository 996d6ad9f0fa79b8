//! From a TOML value to the place that its key sets, or to what is wrong with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use log::LevelFilter;
use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::Fault;
use super::keys::{Key, Place};
use crate::limits::{LogFormat, Settings};

type Value<'i> = Spanned<DeValue<'i>>;

/// Durations below this would be rounded away somewhere.
const MIN_SECONDS: f64 = 0.001;

/// Checks `value` and puts it into the place of `key`; on error nothing is changed.
pub fn set(key: &Key, value: &Value<'_>, settings: &mut Settings) -> Result<(), Fault> {
    let here = |what: String| Fault::bad_value(key, value.span().start, what);
    match (key.place)(settings) {
        Place::Seconds(place) => *place = seconds(value, key.max).map_err(here)?,
        Place::SecondsOrZero(place) => {
            *place = if is_zero(value) { Duration::ZERO } else { seconds(value, key.max).map_err(here)? };
        }
        Place::SecondsOrOff(place) => {
            *place = if is_zero(value) { None } else { Some(seconds(value, key.max).map_err(here)?) };
        }
        Place::Whole(place) => *place = whole(value, key.max).map_err(here)?,
        Place::WholeOrOff(place) => {
            *place = if is_zero(value) { None } else { Some(whole(value, key.max).map_err(here)?) };
        }
        Place::Size(place) => *place = whole(value, key.max).map_err(here)?,
        Place::SizeOrZero(place) => {
            *place = if is_zero(value) { 0 } else { whole(value, key.max).map_err(here)? };
        }
        Place::SizeOrOff(place) => {
            *place = if is_zero(value) { None } else { Some(whole(value, key.max).map_err(here)?) };
        }
        Place::Addresses(place) => *place = addresses(key, value)?,
        Place::Origins(place) => *place = each(key, list(key, value)?, origin)?,
        Place::Level(place) => *place = level(value).map_err(here)?,
        Place::Format(place) => *place = format(value).map_err(here)?,
    }
    Ok(())
}

fn is_zero(value: &Value<'_>) -> bool {
    number(value).is_ok_and(|number| number == 0.0)
}

/// The value as a float, exact up to 2^53 and so for all that a key allows.
fn number(value: &Value<'_>) -> Result<f64, String> {
    let number = match value.get_ref() {
        DeValue::Integer(integer) => {
            i128::from_str_radix(integer.as_str(), integer.radix()).ok().map(|integer| integer as f64)
        }
        DeValue::Float(float) => float.as_str().parse().ok(),
        DeValue::String(_) => return Err("a number is needed, without quotes and without a unit".to_owned()),
        other => return Err(format!("a number is needed, this is {}", article(other))),
    };
    number.filter(|number| number.is_finite()).ok_or_else(|| "is no number that could be used".to_owned())
}

fn seconds(value: &Value<'_>, max: u64) -> Result<Duration, String> {
    let number = number(value)?;
    if (MIN_SECONDS..=max as f64).contains(&number) {
        Ok(Duration::from_secs_f64(number))
    } else {
        Err(out_of_range(number))
    }
}

fn whole<T: TryFrom<u64>>(value: &Value<'_>, max: u64) -> Result<T, String> {
    let number = number(value)?;
    if value.get_ref().is_float() {
        return Err(format!("{number} must be a whole number, without point or exponent"));
    }
    if !(1.0..=max as f64).contains(&number) {
        return Err(out_of_range(number));
    }
    T::try_from(number as u64).map_err(|_| out_of_range(number))
}

fn out_of_range(number: f64) -> String {
    match number {
        0.0 => "0 is not 'off' here".to_owned(),
        _ => format!("{number} is out of range"),
    }
}

fn article(value: &DeValue<'_>) -> String {
    let name = value.type_str();
    let article = if name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {name}")
}

fn string<'v>(value: &'v Value<'_>) -> Result<&'v DeString<'v>, String> {
    match value.get_ref() {
        DeValue::String(string) => Ok(string),
        other => Err(format!("a string in quotes is needed, this is {}", article(other))),
    }
}

fn list<'v, 'i>(key: &Key, value: &'v Value<'i>) -> Result<&'v [Value<'i>], Fault> {
    let fault = |what| Fault::bad_value(key, value.span().start, what);
    let DeValue::Array(list) = value.get_ref() else {
        return Err(fault(format!("a list is needed, this is {}", article(value.get_ref()))));
    };
    let list: &[Value<'i>] = list;
    if list.len() as u64 > key.max {
        return Err(fault(format!("{} entries are too many", list.len())));
    }
    Ok(list)
}

/// Reads each string of a list; a fault stands at the entry that has it, and so does the second of two equal ones.
fn each<T: PartialEq>(
    key: &Key,
    list: &[Value<'_>],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Fault> {
    let mut all = Vec::with_capacity(list.len());
    for value in list {
        let one = string(value).and_then(|text| read(text));
        let one =
            one.and_then(|one| if all.contains(&one) { Err("is there twice".to_owned()) } else { Ok(one) });
        all.push(one.map_err(|what| Fault::bad_value(key, value.span().start, what))?);
    }
    Ok(all)
}

fn addresses(key: &Key, value: &Value<'_>) -> Result<Vec<SocketAddr>, Fault> {
    if value.get_ref().is_str() {
        return each(key, std::slice::from_ref(value), address);
    }
    let list = list(key, value)?;
    if list.is_empty() {
        return Err(Fault::bad_value(key, value.span().start, "an empty list listens nowhere".to_owned()));
    }
    each(key, list, address)
}

/// An address and port. Names are not looked up, because what they stand for can change under a running daemon;
/// only `localhost` is known, and is 127.0.0.1.
fn address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    let address = match local.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
        Some(address) => address,
        None => text.parse().map_err(|_| match text.parse::<IpAddr>() {
            Ok(_) => format!("{text:?} lacks a port"),
            Err(_) => format!(
                "{text:?} is no address with a port, like 127.0.0.1:7000, [::1]:7000 or localhost:7000"
            ),
        })?,
    };
    if address.ip().to_canonical().is_loopback() {
        return Ok(address);
    }
    Err(format!(
        "{text} is off loopback, and without keys and TLS everyone there could connect; \
         both are not supported yet in this version"
    ))
}

/// An origin as browsers send it (RFC 6454, section 6.2): lower case, no path, no default port.
fn origin(text: &str) -> Result<String, String> {
    let wrong = |what: &str| Err(format!("{text:?} {what}"));
    let Some((scheme, authority)) = text.split_once("://") else {
        return wrong("is no origin, like https://app.example.com");
    };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !scheme_ok {
        return wrong("has no valid scheme before '://'");
    }
    let (host, port) = split_port(authority);
    let host_ok = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    };
    if !host_ok {
        return wrong("has no valid host (no path, no slash at the end, no '*'; other scripts in Punycode)");
    }
    if let Some(port) = port {
        let valid = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
        let Some(number) = port.parse::<u16>().ok().filter(|_| valid) else {
            return wrong("has no valid port");
        };
        let default = scheme.eq_ignore_ascii_case("https") && number == 443
            || scheme.eq_ignore_ascii_case("http") && number == 80;
        if default {
            return wrong("names the default port, which browsers leave out; leave it out too");
        }
    }
    Ok(text.to_ascii_lowercase())
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // The colons inside of [::1] belong to the address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn level(value: &Value<'_>) -> Result<LevelFilter, String> {
    match string(value)?.as_ref() {
        "error" => Ok(LevelFilter::Error),
        "warn" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        "debug" => Ok(LevelFilter::Debug),
        "trace" => Ok(LevelFilter::Trace),
        other => Err(format!("{other:?} is no level")),
    }
}

fn format(value: &Value<'_>) -> Result<LogFormat, String> {
    match string(value)?.as_ref() {
        "logfmt" => Ok(LogFormat::Logfmt),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("{other:?} is no format")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_loopback_only() {
        for good in ["127.0.0.1:0", "127.9.9.9:7000", "[::1]:7000", "[::ffff:127.0.0.1]:7000"] {
            assert_eq!(address(good), Ok(good.parse().unwrap()));
        }
        assert_eq!(address("localhost:7000"), Ok("127.0.0.1:7000".parse().unwrap()));
        for off in ["0.0.0.0:7000", "[::]:7000", "192.0.2.1:7000", "[::ffff:10.0.0.1]:1", "[fe80::1%2]:7000"]
        {
            assert!(address(off).unwrap_err().contains("keys and TLS"), "{off}");
        }
        for bad in
            ["", "7000", ":7000", "127.0.0.1", "localhost", "localhost:70000", "example.com:7000", "::1:7000"]
        {
            let error = address(bad).unwrap_err();
            assert!(error.contains("port"), "{bad}: {error}");
        }
    }

    #[test]
    fn origins_are_what_a_browser_sends() {
        for good in
            ["https://a", "https://app.example.com:8443", "http://[::1]:3000", "capacitor://localhost"]
        {
            assert_eq!(origin(good).as_deref(), Ok(good));
        }
        assert_eq!(origin("HTTPS://App.Example.com").as_deref(), Ok("https://app.example.com"));
        let bad = [
            "",
            "*",
            "null",
            "app.example.com",
            "https://",
            "https://a/",
            "https://a/b",
            "https://*.example.com",
            "https://u@a",
            "https://a:",
            "https://a:0",
            "https://a:70000",
            "https://a:+80",
            "https://a:443",
            "http://a:80",
            "https://[::g]",
            "https://b\u{fc}cher.example",
            "1http://a",
            "https://a b",
        ];
        for bad in bad {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
