//! Talking to the terminal: results go to stdout, everything else to stderr.

use std::io::{ErrorKind, Write, stderr, stdout};
use std::path::Path;

use samara_image::one_line;

use crate::error::{CliError, Result};

/// Longest message, in characters.
const LONGEST: usize = 2000;

/// A name as it can be shown.
pub(crate) fn shown(name: &str) -> String {
    one_line(name)
}

/// The name of a file or folder in a text for [`print`].
pub(crate) fn name(path: &Path) -> String {
    shown(&path.to_string_lossy())
}

/// Writes a text of lines to stdout.
pub(crate) fn print(text: &str) -> Result<()> {
    let lines: Vec<String> = text.split('\n').map(one_line).collect();
    print_raw(lines.join("\n").as_bytes())
}

/// Writes to stdout what another program reads. A reader that went away (`| head`) is no error.
pub(crate) fn print_raw(bytes: &[u8]) -> Result<()> {
    let mut out = stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::failed(format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Writes one line to stderr.
pub(crate) fn tell(kind: &str, line: &str) {
    let mut line = shown(line);
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push('…');
    }
    tell_lines(kind, &line);
}

/// Writes a text of ours to stderr as it is.
pub(crate) fn tell_lines(kind: &str, text: &str) {
    // Nothing can be done when stderr is gone.
    let _ = writeln!(stderr().lock(), "{kind}: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        let name = "a\u{1b}[31m\u{7}\u{9b}\u{202e}\n.png";
        let right = "a\\u{1b}[31m\\u{7}\\u{9b}\\u{202e}\\n.png";
        assert_eq!(super::name(Path::new(name)), right);
        assert_eq!(shown("größe 96×64"), "größe 96×64");
    }
}
