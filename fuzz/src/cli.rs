//! What files of the command line need when they are compiled into a target: errors without exit statuses, and a
//! terminal that shows nothing.

/// Stands for `samara-cli/src/error.rs`.
pub mod error {
    use std::fmt::{self, Display};

    /// An error in one line.
    #[derive(Debug)]
    pub struct CliError(String);

    impl CliError {
        /// The command line asks for something that makes no sense.
        pub fn usage(message: impl Display) -> Self {
            Self(message.to_string())
        }

        /// The work failed.
        pub fn failed(message: impl Display) -> Self {
            Self(message.to_string())
        }
    }

    impl Display for CliError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            // As the command line does.
            let words: Vec<&str> = self.0.split_whitespace().collect();
            f.write_str(&words.join(" "))
        }
    }

    impl<E: std::error::Error> From<E> for CliError {
        fn from(error: E) -> Self {
            Self::failed(error)
        }
    }

    /// With the error of the command line.
    pub type Result<T, E = CliError> = std::result::Result<T, E>;
}

/// Stands for `samara-cli/src/terminal.rs`.
pub mod terminal {
    use std::path::Path;

    /// The name of a file.
    pub fn name(path: &Path) -> String {
        path.to_string_lossy().escape_debug().to_string()
    }

    /// Tells nothing.
    pub fn tell(_kind: &str, _line: &str) {}
}
