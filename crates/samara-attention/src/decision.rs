//! Which level a map looks at, or that it cannot be told.

use std::fmt;

use serde::Serialize;

use crate::options::{AttentionOptions, CandidateAttention};
use samara::Granularity;

/// Why no level is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Undecided {
    /// All candidates are of one level: duplicates, or a single one.
    Alike,
    /// The confidence in the best candidate is too low.
    Weak,
    /// A candidate of another level agrees nearly as well.
    Close,
}

impl Undecided {
    /// `alike`, `weak` or `close`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alike => "alike",
            Self::Weak => "weak",
            Self::Close => "close",
        }
    }
}

impl fmt::Display for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the candidates' agreement says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Decision {
    pub(super) best: usize,
    pub(super) margin: f64,
    pub(super) level: Result<Granularity, Undecided>,
}

/// Decides for the level of the candidate with the highest agreement, the first of equals.
pub(super) fn decide(candidates: &[CandidateAttention], options: &AttentionOptions) -> Decision {
    let agreement = |c: &CandidateAttention| c.agreement.unwrap_or(-1.0);
    let highest = |of: &mut dyn Iterator<Item = (usize, f64)>| {
        of.reduce(|best, next| if next.1 > best.1 { next } else { best })
    };
    let mut all = candidates.iter().map(agreement).enumerate();
    let Some((best, top)) = highest(&mut all) else {
        return Decision {
            best: 0,
            margin: 0.0,
            level: Err(Undecided::Alike),
        };
    };
    let chosen = &candidates[best];
    let others = candidates.iter().enumerate();
    let mut others = others
        .filter(|(_, c)| c.level != chosen.level)
        .map(|(i, c)| (i, agreement(c)));
    let rival = highest(&mut others).map(|(_, agreement)| agreement);
    let margin = rival.map_or(0.0, |rival| {
        if rival < 1.0 {
            (top - rival) / (1.0 - rival)
        } else {
            0.0
        }
    });
    let weak = chosen
        .confidence
        .is_none_or(|confidence| confidence < options.min_confidence);
    let level = match rival {
        None => Err(Undecided::Alike),
        Some(_) if weak => Err(Undecided::Weak),
        Some(_) if margin < options.min_margin => Err(Undecided::Close),
        Some(_) => Ok(chosen.level),
    };
    Decision {
        best,
        margin,
        level,
    }
}

#[cfg(test)]
mod tests {
    use super::super::measures::Measures;
    use super::*;

    fn candidate(level: Granularity, agreement: f64) -> CandidateAttention {
        CandidateAttention {
            level,
            duplicate_of: None,
            measures: Measures {
                correlation: Some(agreement - 0.1),
                mass: 0.5,
                auc: Some(0.5),
                hit: true,
            },
            agreement: Some(agreement),
            confidence: Some(agreement - 0.1),
        }
    }

    #[test]
    fn a_clear_best_is_decided_and_others_are_not() {
        use Granularity::{Part, Subpart, Whole};
        let options = AttentionOptions::default();
        let decide = |of: &[(Granularity, f64)]| {
            let of: Vec<_> = of.iter().map(|&(level, a)| candidate(level, a)).collect();
            decide(&of, &options)
        };
        let clear = decide(&[(Subpart, 0.3), (Whole, 0.5), (Part, 0.9)]);
        assert_eq!((clear.best, clear.level), (2, Ok(Part)));
        assert!((clear.margin - 0.8).abs() < 1e-12);
        let close = decide(&[(Subpart, 0.3), (Whole, 0.89), (Part, 0.9)]);
        assert_eq!(close.level, Err(Undecided::Close));
        let weak = decide(&[(Subpart, 0.3), (Whole, 0.1), (Part, 0.6)]);
        assert_eq!(weak.level, Err(Undecided::Weak));
        let alike = decide(&[(Whole, 0.9), (Whole, 0.9), (Whole, 0.9)]);
        assert_eq!((alike.best, alike.level), (0, Err(Undecided::Alike)));
        // Two of one level do not rival each other.
        let twins = decide(&[(Subpart, 0.9), (Whole, 0.2), (Subpart, 0.89)]);
        assert_eq!((twins.best, twins.level), (0, Ok(Subpart)));
    }

    #[test]
    fn what_has_no_measure_is_weak() {
        let mut empty = candidate(Granularity::Subpart, 0.0);
        (empty.agreement, empty.confidence) = (None, None);
        let whole = CandidateAttention {
            level: Granularity::Whole,
            ..empty
        };
        let decision = decide(&[whole, empty], &AttentionOptions::default());
        assert_eq!(decision.level, Err(Undecided::Weak));
    }
}
