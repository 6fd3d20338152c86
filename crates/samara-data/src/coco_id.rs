//! Numbers and flags of COCO files in the forms that tools write them.

use std::fmt::{self, Formatter};

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// An id: a number, a number in quotes, or any text, which stands for a number that is always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CocoId(pub u64);

/// Numbers of texts have this bit, and are exact in floating point.
const OF_TEXT: u64 = 1 << 52;

impl CocoId {
    /// The id that a text stands for.
    pub fn of_text(text: &str) -> Self {
        if let Ok(number) = text.trim().parse() {
            return Self(number);
        }
        // FNV-1a: the same in every run, so that files that were written apart agree.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
        Self(OF_TEXT | ((hash >> 32) ^ hash) & (OF_TEXT - 1))
    }
}

impl<'de> Deserialize<'de> for CocoId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl Visitor<'_> for Any {
            type Value = CocoId;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("an id, a whole number or a text")
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<CocoId, E> {
                Ok(CocoId(id))
            }

            fn visit_i64<E: Error>(self, id: i64) -> Result<CocoId, E> {
                u64::try_from(id)
                    .map(CocoId)
                    .or_else(|_| self.visit_str(&id.to_string()))
            }

            fn visit_f64<E: Error>(self, id: f64) -> Result<CocoId, E> {
                let whole = id.fract() == 0.0 && (0.0..9.0e15).contains(&id);
                whole
                    .then_some(CocoId(id as u64))
                    .ok_or_else(|| E::custom("an id is a whole number"))
            }

            fn visit_str<E: Error>(self, id: &str) -> Result<CocoId, E> {
                Ok(CocoId::of_text(id))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// `iscrowd`: 0 or 1, or false or true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CrowdFlag(pub(crate) bool);

impl<'de> Deserialize<'de> for CrowdFlag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "iscrowd is 0, 1, false or true")]
        enum Any {
            Flag(bool),
            Number(f64),
        }

        Ok(Self(match Any::deserialize(deserializer)? {
            Any::Flag(flag) => flag,
            Any::Number(number) => number != 0.0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_or_texts() {
        let id = |text: &str| serde_json::from_str::<CocoId>(text).ok().map(|id| id.0);
        assert_eq!(
            [id("7"), id("7.0"), id("\"7\""), id("\" 7 \"")],
            [Some(7); 4]
        );
        let text = id("\"a3f-0007\"").unwrap();
        assert!(text > 1 << 52 && text < 1 << 53);
        assert_eq!(id("\"a3f-0007\""), Some(text));
        assert_ne!(id("\"a3f-0008\""), Some(text));
        assert_ne!(id("-1"), id("1"));
        for bad in ["7.5", "null", "[7]", "1e300"] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }

    #[test]
    fn crowds_are_numbers_or_flags() {
        let crowd = |text: &str| {
            serde_json::from_str::<CrowdFlag>(text)
                .ok()
                .map(|flag| flag.0)
        };
        assert_eq!(
            ["0", "1", "false", "true"].map(crowd),
            [false, true, false, true].map(Some)
        );
        assert_eq!(crowd("\"yes\""), None);
    }
}
