//! The page of a comparison.

use std::io;

use serde::Serialize;

use super::render;
use crate::bench::comparison::{Comparison, Role};
use crate::bench::plot;
use crate::harmless::one_line;

#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    about: Vec<&'a str>,
    command: &'a str,
    verdict: String,
    missed: Vec<&'a str>,
    chart_title: String,
    chart: Option<String>,
    servers: &'a [crate::bench::comparison::Server],
    rows: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    measure: &'a str,
    cells: Vec<Cell>,
    bar: String,
    reached: Option<bool>,
    best: String,
    details: Vec<Vec<String>>,
}

#[derive(Serialize)]
struct Cell {
    value: String,
    ratio: String,
    note: String,
}

/// Writes the page of a comparison.
///
/// # Errors
/// Those of the writer, or the chart could not be drawn.
pub fn comparison(comparison: &Comparison, out: &mut dyn io::Write) -> io::Result<()> {
    let judged: Vec<bool> = comparison.rows.iter().filter_map(|row| comparison.reaches(row)).collect();
    let reached = judged.iter().filter(|reached| **reached).count();
    let subject = comparison.position(Role::Subject).map_or("", |at| comparison.servers[at].name.as_str());
    let verdict = match judged.len() {
        0 => String::new(),
        bars => format!("{} reaches {reached} of {bars} bars.", one_line(subject)),
    };
    let missed = comparison.rows.iter().filter(|row| comparison.reaches(row) == Some(false));
    let page = Page {
        title: &comparison.title,
        about: [comparison.machine.as_str(), &comparison.date].into_iter().filter(|word| !word.is_empty()).collect(),
        command: &comparison.command,
        verdict,
        missed: missed.map(|row| row.name.as_str()).collect(),
        chart_title: comparison.chart_title(),
        chart: comparison.chart()?.map(|svg| plot::follow_page(&svg)),
        servers: &comparison.servers,
        rows: comparison.rows.iter().map(|row| page_row(comparison, row)).collect(),
    };
    render("comparison.html", &page, out)
}

fn page_row<'a>(comparison: &Comparison, row: &'a crate::bench::comparison::Row) -> Row<'a> {
    let cells = comparison.cells(row).map(|(_, cell)| Cell {
        value: cell.shown_value(row),
        ratio: cell.shown_ratio(),
        note: one_line(&cell.note),
    });
    Row {
        name: &row.name,
        measure: &row.measure,
        cells: cells.collect(),
        bar: row.shown_bar(),
        reached: comparison.reaches(row),
        best: comparison.shown_best(row),
        details: comparison.details(row),
    }
}
