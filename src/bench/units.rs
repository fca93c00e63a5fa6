//! Numbers as people read them: three digits, a unit of the right size, words from outside made harmless.

use crate::harmless::one_line;

use bytesize::ByteSize;

/// What stands where there is no figure.
pub(super) const NONE: &str = "–";

/// A time: `123 ns`, `12.3 µs`, `1.21 ms`, `10.0 s`.
pub(super) fn time_ns(nanoseconds: f64) -> String {
    scaled(nanoseconds, 1000.0, &["ns", "µs", "ms", "s"])
}

/// A time that may be long: `10.0 s`, `3 min`, `12.5 min`.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        return time_ns(seconds * 1e9);
    }
    let minutes = format!("{:.1}", seconds / 60.0);
    format!("{} min", minutes.strip_suffix(".0").unwrap_or(&minutes))
}

/// The same from microseconds.
pub(super) fn time_us(microseconds: f64) -> String {
    time_ns(microseconds * 1e3)
}

/// So many a second: `950/s`, `1.21 M/s`.
pub(super) fn rate(per_second: f64) -> String {
    match scaled(per_second, 1000.0, &["", "k", "M", "G"]).trim_end() {
        text if text.contains(' ') => format!("{text}/s"),
        text => format!("{text} /s").replace(' ', ""),
    }
}

/// An amount of memory: `235 B`, `3.4 MiB`.
pub(super) fn bytes(amount: f64) -> String {
    let whole = format!("{:.0}", amount.abs());
    let sign = if amount < 0.0 && whole != "0" { "-" } else { "" };
    whole.parse().map_or_else(|_| NONE.to_owned(), |count| format!("{sign}{}", ByteSize::b(count).display().iec()))
}

/// A share of a whole: `28.4 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", digits(share * 100.0))
}

/// A multiple: `1.04×`.
pub(super) fn times(ratio: f64) -> String {
    let text = if !ratio.is_finite() {
        return NONE.to_owned();
    } else if ratio < 10.0 {
        format!("{ratio:.2}")
    } else {
        format!("{ratio:.1}")
    };
    format!("{text}×")
}

/// A whole number in groups of three: `12,100,000`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A figure with the unit that it names itself: a time, an amount and a rate are scaled, all else stands as it is.
pub(super) fn figure(value: f64, unit: &str) -> String {
    match unit {
        "ns" => time_ns(value),
        "us" | "µs" => time_us(value),
        "ms" => time_ns(value * 1e6),
        "s" | "seconds" => time_ns(value * 1e9),
        "bytes" | "B" => bytes(value),
        "bytes/s" | "B/s" => format!("{}/s", bytes(value)),
        "/s" => rate(value),
        "" => count(value),
        "%" => format!("{} %", digits(value)),
        "×" | "x" => times(value),
        _ => format!("{} {}", count(value), one_line(unit)),
    }
}

/// A number that counts something, whole or not.
fn count(value: f64) -> String {
    let whole = format!("{value:.0}");
    match whole.parse::<u64>() {
        Ok(number) if (value - value.round()).abs() < 1e-9 => thousands(number),
        _ => digits(value),
    }
}

/// Three digits that count, or all of a longer whole number.
fn digits(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => NONE.to_owned(),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.0995 || size == 0.0 => format!("{value:.2}").replace("0.00", "0"),
        _ => format!("{value:.3}"),
    }
}

/// Three digits and the first unit in which the number is below the next one.
fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let (mut value, mut units) = (value, units.iter().peekable());
    while let Some(unit) = units.next() {
        // 999.7 would be shown as 1000.
        if value.abs() < step - 0.5 || units.peek().is_none() {
            return format!("{} {unit}", digits(value));
        }
        value /= step;
    }
    NONE.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit_of_their_size() {
        let times = [0.0, 3.0, 235.4, 999.7, 12_345.0, 1.25e6, 10e9, 3600e9].map(time_ns);
        assert_eq!(times, ["0 ns", "3.00 ns", "235 ns", "1.00 µs", "12.3 µs", "1.25 ms", "10.0 s", "3600 s"]);
        assert_eq!(time_us(12.3), "12.3 µs");
        assert_eq!(
            [10.0, 90.0, 180.0, 750.0, 3600.0].map(duration),
            ["10.0 s", "90.0 s", "3 min", "12.5 min", "60 min"]
        );
        let rates = [0.0, 950.0, 12_345.0, 1_210_000.0].map(rate);
        assert_eq!(rates, ["0/s", "950/s", "12.3 k/s", "1.21 M/s"]);
        assert_eq!([235.2, 3_565_158.0, -2048.0, -0.2].map(bytes), ["235 B", "3.4 MiB", "-2.0 KiB", "0 B"]);
        assert_eq!([0.284, 1.0, 0.0004].map(percent), ["28.4 %", "100 %", "0.040 %"]);
        assert_eq!([1.041, 11.63, f64::NAN].map(super::times), ["1.04×", "11.6×", "–"]);
        assert_eq!([0, 999, 1000, 12_100_000].map(thousands), ["0", "999", "1,000", "12,100,000"]);
    }

    #[test]
    fn a_figure_is_scaled_by_its_own_unit() {
        let shown = [
            figure(0.0123, "s"),
            figure(3500.0, "bytes"),
            figure(18_000.0, ""),
            figure(1.5, "%"),
            figure(0.5, ""),
            figure(12.0, "gaps"),
            figure(f64::NAN, "s"),
        ];
        assert_eq!(shown, ["12.3 ms", "3.4 KiB", "18,000", "1.50 %", "0.50", "12 gaps", "– s"]);
    }
}
