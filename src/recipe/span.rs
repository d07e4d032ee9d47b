//! Spans of time as people write them: "2h", "90m", "45s", "1h30m".

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Units with their seconds, the longest name first where one begins with another.
const UNITS: [(&str, f64); 5] = [("d", 86_400.0), ("h", 3600.0), ("min", 60.0), ("m", 60.0), ("s", 1.0)];

/// A span of time above 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeSpan(Duration);

impl TimeSpan {
    /// As the standard library has it.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// The share of it that `used` is.
    pub fn share(self, used: Duration) -> f64 {
        used.as_secs_f64() / self.0.as_secs_f64()
    }
}

impl std::str::FromStr for TimeSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<TimeSpan, String> {
        let refuse =
            || format!("\"{text}\" is no span of time above 0: write \"2h\", \"90m\", \"45s\" or \"1h30m\"");
        let (mut rest, mut seconds) = (text.trim(), 0.0);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refuse)?;
            let (number, unit) = rest.split_at(digits);
            let number: f64 = number.parse().map_err(|_| refuse())?;
            let (name, of_unit) = UNITS.iter().find(|(name, _)| unit.starts_with(name)).ok_or_else(refuse)?;
            seconds += number * of_unit;
            rest = unit.strip_prefix(name).unwrap_or_default().trim_start();
        }
        let span = Duration::try_from_secs_f64(seconds).map_err(|_| refuse())?;
        if span.is_zero() { Err(refuse()) } else { Ok(TimeSpan(span)) }
    }
}

impl TryFrom<String> for TimeSpan {
    type Error = String;

    fn try_from(text: String) -> Result<TimeSpan, String> {
        text.parse()
    }
}

impl From<TimeSpan> for String {
    fn from(span: TimeSpan) -> String {
        span.to_string()
    }
}

impl std::fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = self.0.as_secs();
        let parts = [(whole / 3600, "h"), (whole / 60 % 60, "m")];
        for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{count}{unit}")?;
        }
        let seconds = (whole % 60) as f64 + f64::from(self.0.subsec_nanos()) * 1e-9;
        if seconds > 0.0 { write!(f, "{seconds}s") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_back() {
        for (text, seconds, written) in [
            ("2h", 7200.0, "2h"),
            ("90m", 5400.0, "1h30m"),
            ("1h30m", 5400.0, "1h30m"),
            ("1h 30min", 5400.0, "1h30m"),
            ("45s", 45.0, "45s"),
            ("1.5h", 5400.0, "1h30m"),
            ("1d", 86_400.0, "24h"),
            ("0.5s", 0.5, "0.5s"),
            (" 1m1s ", 61.0, "1m1s"),
        ] {
            let span: TimeSpan = text.parse().unwrap();
            assert_eq!(span.duration(), Duration::from_secs_f64(seconds), "{text}");
            assert_eq!(span.to_string(), written);
            assert_eq!(written.parse::<TimeSpan>().unwrap(), span);
        }
        for bad in
            ["", "2", "h", "2x", "-2h", "2h30", "0s", "1..5h", "nan", "inf", "1e9h", "99999999999999999999d"]
        {
            let error = bad.parse::<TimeSpan>().unwrap_err();
            assert!(error.contains("90m") && error.contains(bad), "{error}");
        }
        let hour: TimeSpan = "1h".parse().unwrap();
        assert_eq!(hour.share(Duration::from_secs(900)), 0.25);
    }
}
