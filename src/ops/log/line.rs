//! One log record as a line of logfmt or JSON. Nothing is allocated, and no value can end its line or its quotes.

use std::fmt::{self, Display, Write};
use std::time::SystemTime;

use log::kv::{self, Key, Value, VisitSource, VisitValue};
use time::OffsetDateTime;

use crate::limits::LogFormat;

/// The longest a value may be, in bytes before escaping; the rest is cut, with an ellipsis in its place.
const MAX_VALUE_BYTES: usize = 4096;

/// Writes the record without a line end: `ts level target msg`, then its own fields.
pub fn write(
    out: &mut dyn Write,
    format: LogFormat,
    now: SystemTime,
    record: &log::Record<'_>,
) -> fmt::Result {
    let mut line = Line { out, format };
    match format {
        LogFormat::Logfmt => line.out.write_str("ts=")?,
        LogFormat::Json => line.out.write_str("{\"ts\":\"")?,
    }
    timestamp(line.out, now)?;
    if format == LogFormat::Json {
        line.out.write_char('"')?;
    }
    let level = match record.level() {
        log::Level::Error => "error",
        log::Level::Warn => "warn",
        log::Level::Info => "info",
        log::Level::Debug => "debug",
        log::Level::Trace => "trace",
    };
    line.text("level", &level)?;
    line.text("target", &record.target())?;
    line.key("msg")?;
    line.quoted(record.args())?;
    record.key_values().visit(&mut line).map_err(|_| fmt::Error)?;
    if format == LogFormat::Json { line.out.write_char('}') } else { Ok(()) }
}

/// RFC 3339 in UTC with milliseconds.
fn timestamp(out: &mut dyn Write, now: SystemTime) -> fmt::Result {
    let t = OffsetDateTime::from(now);
    let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
    write!(out, "{year:04}-{month:02}-{day:02}T")?;
    write!(out, "{:02}:{:02}:{:02}.{:03}Z", t.hour(), t.minute(), t.second(), t.millisecond())
}

struct Line<'a> {
    out: &'a mut dyn Write,
    format: LogFormat,
}

impl Line<'_> {
    fn key(&mut self, key: &str) -> fmt::Result {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
        match self.format {
            LogFormat::Logfmt => {
                self.out.write_char(' ')?;
                key.chars().try_for_each(|c| self.out.write_char(plain(c)))?;
                self.out.write_char('=')
            }
            LogFormat::Json => {
                self.out.write_str(",\"")?;
                key.chars().try_for_each(|c| self.out.write_char(plain(c)))?;
                self.out.write_str("\":")
            }
        }
    }

    fn text(&mut self, key: &str, value: &dyn Display) -> fmt::Result {
        self.key(key)?;
        self.value(value)
    }

    /// In logfmt quoted only if it has to be.
    fn value(&mut self, value: &dyn Display) -> fmt::Result {
        match self.format {
            LogFormat::Logfmt if Bare::is(value) => write!(self.out, "{value}"),
            _ => self.quoted(value),
        }
    }

    fn quoted(&mut self, value: &dyn Display) -> fmt::Result {
        self.out.write_char('"')?;
        write!(Escaped { out: self.out, left: MAX_VALUE_BYTES, cut: false }, "{value}")?;
        self.out.write_char('"')
    }
}

impl<'kvs> VisitSource<'kvs> for Line<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.key(key.as_str())?;
        value.visit(FieldValue(self))
    }
}

/// Numbers and truth are not strings in JSON.
struct FieldValue<'l, 'a>(&'l mut Line<'a>);

impl VisitValue<'_> for FieldValue<'_, '_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        Ok(self.0.value(&value)?)
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(self.0.out.write_str("null")?)
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        Ok(write!(self.0.out, "{value}")?)
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        Ok(write!(self.0.out, "{value}")?)
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        if value.is_finite() { Ok(write!(self.0.out, "{value}")?) } else { Ok(self.0.value(&value)?) }
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        Ok(write!(self.0.out, "{value}")?)
    }
}

