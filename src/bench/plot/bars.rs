//! Groups of bars on a logarithmic axis that start at one: so many times as much as the floor, or less.

use std::io;

use plotters::prelude::{Color, DrawingAreaErrorKind, PathElement, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Area, Axis, Fault, GRID_SHARE, INK, TEXT, draw, px, series_colour, stroke, words};
use crate::bench::units::{NONE, times};

/// The width of all.
const WIDTH: u32 = 860;
/// Above the bars: the legend and the words of the axis.
const TOP: u32 = 64;
/// Below the bars.
const BOTTOM: u32 = 8;
/// A bar, the gap to the next, and the gap between groups.
const BAR: u32 = 11;
const GAP: u32 = 3;
const GROUP_GAP: u32 = 14;
/// On the right of the bars, for what they say.
const RIGHT: u32 = 60;
/// What a letter takes, on the average.
const LETTER: f64 = 6.4;
/// Letters that a group's name has at most; the rest is cut.
const NAME_LETTERS_MAX: usize = 46;

/// Groups of bars.
#[derive(Clone, Debug, Default)]
pub(in crate::bench) struct Bars {
    /// A name for those who cannot see it.
    pub(in crate::bench) name: String,
    /// What the line at one is.
    pub(in crate::bench) base: String,
    /// What the bars are, each with its colour.
    pub(in crate::bench) series: Vec<String>,
    /// What a mark is; empty if there are none.
    pub(in crate::bench) mark: String,
    /// The groups from top to bottom.
    pub(in crate::bench) groups: Vec<Group>,
}

/// The bars of one work.
#[derive(Clone, Debug, Default)]
pub(in crate::bench) struct Group {
    /// The work.
    pub(in crate::bench) name: String,
    /// One for each series.
    pub(in crate::bench) bars: Vec<Bar>,
}

/// One bar.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::bench) struct Bar {
    /// How far it reaches; absent where nothing was measured.
    pub(in crate::bench) value: Option<f64>,
    /// Where it should end.
    pub(in crate::bench) mark: Option<f64>,
}

impl Bars {
    /// The chart as an SVG file.
    ///
    /// # Errors
    /// The drawing failed.
    pub(in crate::bench) fn svg(&self) -> io::Result<String> {
        let heights = self.groups.iter().map(|group| group_height(group) + GROUP_GAP).sum::<u32>();
        draw(&self.name, (WIDTH, TOP + heights + BOTTOM), |area| self.draw_on(area))
    }

    fn draw_on(&self, area: &Area<'_>) -> Result<(), Fault> {
        let axis = self.axis();
        let longest = self.groups.iter().map(|group| shortened(&group.name).chars().count()).max().unwrap_or(0);
        let left = (longest as f64 * LETTER) as u32 + 16;
        let bottom = self.groups.iter().map(|group| group_height(group) + GROUP_GAP).sum::<u32>() + TOP;
        let scale = Scale { left: left.into(), right: (WIDTH - RIGHT).into(), axis: &axis };
        self.draw_legend(area, left)?;
        for (place, word) in &axis.ticks {
            let x = scale.at(*place);
            let is_base = place.abs() < 1e-9;
            let style = if is_base { stroke(INK, 1) } else { INK.mix(GRID_SHARE).stroke_width(px(1)) };
            path(area, [(x, f64::from(TOP - 6)), (x, f64::from(bottom))], style)?;
            text(area, word, (x, f64::from(TOP - 14)), HPos::Center)?;
        }
        let mut top = TOP + GROUP_GAP / 2;
        for group in &self.groups {
            let height = group_height(group);
            text(
                area,
                &shortened(&group.name),
                (f64::from(left) - 10.0, f64::from(top) + f64::from(height) / 2.0),
                HPos::Right,
            )?;
            for (number, bar) in group.bars.iter().enumerate() {
                let (upper, lower) = (f64::from(top), f64::from(top + BAR));
                if let Some(value) = bar.value.filter(|value| *value > 0.0 && value.is_finite()) {
                    let (base, end) = (scale.of(1.0), scale.of(value));
                    // A bar that ends where it begins is still to be seen.
                    let end_seen = if (end - base).abs() < 1.5 { base + 1.5 } else { end };
                    area.draw(&Rectangle::new(
                        [whole((base.min(end_seen), upper)), whole((base.max(end_seen), lower))],
                        series_colour(number).filled(),
                    ))?;
                    let mark_end = bar.mark.map_or(base, |mark| scale.of(mark));
                    text(
                        area,
                        &times(value),
                        (end_seen.max(base).max(mark_end) + 5.0, f64::midpoint(upper, lower)),
                        HPos::Left,
                    )?;
                }
                if bar.value.is_none() {
                    text(area, NONE, (scale.of(1.0) + 5.0, f64::midpoint(upper, lower)), HPos::Left)?;
                }
                if let Some(mark) = bar.mark {
                    let x = scale.of(mark);
                    path(area, [(x, upper - 4.0), (x, lower + 2.0)], stroke(INK, 2))?;
                }
                top += BAR + GAP;
            }
            top += GROUP_GAP - if group.bars.is_empty() { 0 } else { GAP } + height_without_bars(group);
        }
        Ok(())
    }

