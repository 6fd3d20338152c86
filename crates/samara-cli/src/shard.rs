//! A part of the images of a run, for a machine of its own.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// The `index`-th of `count` parts, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shard {
    pub(crate) index: u32,
    pub(crate) count: u32,
}

impl Shard {
    /// All parts of so many.
    pub(crate) fn all(count: u32) -> impl Iterator<Item = Self> {
        (1..=count).map(move |index| Self { index, count })
    }

    /// The one of `count` parts that has the image of this name, the same on every machine. It does not depend on
    /// other images: those that come later move none.
    pub(crate) fn of(name: &str, count: u32) -> Self {
        let digest = Sha256::digest(name);
        let number = digest
            .iter()
            .take(8)
            .fold(0, |number: u64, &byte| number << 8 | u64::from(byte));
        let index = (number % u64::from(count)) as u32 + 1;
        Self { index, count }
    }

    /// Whether it has the image of this name.
    pub(crate) fn has(self, name: &str) -> bool {
        Self::of(name, self.count) == self
    }
}

impl Display for Shard {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse::<u32>().ok();
        text.split_once('/')
            .and_then(|(index, count)| Some((number(index)?, number(count)?)))
            .filter(|(index, count)| (1..=*count).contains(index))
            .map(|(index, count)| Self { index, count })
            .ok_or("expected I/N with I from 1 to N, such as 2/4")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_they_are_typed() {
        assert_eq!("2/4".parse(), Ok(Shard { index: 2, count: 4 }));
        for text in ["0/4", "5/4", "1/0", "a/b", "1", "1/", "/4", "1/4/4", "-1/4"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    /// The numbers are those of `sha256sum`; another release must not hand out the images anew.
    #[test]
    fn parts_stay_as_they_are() {
        let parts = ["a.png", "more/b.png", "größe.jpg"].map(|name| Shard::of(name, 1000).index);
        assert_eq!(parts, [673, 513, 68]);
        let of_four = |i: u32| {
            Shard::all(4)
                .filter(|part| part.has(&i.to_string()))
                .count()
        };
        assert!((0..100).all(|i| of_four(i) == 1));
    }
}
