//! Axes of charts, drawn as SVG.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// A part of an image.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A part of an image with axes.
pub type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
/// Writing to a string does not fail, but the library cannot know.
pub type DrawError = DrawingAreaErrorKind<std::io::Error>;

/// Family and height of labels. The library places everything on whole units, so an image has about
/// twice as many of them as pixels on a screen.
pub const TEXT: (&str, u32) = ("sans-serif", 26);

/// An axis: its ends, and the values that have a label.
pub struct Axis {
    /// What is along it.
    pub title: &'static str,
    /// Its ends.
    pub range: Range<f64>,
    /// The values that have a label.
    pub ticks: Vec<f64>,
    /// The text of a label.
    pub label: fn(f64) -> String,
}

impl Axis {
    /// With labels at about five round values.
    pub fn new(title: &'static str, range: Range<f64>) -> Self {
        Self {
            title,
            ticks: RangedCoordf64::from(range.clone()).key_points(6),
            range,
            label: |value| format!("{value:.1}"),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        (self.label)(*value)
    }
}

/// An image of `size` units.
///
/// # Errors
/// The drawing library failed.
pub fn svg(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), DrawError>,
) -> Result<String, DrawError> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    area.fill(&WHITE)?;
    draw(&area)?;
    area.present()?;
    drop(area);
    Ok(svg)
}

/// Draws axes in `area`, with lines across at the labels of `y`.
///
/// # Errors
/// The drawing library failed.
pub fn axes<'a, 'b>(area: &'a Area<'b>, x: Axis, y: Axis) -> Result<Chart<'a, 'b>, DrawError> {
    let titles = (x.title, y.title);
    let mut chart = ChartBuilder::on(area)
        .margin(20)
        .margin_right(32)
        .x_label_area_size(72)
        .y_label_area_size(100)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(RGBColor(0xe4, 0xe4, 0xe7))
        .axis_style(RGBColor(0x88, 0x88, 0x88))
        .label_style(TEXT.with_color(RGBColor(0x52, 0x52, 0x5b)))
        .x_desc(titles.0)
        .y_desc(titles.1)
        .draw()?;
    Ok(chart)
}