    /// A coloured field and a word for each series, the line at one, and the marks.
    fn draw_legend(&self, area: &Area<'_>, left: u32) -> Result<(), Fault> {
        // From the very left if the words would not fit above the bars.
        let letters: usize = self.series.iter().chain([&self.base, &self.mark]).map(|word| word.chars().count()).sum();
        let needed = letters as f64 * (LETTER + 0.4) + 40.0 * (self.series.len() + 2) as f64;
        let mut x = if f64::from(left) + needed > f64::from(WIDTH) { 8.0 } else { f64::from(left) };
        let middle = 16.0;
        for (number, word) in self.series.iter().enumerate() {
            area.draw(&Rectangle::new(
                [whole((x, middle - 5.5)), whole((x + 11.0, middle + 5.5))],
                series_colour(number).filled(),
            ))?;
            x = legend_word(area, word, x + 17.0, middle)?;
        }
        for (word, style) in [(&self.base, stroke(INK, 1)), (&self.mark, stroke(INK, 2))] {
            if !word.is_empty() {
                path(area, [(x + 3.0, middle - 7.0), (x + 3.0, middle + 7.0)], style)?;
                x = legend_word(area, word, x + 11.0, middle)?;
            }
        }
        Ok(())
    }

    fn axis(&self) -> Axis {
        let bars = self.groups.iter().flat_map(|group| &group.bars);
        let ends = bars.flat_map(|bar| [bar.value, bar.mark]).flatten().filter(|value| *value > 0.0);
        let (low, high) = ends.fold((1.0f64, 1.5f64), |(low, high), value| (low.min(value), high.max(value)));
        Axis::logarithmic("", low, high, &|value| format!("{value}×"))
    }
}

/// From values to the drawing.
struct Scale<'a> {
    left: f64,
    right: f64,
    axis: &'a Axis,
}

impl Scale<'_> {
    fn of(&self, value: f64) -> f64 {
        self.at(self.axis.place(value))
    }

    fn at(&self, place: f64) -> f64 {
        self.left + (self.right - self.left) * (place - self.axis.low) / (self.axis.high - self.axis.low)
    }
}

fn group_height(group: &Group) -> u32 {
    ((BAR + GAP) * group.bars.len() as u32).saturating_sub(GAP) + height_without_bars(group)
}

/// A name needs its height even where there is nothing to show.
fn height_without_bars(group: &Group) -> u32 {
    if group.bars.is_empty() { BAR } else { 0 }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME_LETTERS_MAX {
        return name.to_owned();
    }
    let kept: String = name.chars().take(NAME_LETTERS_MAX - 1).collect();
    format!("{kept}…")
}

fn legend_word(area: &Area<'_>, word: &str, x: f64, middle: f64) -> Result<f64, Fault> {
    text(area, word, (x, middle), HPos::Left)?;
    Ok(x + word.chars().count() as f64 * (LETTER + 0.4) + 20.0)
}

fn text(area: &Area<'_>, word: &str, at: (f64, f64), side: HPos) -> Result<(), Fault> {
    let style = words(TEXT - 1).pos(Pos::new(side, VPos::Center));
    area.draw_text(word, &style, whole(at))
}

fn path(
    area: &Area<'_>,
    points: [(f64, f64); 2],
    style: plotters::style::ShapeStyle,
) -> Result<(), DrawingAreaErrorKind<io::Error>> {
    area.draw(&PathElement::new(points.map(whole).to_vec(), style))
}

/// The fine coordinates of a point.
fn whole((x, y): (f64, f64)) -> (i32, i32) {
    let fine = |value: f64| (value * f64::from(px(1))).round() as i32;
    (fine(x), fine(y))
}
