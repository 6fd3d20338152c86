//! What files of prompts have in common.

use std::fmt::{self, Formatter};
use std::marker::PhantomData;

use samara::{Click, OriginalPx};
use samara_image::number::short;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The text of a file without the mark of its encoding, which some editors begin it with.
pub(crate) fn text(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// A record that is written as a JSON object, never as a list of its values.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsObject(PhantomData))
    }
}

struct AsObject<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AsObject<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("prompts as an object, such as {\"points\": [[520, 360]]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// `[x, y]` on the object, or `[x, y, 1]` and `[x, y, 0]`.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a point is [x, y], or [x, y, 1] on the object and [x, y, 0] beside it"
)]
pub(crate) enum PointRecord {
    On([f64; 2]),
    Labelled([f64; 3]),
}

impl PointRecord {
    /// The click, or what is wrong with it.
    pub(crate) fn click(&self) -> Result<Click, String> {
        let (x, y, label) = match *self {
            Self::On([x, y]) => (x, y, 1.0),
            Self::Labelled([x, y, label]) => (x, y, label),
        };
        if ![0.0, 1.0].contains(&label) {
            let label = short(label);
            return Err(format!(
                "label {label} of a point: 1 is on the object, 0 beside it"
            ));
        }
        Ok(Click {
            at: OriginalPx::new(x, y),
            positive: label == 1.0,
        })
    }
}
