//! Plots as SVG: lines over an axis, and bars that start at one.
//!
//! They are drawn with colours that are legible on white and on black. A page replaces these colours by its
//! own variables, so that a plot follows the page's colours: see [`follow_page`].

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "coordinates and numbers of ticks: small, and never negative"
)]

mod axis;
mod bars;

pub(super) use axis::{Axis, Quantity};
pub(super) use bars::{Bar, Bars, Group};

use std::io;

use plotters::coord::Shift;
use plotters::prelude::{
    ChartBuilder, Color, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, IntoFont, LineSeries, RGBColor,
    SVGBackend, ShapeStyle, TextStyle,
};

/// Text, axes and the lines of the grid.
const INK: RGBColor = RGBColor(0x78, 0x7c, 0x82);
/// One colour for each line or server.
const SERIES: [RGBColor; 6] = [
    RGBColor(0x3b, 0x82, 0xf6),
    RGBColor(0xe8, 0x7b, 0x1c),
    RGBColor(0x1d, 0xa0, 0x6c),
    RGBColor(0xb0, 0x63, 0xd8),
    RGBColor(0xdb, 0x4a, 0x62),
    RGBColor(0x9a, 0x84, 0x2e),
];
/// How many there are; beyond that they come again.
pub(super) const SERIES_COLOURS: usize = SERIES.len();
/// Drawings have whole coordinates: they are made so many times as large, and shown at their size.
const FINE: u32 = 8;
/// The size of words.
const TEXT: u32 = 13;
/// The grid beside the words.
const GRID_SHARE: f64 = 0.2;

/// The drawing's area while it is drawn.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What goes wrong on it.
type Fault = DrawingAreaErrorKind<io::Error>;

/// Lines over two axes. The first line has the first colour; an empty one takes none of the space.
///
/// # Errors
/// The drawing failed.
pub(super) fn lines(name: &str, x: &Axis, y: &Axis, lines: &[Vec<(f64, f64)>]) -> io::Result<String> {
    draw(name, (480, 280), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(px(10))
            // Half of the last word stands beyond the end of its axis.
            .margin_right(px(26))
            .x_label_area_size(px(42))
            .y_label_area_size(px(62))
            .build_cartesian_2d(x.clone(), y.clone())?;
        chart
            .configure_mesh()
            .axis_style(INK.stroke_width(px(1)))
            .bold_line_style(INK.mix(GRID_SHARE).stroke_width(px(1)))
            .light_line_style(INK.mix(0.0))
            .set_all_tick_mark_size(px(4))
            .label_style(words(TEXT))
            .axis_desc_style(words(TEXT))
            .x_desc(x.title.as_str())
            .draw()?;
        for (number, line) in lines.iter().enumerate() {
            let points = line.iter().map(|(at, value)| (x.place(*at), y.place(*value)));
            chart.draw_series(LineSeries::new(points, stroke(series_colour(number), 2)))?;
        }
        Ok(())
    })
}

/// Draws something of this size, and names it for those who cannot see it.
fn draw(name: &str, size: (u32, u32), on: impl FnOnce(&Area<'_>) -> Result<(), Fault>) -> io::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (size.0 * FINE, size.1 * FINE)).into_drawing_area();
        on(&area).and_then(|()| area.present()).map_err(io::Error::other)?;
    }
    // Made large for fine coordinates, shown at its size, and as wide as its place allows.
    let (fine, shown) = (size_attributes(size.0 * FINE, size.1 * FINE), size_attributes(size.0, size.1));
    let shown = format!("{shown} role=\"img\" aria-label=\"{}\"", escaped(name));
    Ok(svg.replacen(&fine, &shown, 1))
}

fn size_attributes(width: u32, height: u32) -> String {
    format!("width=\"{width}\" height=\"{height}\"")
}

/// A plot whose words have the page's colour, and whose lines have its variables `--series-0` and on.
pub(super) fn follow_page(svg: &str) -> String {
    let mut page = svg.replace(&hex(INK), "\"currentColor\"");
    for (number, colour) in SERIES.iter().enumerate() {
        page = page.replace(&hex(*colour), &format!("\"var(--series-{number})\""));
    }
    page
}

/// As the backend writes it, as an attribute.
fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("\"#{red:02X}{green:02X}{blue:02X}\"")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The colour of a line or a server: they come again when there are more.
fn series_colour(number: usize) -> RGBColor {
    SERIES[number % SERIES_COLOURS]
}

fn words(size: u32) -> TextStyle<'static> {
    // The backend divides sizes by this before it writes them.
    (("sans-serif"), f64::from(px(size)) * 1.24).into_font().color(&INK)
}

fn stroke(colour: RGBColor, width: u32) -> ShapeStyle {
    colour.stroke_width(px(width))
}

const fn px(size: u32) -> u32 {
    size * FINE
}
