//! Checks of configurations. Sizes from a file must not ask for more memory than the file itself
//! justifies, so every one of them has a bound, well above every released model.

use crate::InvalidConfig;

/// Most channels, or pixels along a side.
pub(crate) const MAX_WIDTH: usize = 8192;
/// Most layers.
pub(crate) const MAX_DEPTH: usize = 64;

/// Refuses for `reason` unless the condition `holds`.
pub(crate) fn require(holds: bool, reason: &str) -> Result<(), InvalidConfig> {
    if holds {
        Ok(())
    } else {
        Err(InvalidConfig::new(reason.to_owned()))
    }
}

/// Refuses a size of 0 or above `limit`.
pub(crate) fn at_most(limit: usize, name: &str, size: usize) -> Result<(), InvalidConfig> {
    require(
        (1..=limit).contains(&size),
        &format!("{name} is {size}, not 1 to {limit}"),
    )
}

/// Refuses a size that is no multiple.
pub(crate) fn multiple(name: &str, size: usize, of: usize) -> Result<(), InvalidConfig> {
    require(
        size.is_multiple_of(of),
        &format!("{name} is {size}, not a multiple of {of}"),
    )
}

/// Refuses two named sizes that differ.
pub(crate) fn equal(a: (&str, usize), b: (&str, usize)) -> Result<(), InvalidConfig> {
    require(
        a.1 == b.1,
        &format!("{} is {}, {} is {}", a.0, a.1, b.0, b.1),
    )
}
