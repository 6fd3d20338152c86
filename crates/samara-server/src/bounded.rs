//! Lists in requests that end while they are read, and objects of which one field is kept.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A list of at most `N` values: a body of some megabytes may hold millions, which would take gigabytes.
#[derive(Debug, Clone)]
pub(crate) struct Bounded<T, const N: usize>(pub(crate) Vec<T>);

impl<T, const N: usize> Default for Bounded<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Bounded<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_seq(List::<T, N>(PhantomData))
            .map(Self)
    }
}

struct List<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for List<T, N> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {N}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = values.next_element()? {
            if list.len() == N {
                return Err(Error::custom(format_args!("more than {N}")));
            }
            list.push(value);
        }
        Ok(list)
    }
}

/// The last value of a list; the others are not kept.
#[derive(Debug)]
pub(crate) struct Last<T>(pub(crate) Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Last<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<T> {
            type Value = Option<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Option<T>, A::Error> {
                let mut last = None;
                while let Some(value) = values.next_element()? {
                    last = Some(value);
                }
                Ok(last)
            }
        }

        deserializer.deserialize_seq(Each(PhantomData)).map(Self)
    }
}

/// The text of a field of a JSON object; the others are not kept.
pub(crate) fn find_text(object: &RawValue, field: &str) -> Option<String> {
    struct Field<'a>(&'a str);

    impl<'de> Visitor<'de> for Field<'_> {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(key) = map.next_key::<String>()? {
                if key == self.0 {
                    found = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }

    let mut json = serde_json::Deserializer::from_str(object.get());
    let found = json.deserialize_map(Field(field)).ok()??;
    serde_json::from_str(found.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_kept() {
        let last: Last<u8> = serde_json::from_str("[1, 2, 3]").unwrap();
        assert_eq!(last.0, Some(3));
        let object: Box<RawValue> =
            serde_json::from_str(r#"{"a": [1], "b": "x\u0041", "c": 2}"#).unwrap();
        assert_eq!(find_text(&object, "b").as_deref(), Some("xA"));
        assert_eq!(find_text(&object, "c"), None);
        assert_eq!(find_text(&object, "d"), None);
    }

    #[test]
    fn a_list_ends() {
        let read = |json: &str| serde_json::from_str::<Bounded<u8, 2>>(json).map(|list| list.0);
        assert_eq!(read("[1, 2]").unwrap(), [1, 2]);
        assert!(
            read("[1, 2, 3]")
                .unwrap_err()
                .to_string()
                .contains("more than 2")
        );
        assert!(
            read("7")
                .unwrap_err()
                .to_string()
                .contains("a list of at most 2")
        );
    }
}
