//! Numbers in messages.

/// Numbers from here on are written with an exponent.
const LARGE: f64 = 1e9;
/// Numbers below this, too.
const SMALL: f64 = 1e-4;
/// Digits after the point, at most.
const DIGITS: usize = 6;

/// A number in about ten characters.
pub fn short(value: impl Into<f64>) -> String {
    let value = value.into();
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    if !(SMALL..LARGE).contains(&value.abs()) {
        return format!("{value:.3e}").replace(".000e", "e");
    }
    let whole = format!("{:.0}", value.trunc()).len();
    let digits = 9_usize.saturating_sub(whole).min(DIGITS);
    let text = format!("{value:.digits$}");
    if digits == 0 {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number of things, whose name is given for one of them: `1 image`, `2 images`.
pub fn counted(count: impl TryInto<u64>, thing: &str) -> String {
    match count.try_into() {
        Ok(1) => format!("1 {thing}"),
        Ok(count) => format!("{count} {thing}s"),
        Err(_) => format!("many {thing}s"),
    }
}

/// A share from 0 to 1 in percent. What is there is never shown as nothing.
pub fn percent(share: f32) -> String {
    match 100.0 * share {
        percent if percent > 0.0 && percent < 0.1 => "less than 0.1 %".into(),
        percent => format!("{percent:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, right) in [
            (0.0, "0"),
            (96.5, "96.5"),
            (-3.0, "-3"),
            (0.1 + 0.2, "0.3"),
            (f64::from(0.1_f32), "0.1"),
            (65_535.0, "65535"),
            (1_234_567.25, "1234567.25"),
            (-123_456_789.4, "-123456789"),
            (4_294_967_295.0, "4.295e9"),
            (1e300, "1e300"),
            (-1.0 / 3e40, "-3.333e-41"),
            (1e-45, "1e-45"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(short(value), right);
        }
        assert_eq!(percent(0.0), "0.0 %");
        assert_eq!(percent(0.000_01), "less than 0.1 %");
        assert_eq!(percent(0.046), "4.6 %");
    }
}
