//! The command line: `berthd [--config FILE]`, `berthd check`, `berthd census` (SPEC section 7).

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Arg;

/// What the process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Run,
    /// Read the configuration, say what is wrong with it, start nothing.
    Check,
    /// Ask the running daemon what it holds, and print it: as a table, or the JSON as it came.
    Census {
        json: bool,
    },
    Help,
    Version,
}

pub const HELP: &str = "\
Berth keeps the connections of a fleet of routers, sends them commands and shows their events.

Usage: berthd [--config FILE] [COMMAND]

Commands:
  (none)   run the daemon
  check    read the configuration, say what is wrong with it, start nothing
  census   ask the running daemon what it holds, and print it: who holds the memory, and whether it is a leak

Options:
  --config FILE   the configuration (TOML); without it the defaults: open mode, on loopback only
  --json          census: the JSON as the daemon sent it
  --help          print this
  --version       print the version

Exit codes: 0 drained or fine, 1 failed, no answer, or signalled twice, 2 wrong command line or configuration
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
    let mut json = false;
    let text = |error: lexopt::Error| format!("{error}; try --help");
    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok((Command::Help, None)),
            Arg::Long("version") | Arg::Short('V') => return Ok((Command::Version, None)),
            Arg::Long("config") if config.is_none() => {
                config = Some(PathBuf::from(parser.value().map_err(text)?));
            }
            Arg::Long("config") => return Err("--config is given twice".to_owned()),
            Arg::Long("json") => json = true,
            Arg::Value(name) if command.is_none() => command = Some(subcommand(name)?),
            other => return Err(text(other.unexpected())),
        }
    }
    match command.unwrap_or(Command::Run) {
        Command::Census { .. } => Ok((Command::Census { json }, config)),
        _ if json => Err("--json goes with census; try --help".to_owned()),
        command => Ok((command, config)),
    }
}

fn subcommand(name: OsString) -> Result<Command, String> {
    match name.to_str() {
        Some("check") => Ok(Command::Check),
        Some("census") => Ok(Command::Census { json: false }),
        Some("token") => Err("token: not supported yet in this version".to_owned()),
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
    fn the_census_as_a_table_or_as_json() {
        assert_eq!(parsed("census"), Ok((Command::Census { json: false }, None)));
        let file = Some(PathBuf::from("c.toml"));
        assert_eq!(
            parsed("--json --config c.toml census"),
            Ok((Command::Census { json: true }, file.clone()))
        );
        assert_eq!(parsed("census --json --config c.toml"), Ok((Command::Census { json: true }, file)));
    }

    #[test]
    fn help_and_version() {
        assert_eq!(parsed("check --help").unwrap().0, Command::Help);
        assert_eq!(parsed("--version").unwrap().0, Command::Version);
    }

    #[test]
    fn all_else_is_refused() {
        let wrong = ["--config", "--config a --config b", "check check", "run", "--colour", "-c", "check=1"];
        let json = ["--json", "check --json", "--json=1 census", "census --json=1", "census audit"];
        for line in wrong.into_iter().chain(json) {
            assert!(parsed(line).is_err(), "{line}");
        }
        assert!(parsed("token --aud router").unwrap_err().ends_with("not supported yet in this version"));
    }
}
