//! What is put on the servers over TLS, and the bars for that: all of them with the same certificate, version, key exchange
//! and cipher suite, and without resumption.
//!
//! What TLS adds to a delivery is held against the cost of the cipher alone, and what a handshake costs against servers that
//! have made many of them.

use std::time::Duration;

use switchboard::bench::comparison::Bar;
use switchboard::bench::{Scenario, Work};

use crate::rows::{Measure, Over, Repeats, Row, Run};
use crate::servers::Kind;

/// The relays that speak TLS.
const RELAYS: &[Kind] = &[Kind::Floor, Kind::Switchboard, Kind::Nats, Kind::Redis, Kind::Mosquitto];
/// What TLS may add to a delivery, as a multiple of what the cipher costs.
const TO_CIPHER: f64 = 1.25;
/// Clients that come for their handshakes at once: no server's backlog is shorter.
const HANDSHAKES_IN_FLIGHT: u32 = 100;

/// The figure itself, and what of it is due to TLS.
macro_rules! both {
    ($work:literal) => {
        const {
            &[
                Row { title: concat!($work, ", over TLS"), measure: Measure::CpuPerDelivery, bar: None },
                Row {
                    title: concat!($work, ", over TLS less plain; floor: the cipher alone"),
                    measure: Measure::CpuOfTls,
                    bar: Some(Bar::RatioToFloor(TO_CIPHER)),
                },
            ]
        }
    };
}

/// All runs over TLS, made from the work that the others are made from.
pub(crate) fn runs(base: &Work) -> Vec<Run> {
    let both = |name, work, rows| Run { name, work, servers: RELAYS, over: Over::Both, repeats: Repeats::Rounds, rows };
    let pairs = |window| Work { window, ..*base };
    vec![
        both("tls-pairs-w1", pairs(1), both!("pairs, 100 connections, window 1")),
        both("tls-pairs-w16", pairs(16), both!("pairs, 100 connections, window 16")),
        both("tls-pairs-w128", pairs(128), both!("pairs, 100 connections, window 128")),
        both(
            "tls-pairs-64k",
            Work { size: 64 * 1024, ..pairs(4) },
            both!("pairs, 100 connections, 64 KiB payloads, window 4"),
        ),
        Run {
            name: "tls-handshakes",
            work: Work {
                scenario: Scenario::Idle,
                connections: 4000,
                time: Duration::ZERO,
                in_flight_max: HANDSHAKES_IN_FLIGHT,
                ..*base
            },
            servers: &[Kind::Switchboard, Kind::Mosquitto, Kind::Nginx],
            over: Over::Handshake,
            repeats: Repeats::Rounds,
            rows: const {
                &[Row {
                    title: "4,000 clients connect, shake hands and go",
                    measure: Measure::CpuPerArrival,
                    bar: Some(Bar::RatioToBestPeer(1.0)),
                }]
            },
        },
        Run {
            name: "tls-idle-18k",
            work: Work {
                scenario: Scenario::Idle,
                connections: 18_000,
                time: Duration::ZERO,
                in_flight_max: HANDSHAKES_IN_FLIGHT,
                ..*base
            },
            servers: &[Kind::Switchboard, Kind::Nats, Kind::Redis, Kind::Mosquitto],
            over: Over::Tls,
            repeats: Repeats::Rounds,
            rows: const {
                &[
                    Row {
                        title: "18,000 clients connect and register over TLS",
                        measure: Measure::CpuPerArrival,
                        bar: None,
                    },
                    Row {
                        title: "18,000 idle registered connections over TLS",
                        measure: Measure::MemoryPerConnection,
                        bar: Some(Bar::Value(10.0 * 1024.0)),
                    },
                ]
            },
        },
        Run {
            name: "tls-storm-5k",
            work: Work { scenario: Scenario::Storm, connections: 5000, ..*base },
            servers: &[Kind::Switchboard],
            over: Over::Tls,
            repeats: Repeats::Rounds,
            rows: const {
                &[Row {
                    title: "5,000 lost and back at once over TLS",
                    measure: Measure::BystanderP99,
                    bar: Some(Bar::Value(20_000.0)),
                }]
            },
        },
    ]
}
