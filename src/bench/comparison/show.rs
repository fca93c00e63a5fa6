//! A comparison for people: tables, and the chart of the ratios to the floor.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};

use super::{Bar, Cell, Comparison, Role, Row, Server};
use crate::bench::plot::{self, Bars, Group};
use crate::bench::report::Paint;
use crate::bench::units::{NONE, bytes, figure, rate, time_ns, time_us, times};
use crate::harmless::one_line;

/// A cell for servers that a row says nothing of.
const ABSENT: &Cell = &Cell {
    value: None,
    ratio_to_floor: None,
    cpu_ns_per_delivery: None,
    delivered_per_second: None,
    p50_us: None,
    p99_us: None,
    p999_us: None,
    max_us: None,
    memory_per_connection_bytes: None,
    note: String::new(),
};

/// Stands at a figure of which more is said below.
const NOTED: &str = "*";

impl Comparison {
    /// Writes the table for a terminal: each work with the figure that compares, its ratio to the floor, and
    /// whether the bar is reached; then everything else that was measured, work by work.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_text(&self, out: &mut dyn Write, colour: bool) -> io::Result<()> {
        let paint = Paint::new(colour);
        writeln!(out, "{}", paint.bold(&one_line(&self.title)))?;
        writeln!(out, "{}", self.about())?;
        writeln!(out)?;
        let mut table = laid_out(presets::NOTHING);
        table.add_row(self.heading());
        for row in &self.rows {
            table.add_row(self.line(row, |reached, bar| match reached {
                Some(true) => format!("{bar} reached"),
                Some(false) => format!("{bar} MISSED"),
                None => bar,
            }));
        }
        align(&mut table);
        writeln!(out, "{}", table.trim_fmt())?;
        for note in self.notes() {
            writeln!(out, "{NOTED} {note}")?;
        }
        for row in &self.rows {
            let details = self.details(row);
            if !details.is_empty() {
                writeln!(out)?;
                writeln!(out, "{}", paint.bold(&one_line(&row.name)))?;
                let mut table = laid_out(presets::NOTHING);
                table.add_rows(details);
                align(&mut table);
                writeln!(out, "{}", table.trim_fmt())?;
            }
        }
        self.write_verdict(out, paint)
    }

    /// Writes the first table in Markdown, for a README.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_markdown(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = laid_out(presets::ASCII_MARKDOWN);
        table.set_header(self.heading().iter().map(|word| markdown(word)));
        for row in &self.rows {
            let line = self.line(row, |reached, bar| match reached {
                Some(false) => format!("{bar} (missed)"),
                _ => bar,
            });
            table.add_row(line.iter().map(|word| markdown(word)));
        }
        align(&mut table);
        let mut lines: Vec<String> = table.lines().collect();
        // Markdown has a mark for columns that stand to the right.
        if let Some(rule) = lines.get_mut(1) {
            let columns: Vec<&str> = rule.trim_matches('|').split('|').collect();
            let marked = columns.iter().enumerate().map(|(number, column)| match number {
                0 => (*column).to_owned(),
                _ => format!("{}:", &column[..column.len() - 1]),
            });
            *rule = format!("|{}|", marked.collect::<Vec<_>>().join("|"));
        }
        writeln!(out, "{}", lines.join("\n"))?;
        for note in self.notes() {
            writeln!(out)?;
            writeln!(out, "{} {}", markdown(NOTED), markdown(&note))?;
        }
        writeln!(out)?;
        writeln!(out, "{}", markdown(&self.about()))
    }

    /// The chart of the ratios to the floor as an SVG file that is legible on white and on black; none if no
    /// ratio is known.
    ///
    /// # Errors
    /// The drawing failed.
    pub fn chart(&self) -> io::Result<Option<String>> {
        let shown: Vec<usize> = (0..self.servers.len()).filter(|at| self.servers[*at].role != Role::Floor).collect();
        let mut groups = Vec::new();
        for row in &self.rows {
            let cells: Vec<(&Server, &Cell)> = self.cells(row).collect();
            if !shown.iter().any(|at| cells[*at].1.ratio_to_floor.is_some()) {
                continue;
            }
            let bars = shown.iter().map(|at| plot::Bar {
                value: cells[*at].1.ratio_to_floor,
                mark: row.bar.and_then(|bar| match bar {
                    Bar::RatioToFloor(most) if cells[*at].0.role == Role::Subject => Some(most),
                    _ => None,
                }),
            });
            groups.push(Group { name: one_line(&row.name), bars: bars.collect() });
        }
        if groups.is_empty() {
            return Ok(None);
        }
        let has_marks = groups.iter().any(|group| group.bars.iter().any(|bar| bar.mark.is_some()));
        let floor = self.position(Role::Floor).map_or("floor", |at| self.servers[at].name.as_str());
        let bars = Bars {
            name: self.chart_title(),
            base: format!("{} = 1×", one_line(floor)),
            series: shown.iter().map(|at| one_line(&self.servers[*at].name)).collect(),
            mark: if has_marks { "to be reached".to_owned() } else { String::new() },
            groups,
        };
        bars.svg().map(Some)
    }

    /// What the chart shows.
    pub(in crate::bench) fn chart_title(&self) -> String {
        let floor = self.position(Role::Floor).map_or("the floor", |at| self.servers[at].name.as_str());
        format!("As a multiple of {} (less is better)", one_line(floor))
    }

    /// Each server and what it did in a row.
    pub(in crate::bench) fn cells<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = (&'a Server, &'a Cell)> {
        let cells = row.cells.iter().chain(std::iter::repeat(ABSENT));
        self.servers.iter().zip(cells)
    }

    /// The ratio to the best peer, with its name.
    pub(in crate::bench) fn shown_best(&self, row: &Row) -> String {
        self.to_best_peer(row).map_or(NONE.to_owned(), |(ratio, name)| format!("{} {}", times(ratio), one_line(name)))
    }

    /// Everything that was measured besides the figure that compares: a heading, and a line for each server.
    /// Columns in which nobody has a figure are left out; nothing if all are.
    pub(in crate::bench) fn details(&self, row: &Row) -> Vec<Vec<String>> {
        type Column = (&'static str, fn(&Cell) -> Option<f64>, fn(f64) -> String);
        let all: [Column; 7] = [
            ("CPU a delivery", |cell| cell.cpu_ns_per_delivery, time_ns),
            ("delivered", |cell| cell.delivered_per_second, rate),
            ("p50", |cell| cell.p50_us, time_us),
            ("p99", |cell| cell.p99_us, time_us),
            ("p99.9", |cell| cell.p999_us, time_us),
            ("max", |cell| cell.max_us, time_us),
            ("memory a connection", |cell| cell.memory_per_connection_bytes, bytes),
        ];
        let columns: Vec<_> = all.iter().filter(|(_, of, _)| row.cells.iter().any(|cell| of(cell).is_some())).collect();
        if columns.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![vec!["server".to_owned()]];
        lines[0].extend(columns.iter().map(|(name, _, _)| (*name).to_owned()));
        for (server, cell) in self.cells(row) {
            let figures: Vec<_> = columns.iter().map(|(_, of, shown)| of(cell).map(shown)).collect();
            if figures.iter().all(Option::is_none) {
                continue;
            }
            let mut line = vec![one_line(&server.name)];
            line.extend(figures.into_iter().map(|figure| figure.unwrap_or_else(|| NONE.to_owned())));
            lines.push(line);
        }
        lines
    }

    /// What the figures are, the machine, the date and the command in one line.
    fn about(&self) -> String {
        let measure = self.common_measure().map(|measure| format!("{measure} where a row says nothing else"));
        let words = [&self.machine, &self.date, &self.command].into_iter().filter(|word| !word.is_empty()).cloned();
        measure.into_iter().chain(words).map(|word| one_line(&word)).collect::<Vec<_>>().join(" · ")
    }

    /// The measure of most rows: it need not stand in each.
    fn common_measure(&self) -> Option<&str> {
        let count = |row: &Row| self.rows.iter().filter(|other| other.measure == row.measure).count();
        let most = self.rows.iter().max_by_key(|row| count(row))?;
        Some(most.measure.as_str()).filter(|measure| !measure.is_empty())
    }

    /// What has to be said of cells: once for a server of which the same holds in all rows.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (column, server) in self.servers.iter().enumerate() {
            let said = |row: &Row| row.cells.get(column).map_or(String::new(), |cell| one_line(&cell.note));
            let name = one_line(&server.name);
            let first = self.rows.first().map(said).unwrap_or_default();
            if !first.is_empty() && self.rows.iter().all(|row| said(row) == first) {
                notes.push(format!("{name}: {first}"));
                continue;
            }
            let rows = self.rows.iter().filter(|row| !said(row).is_empty());
            notes.extend(rows.map(|row| format!("{name}, {}: {}", one_line(&row.name), said(row))));
        }
        notes
    }

    fn heading(&self) -> Vec<String> {
        let servers = self.servers.iter().map(|server| match server.version.as_str() {
            "" => one_line(&server.name),
            version => one_line(&format!("{} {version}", server.name)),
        });
        let mut heading = vec!["work".to_owned()];
        heading.extend(servers);
        heading.extend(["bar".to_owned(), "to best peer".to_owned()]);
        heading
    }

    /// A row of the first table.
    fn line(&self, row: &Row, bar: impl Fn(Option<bool>, String) -> String) -> Vec<String> {
        let name = one_line(&row.name);
        let is_common = self.common_measure().is_none_or(|measure| measure == row.measure);
        let mut line = vec![if is_common { name } else { format!("{name} ({})", one_line(&row.measure)) }];
        for (_, cell) in self.cells(row) {
            let noted = if cell.note.is_empty() { "" } else { NOTED };
            let words = [format!("{}{noted}", cell.shown_value(row)), cell.shown_ratio()];
            line.push(words.join(" ").trim_end().to_owned());
        }
        line.push(bar(self.reaches(row), row.shown_bar()));
        line.push(self.shown_best(row));
        line
    }

    fn write_verdict(&self, out: &mut dyn Write, paint: Paint) -> io::Result<()> {
        let judged: Vec<(&Row, bool)> = self.rows.iter().filter_map(|row| Some((row, self.reaches(row)?))).collect();
        if judged.is_empty() {
            return Ok(());
        }
        let missed: Vec<String> =
            judged.iter().filter(|(_, reached)| !reached).map(|(row, _)| one_line(&row.name)).collect();
        let line = format!("{} of {} bars reached", judged.len() - missed.len(), judged.len());
        writeln!(out)?;
        if missed.is_empty() {
            writeln!(out, "{}", paint.green(&line))
        } else {
            writeln!(out, "{}; missed: {}", paint.red(&line), missed.join("; "))
        }
    }
}

