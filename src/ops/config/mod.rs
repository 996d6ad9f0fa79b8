//! The configuration file: TOML into [`Settings`], every fault of it with line and column (SPEC section 7).

mod keys;
mod rules;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::limits::Settings;
use keys::{Key, Named};

/// A longer file is no configuration.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// All that is wrong with a file, a line each: `FILE:LINE:COLUMN: key: what is wrong; what would be right`.
#[derive(Debug, PartialEq)]
pub struct ConfigError(Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Reads the file, or gives the defaults when there is none to read: open mode on loopback.
///
/// What the file leaves out has its default; `keepalive.user_timeout_s` then is idle + interval × count.
///
/// # Errors
/// Every fault of the file, as text for the operator. The caller exits with 2.
pub fn load(path: Option<&Path>) -> Result<Settings, ConfigError> {
    let Some(path) = path else { return Ok(Settings::default()) };
    let bytes = read(path).map_err(|error| ConfigError(vec![format!("{}: {error}", path.display())]))?;
    parse(&path.display().to_string(), &bytes)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Something wrong at a place in the file.
struct Fault {
    /// The offset in the file, in bytes.
    at: usize,
    /// The key, or empty when no key is at fault.
    name: String,
    text: String,
}

impl Fault {
    fn bad_value(key: &Key, at: usize, what: String) -> Self {
        Self { at, name: key.name.to_owned(), text: format!("{what}; allowed: {}", key.allowed()) }
    }
}

fn parse(file: &str, bytes: &[u8]) -> Result<Settings, ConfigError> {
    let (text, result) = match std::str::from_utf8(bytes) {
        Ok(text) if text.starts_with('\u{feff}') => {
            (text, Err(syntax(0, "begins with a byte order mark; save it as UTF-8 without one")))
        }
        Ok(text) => (text, read_text(text)),
        Err(error) => {
            let valid = error.valid_up_to();
            (str::from_utf8(&bytes[..valid]).unwrap_or(""), Err(syntax(valid, "is not UTF-8 from here on")))
        }
    };
    result.map_err(|mut faults| {
        faults.sort_by_key(|fault| fault.at);
        ConfigError(faults.iter().map(|fault| located(file, text, fault)).collect())
    })
}

fn syntax(at: usize, text: &str) -> Vec<Fault> {
    vec![Fault { at, name: String::new(), text: text.to_owned() }]
}

/// `FILE:LINE:COLUMN: key: text`, lines and columns from 1, columns in characters.
fn located(file: &str, source: &str, fault: &Fault) -> String {
    // An offset inside of a character would be a bug of the parser, but never worth a panic.
    let before = source.get(..fault.at).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let separator = if fault.name.is_empty() { "" } else { ": " };
    format!("{file}:{line}:{column}: {}{separator}{}", fault.name, fault.text)
}

fn read_text(text: &str) -> Result<Settings, Vec<Fault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let at = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        return Err(errors.iter().flat_map(|error| syntax(at(error), error.message())).collect());
    }
    let mut reader = Reader::default();
    reader.table("", table.get_ref());
    // A rule about keys that could not be read would only repeat that.
    if reader.faults.is_empty() {
        rules::check(&mut reader.settings, &reader.given, &mut reader.faults);
    }
    if reader.faults.is_empty() { Ok(reader.settings) } else { Err(reader.faults) }
}

#[derive(Default)]
struct Reader {
    settings: Settings,
    given: rules::Given,
    faults: Vec<Fault>,
}

impl Reader {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (segment, value) in table {
            let name = format!("{prefix}{}", bare(segment.get_ref()));
            let at = segment.span().start;
            match keys::find(&name) {
                Named::Key(key) => match value::set(key, value, &mut self.settings) {
                    Ok(()) => drop(self.given.insert(key.name, value.span().start)),
                    Err(fault) => self.faults.push(fault),
                },
                Named::Section => match value.get_ref() {
                    DeValue::Table(table) => self.table(&format!("{name}."), table),
                    _ => self.fault(at, &name, format!("is a section; [{name}] and its keys would be right")),
                },
                Named::Later => self.fault(at, &name, "not supported yet in this version".to_owned()),
                Named::Unknown => {
                    let text = match keys::nearest(&name) {
                        Some(nearest) => format!("unknown key; did you mean {nearest}?"),
                        None => "unknown key; docs/configuration.md lists all".to_owned(),
                    };
                    self.fault(at, &name, text);
                }
            }
        }
    }

    fn fault(&mut self, at: usize, name: &str, text: String) {
        self.faults.push(Fault { at, name: name.to_owned(), text });
    }
}

/// A segment of a dotted name as it would be written: in quotes unless TOML allows it bare, so that a dot or a control
/// character inside of it cannot pose as something else.
fn bare(segment: &str) -> String {
    let bare = !segment.is_empty() && segment.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if bare { segment.to_owned() } else { format!("{segment:?}") }
}
