//! Errors that reach the user: one line and an exit status.

use std::fmt::Display;

use samara::{CalibrationError, OptionError, PromptError};
use samara_attention::AttentionError;
use samara_eval::EvalError;
use samara_quality::QualityError;

/// What ends a command early.
#[derive(Debug)]
pub(crate) enum CliError {
    /// The command line asks for something that makes no sense: exit status 2.
    Usage(String),
    /// The work failed: exit status 1.
    Failed(String),
    /// A signal ended the work, which has saved what is done.
    Interrupted {
        /// How it is resumed.
        line: String,
        /// 128 and the number of the signal.
        status: u8,
    },
}

impl CliError {
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::Usage(message.to_string())
    }

    pub(crate) fn failed(message: impl Display) -> Self {
        Self::Failed(message.to_string())
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
            Self::Interrupted { status, .. } => *status,
        }
    }

    /// What its message is.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Interrupted { .. } => "notice",
            _ => "error",
        }
    }

    /// The message, in one line.
    pub(crate) fn line(&self) -> String {
        let (Self::Usage(message)
        | Self::Failed(message)
        | Self::Interrupted { line: message, .. }) = self;
        message.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl From<samara::Error> for CliError {
    fn from(error: samara::Error) -> Self {
        match error {
            // These come from the flags.
            samara::Error::Prompt(_)
            | samara::Error::Select(_)
            | samara::Error::Option(_)
            | samara::Error::Parse(_) => Self::usage(error),
            _ => Self::failed(error),
        }
    }
}

/// Errors of one kind reach the user as [`samara::Error`] does.
macro_rules! as_samara_error {
    ($($kind:ty),+) => {$(
        impl From<$kind> for CliError {
            fn from(error: $kind) -> Self {
                samara::Error::from(error).into()
            }
        }
    )+};
}

as_samara_error!(PromptError, OptionError, CalibrationError);

impl From<EvalError> for CliError {
    fn from(error: EvalError) -> Self {
        match error {
            EvalError::Model(error) => error.into(),
            other => Self::failed(other),
        }
    }
}

impl From<QualityError> for CliError {
    fn from(error: QualityError) -> Self {
        match error {
            QualityError::Samara(error) => error.into(),
            QualityError::Eval(error) => error.into(),
            other => Self::failed(other),
        }
    }
}

impl From<AttentionError> for CliError {
    fn from(error: AttentionError) -> Self {
        match error {
            AttentionError::Samara(error) => error.into(),
            AttentionError::Threshold { .. } => Self::usage(error),
            other => Self::failed(other),
        }
    }
}

impl From<samara_image::Error> for CliError {
    fn from(error: samara_image::Error) -> Self {
        Self::failed(error)
    }
}

pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;
