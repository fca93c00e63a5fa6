//! What the cipher alone costs: bytes are sealed and opened in records as a run had them, by the same AEAD of the same
//! library, on the core that the server had. No TLS takes part: no state, no copies, no sockets. What a server spends on
//! TLS beyond this is its own.
//!
//! There are as many keys as the run had connections, and each record is the next one's, so that keys are as cold as they
//! are in a server.

use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, TlsProtocolId, TlsRecordOpeningKey, TlsRecordSealingKey};
use rustix::thread::{CpuSet, sched_setaffinity};
use switchboard::bench::report::{Records, Report};

/// The suite that the clients of a comparison ask for.
const SUITE: &str = "TLS_AES_256_GCM_SHA384";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
pub(crate) const TAG_BYTES: usize = 16;
/// What stands in a record behind the bytes: what kind of record it is (RFC 8446, section 5.2).
const TYPE_BYTES: usize = 1;
/// Records of one look at the clock: so many bytes, which stay in the first-level cache, or so few records.
const BATCH_BYTES: usize = 32 * 1024;
const BATCH_RECORDS: std::ops::RangeInclusive<usize> = 4..=128;
/// How long it is measured, for each size of records.
const TIME: Duration = Duration::from_millis(150);

/// Nanoseconds that opening and sealing take for one delivery of a run: as many records, of the size that its records had.
/// `None` if the run had no TLS, or another cipher.
pub(crate) fn cost(report: &Report, connections: u32) -> Option<f64> {
    let traffic = report.traffic?;
    let (records, delivered) = (traffic.records?, traffic.delivered);
    if delivered == 0 || report.tls.as_ref()?.cipher_suite != SUITE {
        return None;
    }
    let core = report.target.core;
    let measured = thread::spawn(move || {
        if let Some(core) = core {
            let mut only = CpuSet::new();
            only.set(core);
            // If the system refuses, it is measured on another core of the same machine.
            let _ = sched_setaffinity(None, &only);
        }
        per_delivery(&records, delivered, connections)
    });
    measured.join().ok()?
}

/// As [`cost`], where `delivered` frames came in these records.
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub(crate) fn per_delivery(records: &Records, delivered: u64, connections: u32) -> Option<f64> {
    let mean = |bytes: u64, records: u64| usize::try_from(bytes.checked_div(records)?).ok();
    let mut lines: Vec<Line> = (0..connections.max(1)).map(|_| Line::new()).collect::<Option<_>>()?;
    let (_, open_ns) = measure(&mut lines, mean(records.to_server_bytes, records.to_server)?)?;
    let (seal_ns, _) = measure(&mut lines, mean(records.from_server_bytes, records.from_server)?)?;
    let each = |records: u64| records as f64 / delivered as f64;
    Some(each(records.to_server) * open_ns + each(records.from_server) * seal_ns)
}

/// One direction of a connection.
pub(crate) struct Line {
    sealing: TlsRecordSealingKey,
    opening: TlsRecordOpeningKey,
    iv: [u8; NONCE_BYTES],
    sealed: u64,
    opened: u64,
}

impl Line {
    pub(crate) fn new() -> Option<Self> {
        let (mut key, mut iv) = ([0; KEY_BYTES], [0; NONCE_BYTES]);
        fastrand::fill(&mut key);
        fastrand::fill(&mut iv);
        let sealing = TlsRecordSealingKey::new(&AES_256_GCM, TlsProtocolId::TLS13, &key).ok()?;
        let opening = TlsRecordOpeningKey::new(&AES_256_GCM, TlsProtocolId::TLS13, &key).ok()?;
        Some(Self { sealing, opening, iv, sealed: 0, opened: 0 })
    }

    /// Seals a record in place.
    pub(crate) fn seal(&mut self, record: &mut [u8]) -> Option<()> {
        let nonce = nonce(self.iv, self.sealed);
        self.sealed += 1;
        let (bytes, tag) = record.split_at_mut(record.len() - TAG_BYTES);
        let sealed = self.sealing.seal_in_place_separate_tag(nonce, header(bytes.len()), bytes).ok()?;
        tag.copy_from_slice(sealed.as_ref());
        Some(())
    }

    /// Opens it again.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Option<()> {
        let nonce = nonce(self.iv, self.opened);
        self.opened += 1;
        self.opening.open_in_place(nonce, header(record.len() - TAG_BYTES), record).ok().map(|_| ())
    }
}

/// The nonce of a record (RFC 8446, section 5.3).
fn nonce(mut iv: [u8; NONCE_BYTES], number: u64) -> Nonce {
    for (byte, of_number) in iv[NONCE_BYTES - 8..].iter_mut().zip(number.to_be_bytes()) {
        *byte ^= of_number;
    }
    Nonce::assume_unique_for_key(iv)
}

/// The header of a record, which is authenticated with it.
fn header(bytes: usize) -> Aad<[u8; 5]> {
    let [high, low] = u16::try_from(bytes + TAG_BYTES).unwrap_or(u16::MAX).to_be_bytes();
    Aad::from([23, 3, 3, high, low])
}

/// Nanoseconds to seal a record of so many bytes, and to open one: the medians of many batches, so that what interrupts
/// some of them does not count.
pub(crate) fn measure(lines: &mut [Line], bytes: usize) -> Option<(f64, f64)> {
    let record_bytes = bytes + TYPE_BYTES + TAG_BYTES;
    let records = (BATCH_BYTES / record_bytes).clamp(*BATCH_RECORDS.start(), *BATCH_RECORDS.end());
    let mut memory = vec![0; records * record_bytes];
    let (mut sealing, mut opening) = (Vec::new(), Vec::new());
    let began = Instant::now();
    let mut next = 0;
    while began.elapsed() < TIME {
        let first = next;
        let start = Instant::now();
        for record in memory.chunks_exact_mut(record_bytes) {
            lines[next].seal(record)?;
            next = (next + 1) % lines.len();
        }
        let sealed = Instant::now();
        next = first;
        for record in memory.chunks_exact_mut(record_bytes) {
            lines[next].open(record)?;
            next = (next + 1) % lines.len();
        }
        opening.push(sealed.elapsed());
        sealing.push(sealed.duration_since(start));
    }
    #[allow(clippy::cast_precision_loss, reason = "at most 128")]
    let each = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e9 / records as f64
    };
    Some((each(&mut sealing), each(&mut opening)))
}
