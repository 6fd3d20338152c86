//! Lists in requests that end while they are read.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

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

#[cfg(test)]
mod tests {
    use super::*;

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
