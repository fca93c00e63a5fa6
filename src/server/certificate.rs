//! What certificates say of themselves: whose they are, what they are for, and until when they hold.

use std::time::Duration;

use log::{error, warn};
use rustls::pki_types::CertificateDer;
use time::macros::format_description;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::files::{FileFault, Named};

/// Days before the end of a certificate from which on it is warned of, once in each.
const WARNING_DAYS: i64 = 14;
/// How often it is looked at: a clock can be set.
const REMINDER_INTERVAL: Duration = Duration::from_hours(1);

/// The name that a client's certificate, in DER, is made out to: its common name, if it has exactly one.
#[must_use]
pub(super) fn certificate_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names = certificate.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().ok().map(str::to_owned),
        _ => None,
    }
}

pub(super) fn parsed<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

/// Why no client would take a relay with this certificate, if that is so.
pub(super) fn misfit(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    let uses = certificate.extended_key_usage().ok().flatten();
    if uses.is_some_and(|uses| !uses.value.server_auth && !uses.value.any) {
        return Some("it is not meant for a server");
    }
    let names = certificate.subject_alternative_name().ok().flatten();
    let is_host = |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_));
    if names.is_some_and(|names| names.value.general_names.iter().any(is_host)) {
        return None;
    }
    Some("it names no host")
}

/// Until when a certificate holds, and what has been said of that.
#[derive(Debug)]
pub(super) struct Lasting {
    file: Named,
    until: ASN1Time,
    /// Whole days that were left when it was warned of.
    told: Option<i64>,
}

impl Lasting {
    /// Of a certificate out of this file, if it holds now.
    pub(super) fn new(file: &Named, certificate: &X509Certificate<'_>, now: ASN1Time) -> Result<Self, FileFault> {
        let validity = certificate.validity();
        let (from, until) = (validity.not_before, validity.not_after);
        if now < from {
            let from = date(from);
            return Err(
                file.fault(format_args!("the certificate holds only from {from} on; is this machine's clock right?"))
            );
        }
        if now > until {
            return Err(file.fault(format_args!("the certificate ended on {}: renew it", date(until))));
        }
        Ok(Self { file: file.clone(), until, told: None })
    }

    /// Says in the log that it ends soon or has ended, if that has not been said today; returns in what time to look again.
    pub(super) fn remind(&mut self, now: ASN1Time) -> Duration {
        let left = self.until.timestamp() - now.timestamp();
        let days = left.div_euclid(24 * 60 * 60);
        if days < WARNING_DAYS && self.told != Some(days) {
            self.told = Some(days);
            let (file, until) = (&self.file, self.until());
            let what = format!("{} {}: the certificate", file.flag, file.path.display());
            match days {
                ..0 => error!("{what} has ended on {until}: nobody can begin with TLS; renew it and send SIGHUP"),
                0 => warn!("{what} ends on {until}, which is within a day: renew it"),
                _ => warn!("{what} ends on {until}, in {days} days: renew it"),
            }
        }
        // It holds to the end of the second that it names.
        let end = u64::try_from(left + 1).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
        end.map_or(REMINDER_INTERVAL, |end| end.min(REMINDER_INTERVAL))
    }

    /// When it ends.
    pub(super) fn until(&self) -> String {
        date(self.until)
    }
}

/// As in the log.
fn date(time: ASN1Time) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    time.to_datetime().format(format).unwrap_or_else(|_| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const DAY: i64 = 24 * 60 * 60;

    fn at(seconds: i64) -> ASN1Time {
        ASN1Time::from_timestamp(1_800_000_000 + seconds).expect("a time")
    }

    #[test]
    fn the_end_of_a_certificate_is_told_of_once_a_day_and_in_the_second_behind_it() {
        let mut lasting = Lasting { file: Named::new("--tls-cert", Path::new("x")), until: at(0), told: None };
        assert_eq!(lasting.until(), "2027-01-15T08:00:00Z");
        let mut now = -15 * DAY;
        let mut told = Vec::new();
        while now < 2 * DAY {
            let before = lasting.told;
            let wait = lasting.remind(at(now));
            if lasting.told != before {
                told.push((lasting.told.expect("something"), now));
            }
            assert!(wait > Duration::ZERO && wait <= REMINDER_INTERVAL);
            now += wait.as_secs().cast_signed();
        }
        let days: Vec<i64> = told.iter().map(|(days, _)| *days).collect();
        assert_eq!(days, (-2..14).rev().collect::<Vec<_>>());
        let end = told.iter().find(|(days, _)| *days == -1);
        assert_eq!(end, Some(&(-1, 1)), "it is told at once that it has ended");
    }
}