impl Row {
    /// The bar with its unit.
    pub(in crate::bench) fn shown_bar(&self) -> String {
        match self.bar {
            None => String::new(),
            Some(Bar::RatioToFloor(most)) => format!("≤ {}", times(most)),
            Some(Bar::RatioToBestPeer(most)) => format!("≤ {} the best peer", times(most)),
            Some(Bar::Value(most)) => format!("≤ {}", figure(most, &self.unit)),
        }
    }
}

impl Cell {
    /// The figure that compares, with its unit.
    pub(in crate::bench) fn shown_value(&self, row: &Row) -> String {
        self.value.map_or_else(|| NONE.to_owned(), |value| figure(value, &row.unit))
    }

    /// The ratio to the floor in brackets, if it is known.
    pub(in crate::bench) fn shown_ratio(&self) -> String {
        self.ratio_to_floor.map_or_else(String::new, |ratio| format!("({})", times(ratio)))
    }
}

fn laid_out(style: comfy_table::TableStyle) -> Table {
    let mut table = Table::new();
    table.load_style(style);
    table
}

/// Figures to the right, and two spaces between columns that have no line between them.
fn align(table: &mut Table) {
    for (number, column) in table.column_iter_mut().enumerate() {
        if number > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Text from outside in a cell of a Markdown table.
fn markdown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '\\' | '*' | '_' | '`' | '[' | ']' => {
                safe.push('\\');
                safe.push(c);
            }
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            _ => safe.push(c),
        }
    }
    safe
}
