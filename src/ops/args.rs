//! The command line: `berthd [--config FILE]`, `berthd check` (SPEC section 7).

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Arg;

/// What the process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Run,
    /// Read the configuration, say what is wrong with it, start nothing.
    Check,
    Help,
    Version,
}

pub const HELP: &str = "\
Berth keeps the connections of a fleet of routers, sends them commands and shows their events.

Usage: berthd [--config FILE] [COMMAND]

Commands:
  (none)   run the daemon
  check    read the configuration, say what is wrong with it, start nothing

Options:
  --config FILE   the configuration (TOML); without it the defaults: open mode, on loopback only
  --help          print this
  --version       print the version

Exit codes: 0 drained or fine, 1 failed or signalled twice, 2 wrong command line or configuration
";

/// Reads the arguments behind the program's name.
///
/// # Errors
/// Text for the operator. The caller exits with 2.
pub fn parse(
    args: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<(Command, Option<PathBuf>), String> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut command = None;
    let mut config = None;
    let text = |error: lexopt::Error| format!("{error}; try --help");
    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok((Command::Help, None)),
            Arg::Long("version") | Arg::Short('V') => return Ok((Command::Version, None)),
            Arg::Long("config") if config.is_none() => {
                config = Some(PathBuf::from(parser.value().map_err(text)?));
            }
            Arg::Long("config") => return Err("--config is given twice".to_owned()),
            Arg::Value(name) if command.is_none() => command = Some(subcommand(name)?),
            other => return Err(text(other.unexpected())),
        }
    }
    Ok((command.unwrap_or(Command::Run), config))
}

fn subcommand(name: OsString) -> Result<Command, String> {
    match name.to_str() {
        Some("check") => Ok(Command::Check),
        Some(later @ ("token" | "census")) => Err(format!("{later}: not supported yet in this version")),
        _ => Err(format!("unknown command {name:?}; try --help")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Command, Option<PathBuf>), String> {
        parse(line.split_whitespace())
    }

    #[test]
    fn the_config_stands_before_or_after_the_subcommand() {
        let file = Some(PathBuf::from("c.toml"));
        assert_eq!(parsed(""), Ok((Command::Run, None)));
        assert_eq!(parsed("check"), Ok((Command::Check, None)));
        assert_eq!(parsed("--config c.toml"), Ok((Command::Run, file.clone())));
        assert_eq!(parsed("--config=c.toml check"), Ok((Command::Check, file.clone())));
        assert_eq!(parsed("check --config c.toml"), Ok((Command::Check, file)));
        assert_eq!(parsed("--config -- check"), Ok((Command::Check, Some(PathBuf::from("--")))));
    }

    #[test]
    fn help_and_version() {
        assert_eq!(parsed("check --help").unwrap().0, Command::Help);
        assert_eq!(parsed("--version").unwrap().0, Command::Version);
    }

    #[test]
    fn all_else_is_refused() {
        let wrong = ["--config", "--config a --config b", "check check", "run", "--colour", "-c", "check=1"];
        for line in wrong {
            assert!(parsed(line).is_err(), "{line}");
        }
        for later in ["token --aud router", "census", "--config c.toml census"] {
            assert!(parsed(later).unwrap_err().ends_with("not supported yet in this version"), "{later}");
        }
    }
}