/// Finds out whether a value needs no quotes in logfmt: not empty, short, and only of characters that mean nothing.
struct Bare {
    left: usize,
}

impl Bare {
    fn is(value: &dyn Display) -> bool {
        let mut bare = Bare { left: MAX_VALUE_BYTES };
        write!(bare, "{value}").is_ok() && bare.left < MAX_VALUE_BYTES
    }
}

impl Write for Bare {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.:/@+-$*#[]".contains(&b);
        self.left = self.left.checked_sub(text.len()).ok_or(fmt::Error)?;
        if text.bytes().all(plain) { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Escapes as JSON does, and all control characters besides, so that no terminal obeys what a peer sent.
struct Escaped<'a> {
    out: &'a mut dyn Write,
    left: usize,
    cut: bool,
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.cut {
                break;
            }
            let Some(left) = self.left.checked_sub(c.len_utf8()) else {
                self.cut = true;
                return self.out.write_char('…');
            };
            self.left = left;
            match c {
                '"' => self.out.write_str("\\\"")?,
                '\\' => self.out.write_str("\\\\")?,
                '\n' => self.out.write_str("\\n")?,
                '\r' => self.out.write_str("\\r")?,
                '\t' => self.out.write_str("\\t")?,
                // Line and paragraph separators end a line for some readers.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    write!(self.out, "\\u{:04x}", c as u32)?;
                }
                c => self.out.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn line(format: LogFormat, message: fmt::Arguments<'_>, fields: &[(&str, Value<'_>)]) -> String {
        let now = UNIX_EPOCH + Duration::from_millis(1_795_284_000_123);
        let record = log::Record::builder()
            .level(log::Level::Info)
            .target("berth::reactor")
            .args(message)
            .key_values(&fields)
            .build();
        let mut out = String::new();
        write(&mut out, format, now, &record).unwrap();
        out
    }

    fn fields() -> Vec<(&'static str, Value<'static>)> {
        vec![
            ("n", Value::from(7)),
            ("ms", Value::from(1.5)),
            ("nan", Value::from(f64::NAN)),
            ("ok", Value::from(true)),
            ("router", Value::from("router-0001")),
            ("address", Value::from_display(&"[::1]:7000")),
            ("why", Value::from("a \"b\"\nc=d")),
            ("empty", Value::from("")),
            ("odd key\n", Value::from(-1)),
        ]
    }

    #[test]
    fn logfmt() {
        assert_eq!(
            line(LogFormat::Logfmt, format_args!("x {}", 1), &fields()),
            "ts=2026-11-21T18:00:00.123Z level=info target=berth::reactor msg=\"x 1\" n=7 ms=1.5 nan=NaN ok=true \
             router=router-0001 address=[::1]:7000 why=\"a \\\"b\\\"\\nc=d\" empty=\"\" odd_key_=-1"
        );
    }

    #[test]
    fn json() {
        let line = line(LogFormat::Json, format_args!("x \u{1b}[31m\u{85}\u{2028}\u{e4}"), &fields());
        assert_eq!(
            line,
            "{\"ts\":\"2026-11-21T18:00:00.123Z\",\"level\":\"info\",\"target\":\"berth::reactor\",\
             \"msg\":\"x \\u001b[31m\\u0085\\u2028\u{e4}\",\"n\":7,\"ms\":1.5,\"nan\":\"NaN\",\"ok\":true,\
             \"router\":\"router-0001\",\"address\":\"[::1]:7000\",\"why\":\"a \\\"b\\\"\\nc=d\",\"empty\":\"\",\
             \"odd_key_\":-1}"
        );
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["why"], "a \"b\"\nc=d");
    }

    #[test]
    fn long_values_are_cut() {
        let line = line(LogFormat::Logfmt, format_args!("{}|{}", "a".repeat(5000), "b"), &[]);
        assert!(line.ends_with(&format!("msg=\"{}…\"", "a".repeat(MAX_VALUE_BYTES))), "{line}");
    }
}
