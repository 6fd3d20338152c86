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

/// A text without the middle of absurdly long numbers, as parsers repeat them.
fn without_long_numbers(text: &str) -> String {
    const LONG: usize = 40;
    const KEPT: usize = 4;
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(at);
        let end = number.find(|c: char| !c.is_ascii_digit());
        let (number, after) = number.split_at(end.unwrap_or(number.len()));
        short.push_str(before);
        if number.len() > LONG {
            short.push_str(&number[..KEPT]);
            short.push('…');
        } else {
            short.push_str(number);
        }
        rest = after;
    }
    short.push_str(rest);
    short
}

/// Writes one line to stderr.
pub(crate) fn tell(kind: &str, line: &str) {
    let mut line = without_long_numbers(&shown(line));
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
    fn long_numbers_are_cut() {
        let digits = "1".repeat(301);
        let text = format!("floating point `{digits}.0`, 64 and {digits}");
        let right = "floating point `1111….0`, 64 and 1111…";
        assert_eq!(without_long_numbers(&text), right);
        assert_eq!(without_long_numbers("image 96×64.png"), "image 96×64.png");
    }

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        let name = "a\u{1b}[31m\u{7}\u{9b}\u{202e}\n.png";
        let right = "a\\u{1b}[31m\\u{7}\\u{9b}\\u{202e}\\n.png";
        assert_eq!(super::name(Path::new(name)), right);
        assert_eq!(shown("größe 96×64"), "größe 96×64");
    }
}
