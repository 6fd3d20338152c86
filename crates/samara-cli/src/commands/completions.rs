//! `samara completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::error::Result;
use crate::flags::Flags;
use crate::terminal;

/// Writes the completion script of `shell` to standard output.
pub(crate) fn run(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Flags::command(), "samara", &mut script);
    terminal::print_raw(&script)
}
