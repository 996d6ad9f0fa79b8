//! See `loadgen --help`.

use std::process::ExitCode;

use loadgen::options::{self, Mode};
use loadgen::{compare, fleet, run, scenario, usage};

fn main() -> ExitCode {
    let (mode, options) = match options::parse(std::env::args_os().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("loadgen: {error}\nsee loadgen --help");
            return ExitCode::from(2);
        }
    };
    let json = options.json;
    let result = match mode {
        Mode::Help => {
            print!("{}", usage::USAGE);
            Ok(true)
        }
        Mode::Run => {
            eprintln!("seed {}", options.seed);
            run::run(options).map(|report| {
                let value = report.json();
                if json {
                    println!("{value:#}")
                } else {
                    print!("{}", report.text())
                }
                value["ok"] == true
            })
        }
        Mode::Soak => scenario::soak::command(options),
        Mode::Failures => scenario::failures::command(&options),
        Mode::Fleets => scenario::fleets::command(&options),
        Mode::Streams => scenario::fleets::streams_command(&options),
        Mode::Fleet => fleet::fleet(options).map(|()| true),
        Mode::CompareRelay | Mode::CompareFanout => {
            let contest =
                if mode == Mode::CompareRelay { compare::Contest::Relay } else { compare::Contest::Fanout };
            compare::compare(contest, &options).map(|result| {
                if json {
                    println!("{:#}", result.json())
                } else {
                    print!("{}", result.text())
                }
                true
            })
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}
