//! What kind of thing a user means by a click.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::ParseError;

/// What a click usually means in the work at hand. The same click on a sleeve means the person to one who
/// counts people, and the shirt to one who outlines every segment; a head that chooses among the candidates
/// is told by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Intent {
    /// Nothing is known: a balance of both.
    #[default]
    Balanced,
    /// Whole things that have a name: people, cars, cups.
    Objects,
    /// Any region with an outline of its own: a garment, a window, the sky.
    Segments,
}

impl Intent {
    /// All intents.
    pub const ALL: [Self; 3] = [Self::Balanced, Self::Objects, Self::Segments];

    /// `balanced`, `objects` or `segments`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Objects => "objects",
            Self::Segments => "segments",
        }
    }
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Intent {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(ParseError::named("intent", text, &Self::ALL, Self::name)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for intent in Intent::ALL {
            assert_eq!(intent.to_string().parse::<Intent>().unwrap(), intent);
        }
        let error = "object".parse::<Intent>().unwrap_err().to_string();
        assert!(
            error.contains("\"object\"") && error.contains("segments"),
            "{error}"
        );
    }
}
