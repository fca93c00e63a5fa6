//! Several servers at the same work, side by side: a table for a terminal or a README, JSON, and a chart.
//!
//! Whoever ran them fills a [`Comparison`] in; nothing here measures. The page is made by
//! [`super::page::comparison()`].
//!
//! # The shape of the JSON
//!
//! One object. `servers` are the columns, `rows` the works; each row's `cells` stand in the order of
//! `servers`. Names end in their unit; a figure that was not measured is `null`.
//!
//! ```json
//! { "format": 1, "title": "…", "machine": "…", "date": "…", "command": "…",
//!   "servers": [{ "name": "floor", "version": "", "role": "floor" }],
//!   "rows": [{ "name": "pairs, 100 connections, window 1", "measure": "server CPU a delivery", "unit": "ns",
//!              "bar": { "ratio_to_floor": 1.06 },
//!              "cells": [{ "value": 3390.0, "ratio_to_floor": 1.0, "cpu_ns_per_delivery": 3390.0,
//!                          "delivered_per_second": 294000.0, "p50_us": 330.0, "p99_us": 420.0, "p999_us": 600.0,
//!                          "max_us": 900.0, "memory_per_connection_bytes": null, "note": "" }] }] }
//! ```

mod show;

use std::io;

use serde::{Deserialize, Serialize};

/// What several servers did with the same work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// A heading.
    pub title: String,
    /// The machine, in words.
    pub machine: String,
    /// When, in words.
    pub date: String,
    /// The command that repeats it.
    pub command: String,
    /// The servers: the columns.
    pub servers: Vec<Server>,
    /// The works: the rows.
    pub rows: Vec<Row>,
}

/// A server that took part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its version; empty where it has none.
    pub version: String,
    /// What it is there for.
    pub role: Role,
}

/// What a server is in a comparison for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Does the least that any server must do: what the others are held against.
    Floor,
    /// The one whose bars are looked at.
    Subject,
    /// Another server.
    #[default]
    Peer,
}

/// One work, and how each server did it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The work: "pairs, 100 connections, window 1".
    pub name: String,
    /// What [`Cell::value`] is: "server CPU a delivery", "p99". Less is better.
    pub measure: String,
    /// The unit of [`Cell::value`]: `ns`, `us`, `ms`, `s`, `bytes`, `%`, or any other word.
    pub unit: String,
    /// What the subject must reach.
    pub bar: Option<Bar>,
    /// One for each server, in the order of [`Comparison::servers`]. Those that are missing at the end were
    /// not measured.
    pub cells: Vec<Cell>,
}

/// The most that the subject's figure may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// So many times the floor's.
    RatioToFloor(f64),
    /// So many times the best peer's.
    RatioToBestPeer(f64),
    /// So much, in the row's unit.
    Value(f64),
}

/// How one server did one work. What was not measured, or does not apply, is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cell {
    /// The figure by which this row compares, in the row's unit.
    pub value: Option<f64>,
    /// That figure as a multiple of the floor's. [`Comparison::fill_ratios`] sets it where it is absent; whoever
    /// measured server and floor in turns and knows better sets it before.
    pub ratio_to_floor: Option<f64>,
    /// CPU time of the server for each delivered frame, in nanoseconds.
    pub cpu_ns_per_delivery: Option<f64>,
    /// Frames that arrived, in a second.
    pub delivered_per_second: Option<f64>,
    /// The median latency, in microseconds.
    pub p50_us: Option<f64>,
    /// 99 of 100 were at most this.
    pub p99_us: Option<f64>,
    /// 999 of 1,000.
    pub p999_us: Option<f64>,
    /// The longest.
    pub max_us: Option<f64>,
    /// Resident memory for each connection.
    pub memory_per_connection_bytes: Option<f64>,
    /// Anything that has to be said: "skipped: not installed", "lost 3 frames".
    pub note: String,
}

impl Server {
    /// A server.
    #[must_use]
    pub fn new(name: &str, version: &str, role: Role) -> Self {
        Self { name: name.to_owned(), version: version.to_owned(), role }
    }
}

impl Row {
    /// A row without cells yet.
    #[must_use]
    pub fn new(name: &str, measure: &str, unit: &str, bar: Option<Bar>) -> Self {
        Self { name: name.to_owned(), measure: measure.to_owned(), unit: unit.to_owned(), bar, cells: Vec::new() }
    }
}

impl Cell {
    /// A cell in which nothing was measured, and why.
    #[must_use]
    pub fn skipped(why: &str) -> Self {
        Self { note: why.to_owned(), ..Self::default() }
    }
}

impl Comparison {
    /// Sets the ratio to the floor wherever it is absent and both figures are known.
    pub fn fill_ratios(&mut self) {
        let Some(floor) = self.position(Role::Floor) else { return };
        for row in &mut self.rows {
            let Some(least) = row.cells.get(floor).and_then(|cell| cell.value).filter(|value| *value > 0.0) else {
                continue;
            };
            for cell in &mut row.cells {
                cell.ratio_to_floor = cell.ratio_to_floor.or(cell.value.map(|value| value / least));
            }
        }
    }

    /// The column of the first server with this role.
    #[must_use]
    pub fn position(&self, role: Role) -> Option<usize> {
        self.servers.iter().position(|server| server.role == role)
    }

    /// Whether the subject reaches a row's bar; `None` where there is no bar or no figure.
    #[must_use]
    pub fn reaches(&self, row: &Row) -> Option<bool> {
        let cell = row.cells.get(self.position(Role::Subject)?)?;
        match row.bar? {
            Bar::RatioToFloor(most) => cell.ratio_to_floor.map(|ratio| ratio <= most),
            Bar::RatioToBestPeer(most) => self.to_best_peer(row).map(|(ratio, _)| ratio <= most),
            Bar::Value(most) => cell.value.map(|value| value <= most),
        }
    }

    /// The subject's figure as a multiple of the best peer's, with that peer's name.
    #[must_use]
    pub fn to_best_peer(&self, row: &Row) -> Option<(f64, &str)> {
        let subject = row.cells.get(self.position(Role::Subject)?)?.value?;
        let peers = self.servers.iter().zip(&row.cells).filter(|(server, _)| server.role == Role::Peer);
        let figures = peers.filter_map(|(server, cell)| Some((cell.value?, server.name.as_str())));
        let (best, name) = figures.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|(best, _)| *best > 0.0)?;
        Some((subject / best, name))
    }

    /// Writes it as one JSON object.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_json(&self, out: &mut dyn io::Write) -> io::Result<()> {
        super::report::write_document(self, out)
    }
}
