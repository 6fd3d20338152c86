//! `samara completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::error::{CliError, Result};
use crate::flags::Flags;
use crate::terminal;

/// Writes the completion script of `shell` to standard output.
pub(crate) fn run(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Flags::command(), "samara", &mut script);
    terminal::print(&String::from_utf8(script).map_err(CliError::failed)?)
}
