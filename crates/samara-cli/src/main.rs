//! The command line of Samara.
//!
//! `flags` (what was typed) → `args` (what was meant) → `commands` (what is done).
#![forbid(unsafe_code)]

mod args;
mod commands;
mod error;
mod external_mask;
mod files;
mod flags;
mod internal_error;
mod interrupt;
mod map_file;
mod mask_file;
mod mask_json;
mod model;
mod npy;
mod progress;
mod prompt_file;
mod read;
mod report;
mod shard;
mod terminal;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use clap::{Arg, CommandFactory, FromArgMatches};

use error::{CliError, Result};
use flags::{Command, Flags};

fn main() -> ExitCode {
    // A panic is our mistake; the user still gets one line and a status.
    panic::set_hook(Box::new(internal_error::note));
    let outcome = panic::catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|payload| Err(internal_error::of(payload.as_ref())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::tell(error.kind(), &error.line());
            ExitCode::from(error.status())
        }
    }
}

fn run() -> Result<()> {
    samara_kernels::memory::keep_freed_memory();
    let flags = parse()?;
    if let Some(threads) = flags.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global()
            .map_err(|e| CliError::failed(format!("--threads {threads}: {e}")))?;
    }
    let threads = flags.threads;
    match flags.command {
        Command::Segment(flags) => commands::segment::run(&flags),
        Command::Everything(flags) => commands::everything::run(&flags),
        Command::Video(flags) => commands::video::run(&flags),
        Command::Studio(flags) => commands::studio::run(&flags, threads),
        Command::Serve(flags) => commands::serve::run(&flags, threads),
        Command::Attention(flags) => commands::attention::run(&flags),
        Command::Train(flags) => commands::train::run(&flags),
        Command::Eval(flags) => commands::eval::run(&flags),
        Command::Quality(flags) => commands::quality::run(&flags),
        Command::Levels(flags) => commands::levels::run(&flags),
        Command::Bench(flags) => commands::bench::run(&flags),
        Command::Models(command) => commands::models::run(command),
        Command::Completions { shell } => commands::completions::run(shell),
    }
}

/// Whether clap found a number that belongs to no flag: the second one of `--point 300 200`.
fn stray_number(statement: &str) -> bool {
    let found = statement.strip_prefix("unexpected argument '");
    let argument = found.and_then(|found| found.split('\'').next());
    argument.is_some_and(|argument| argument.parse::<f64>().is_ok())
}

/// The command line; a negative number is a value, so the flag before it says what it expects.
fn command() -> clap::Command {
    let values = |arg: Arg| {
        let takes_values = !arg.is_positional() && arg.get_action().takes_values();
        arg.allow_negative_numbers(takes_values)
    };
    let command = Flags::command();
    let command = command.mut_subcommands(|command| command.mut_args(values));
    command.mut_args(values)
}

/// Parses the command line; clap's own messages are cut down to their first statement.
fn parse() -> Result<Flags> {
    use clap::error::ErrorKind;
    let parsed = command().try_get_matches();
    let parsed = parsed.and_then(|matches| Flags::from_arg_matches(&matches));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => {
            let text = error.render().to_string();
            let statement = text.split("\n\nUsage:").next().unwrap_or(&text);
            let statement = statement.split("\n\nFor more").next().unwrap_or(statement);
            let statement = statement.strip_prefix("error: ").unwrap_or(statement);
            if stray_number(statement) {
                let found = statement.split("\n\n").next().unwrap_or(statement);
                let hint = "coordinates are one argument, such as 300,200";
                return CliError::usage(format!("{found}; {hint}"));
            }
            CliError::usage(statement)
        }
    })
}
