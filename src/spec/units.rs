//! Sizes and durations as people write them.
//!
//! Purpose: `4GiB` -> bytes, `1h30m` -> a duration.
//! Invariant: what is parsed is exact; what is not understood or too large is none.
//! Must not know: what they are for.

use std::time::Duration;

/// Bytes: a number, with a decimal (`kB`, `MB`, `GB`, `TB`) or binary (`KiB`, `MiB`, `GiB`, `TiB`)
/// unit or `B`.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text.trim())?;
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1000u64.pow(2),
        "GB" => 1000u64.pow(3),
        "TB" => 1000u64.pow(4),
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    (bytes < (1u64 << 60) as f64).then_some(bytes as u64)
}

/// A duration: parts with a unit (`ms`, `s`, `m`, `h`, `d`) such as `90s` or `1h30m`, or seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const LONGEST: f64 = 1e9;
    let mut rest = text.trim();
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, tail) = split(rest)?;
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let factor = match tail[..end].trim() {
            "ms" => 0.001,
            "" if number.len() == text.trim().len() => 1.0,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = &tail[end..];
    }
    (!text.trim().is_empty() && seconds <= LONGEST).then(|| Duration::from_secs_f64(seconds))
}

/// The number at the start of a text, and the rest.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_with_decimal_and_binary_units() {
        assert_eq!(parse_size("4GiB"), Some(4 << 30));
        assert_eq!(parse_size("1.5 KiB"), Some(1536));
        assert_eq!(parse_size("2GB"), Some(2_000_000_000));
        assert_eq!(parse_size("17"), Some(17));
        for bad in ["", "GiB", "4 gigs", "-1", "1e3", "99999999999TiB", "1.2.3MB", "é"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_parse_in_one_or_more_parts() {
        assert_eq!(parse_duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("10m"), Some(Duration::from_secs(600)));
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("45"), Some(Duration::from_secs(45)));
        for bad in ["", "s", "10 weeks", "1h30", "-5s", "99999999999h", "é"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
