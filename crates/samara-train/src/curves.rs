//! The log of a run as an image: an SVG without scripts or fonts of its own.
//!
//! Faint lines are the steps (means over a few, when there are many), strong lines a moving
//! average, circles the validations.

use plotters::prelude::*;
use serde_json::Value;

use samara_eval::plot::{Area, Axis, DrawError, TEXT, axes, svg};

/// Size of the image.
const SIZE: (u32, u32) = (1920, 1200);
/// Most points of a line.
const POINTS: usize = 400;
/// The moving average forgets over this share of the run.
const SMOOTHING: f64 = 0.02;

/// One panel: its title, the scale of its values, and its lines by their keys in the log.
struct Panel {
    title: &'static str,
    scale: Scale,
    lines: &'static [(&'static str, &'static str, RGBColor)],
}

#[derive(Clone, Copy, PartialEq)]
enum Scale {
    /// Of IoU: 0 to 1.
    Unit,
    Logarithmic,
}

const BLUE: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const ORANGE: RGBColor = RGBColor(0xd9, 0x73, 0x0d);
const GREEN: RGBColor = RGBColor(0x2e, 0x8b, 0x57);
const GREY: RGBColor = RGBColor(0x55, 0x55, 0x55);

const PANELS: [Panel; 4] = [
    Panel {
        title: "Loss",
        scale: Scale::Logarithmic,
        lines: &[
            ("loss", "weighted sum", GREY),
            ("focal", "focal", BLUE),
            ("dice", "dice", ORANGE),
            ("iou_loss", "predicted IoU", GREEN),
        ],
    },
    Panel {
        title: "IoU, first prompt",
        scale: Scale::Unit,
        lines: &[
            ("oracle", "best candidate", BLUE),
            ("automatic", "chosen by predicted IoU", ORANGE),
        ],
    },
    Panel {
        title: "IoU, last round",
        scale: Scale::Unit,
        lines: &[("last", "chosen by predicted IoU", GREEN)],
    },
    Panel {
        title: "Learning rate",
        scale: Scale::Logarithmic,
        lines: &[("lr", "", GREY)],
    },
];

/// Points (step, value) of one line.
type Points = Vec<(f64, f64)>;

/// Draws the lines of a `log.jsonl`.
pub(crate) fn draw(log: &str) -> Result<String, DrawError> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (validations, steps): (Vec<_>, Vec<_>) = lines.partition(|v| v.get("validation").is_some());
    let end = steps
        .iter()
        .chain(&validations)
        .filter_map(|line| line.get("step")?.as_f64());
    let end = end.fold(1.0, f64::max);
    svg(SIZE, |area| {
        let areas = area.split_evenly((2, 2));
        let mut panels = PANELS.iter().zip(&areas);
        panels.try_for_each(|(panel, area)| panel.draw(&steps, &validations, end, area))
    })
}

/// The values of `key`; what is not a finite number, or not positive on a logarithmic scale, is
/// skipped.
fn points(lines: &[Value], part: Option<&str>, key: &str, scale: Scale) -> Points {
    let point = |line: &Value| {
        let step = line.get("step")?.as_f64()?;
        let value = part
            .map_or(Some(line), |part| line.get(part))?
            .get(key)?
            .as_f64()?;
        let shown = value.is_finite() && (scale == Scale::Unit || value > 0.0);
        shown.then_some((step, value))
    };
    lines.iter().filter_map(point).collect()
}

/// Means over equal stretches, at most [`POINTS`].
fn thinned(points: &[(f64, f64)]) -> Points {
    let stretch = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let sum = part.iter().fold((0.0, 0.0), |a, p| (a.0 + p.0, a.1 + p.1));
        (sum.0 / part.len() as f64, sum.1 / part.len() as f64)
    };
    points.chunks(stretch).map(mean).collect()
}

/// The moving average, over all points.
fn smoothed(points: &[(f64, f64)]) -> Points {
    let memory = (SMOOTHING * points.len() as f64).max(1.0);
    let mut mean = None;
    let average = |&(step, value): &(f64, f64)| {
        let last = mean.unwrap_or(value);
        let next = last + (value - last) / memory;
        mean = Some(next);
        (step, next)
    };
    points.iter().map(average).collect()
}

/// The axis of values: powers of ten are drawn as their exponents, at most eight of them.
fn values_axis(panel: &Panel, lines: &[(Points, Points)]) -> Axis {
    if panel.scale == Scale::Unit {
        return Axis::new(panel.title, 0.0..1.0);
    }
    let values = lines
        .iter()
        .flat_map(|(trained, checked)| trained.iter().chain(checked))
        .map(|&(_, value)| value);
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(0.0, f64::max);
    let (low, high) = if low <= high { (low, high) } else { (0.1, 1.0) };
    let high = high.log10().ceil();
    let low = low.log10().floor().clamp(high - 8.0, high - 1.0);
    Axis {
        title: panel.title,
        range: low..high,
        ticks: (low as i32..=high as i32).map(f64::from).collect(),
        label: |power| format!("1e{power}"),
    }
}

impl Panel {
    fn draw(
        &self,
        steps: &[Value],
        validations: &[Value],
        end: f64,
        area: &Area<'_>,
    ) -> Result<(), DrawError> {
        let seen = |(key, _, _): &(&str, _, _)| {
            let trained = points(steps, None, key, self.scale);
            let checked = points(validations, Some("validation"), key, self.scale);
            (trained, checked)
        };
        let lines: Vec<(Points, Points)> = self.lines.iter().map(seen).collect();
        let values = values_axis(self, &lines);
        let (low, high) = (values.range.start, values.range.end);
        let at = |(step, value): (f64, f64)| match self.scale {
            Scale::Unit => (step, value),
            Scale::Logarithmic => (step, value.log10().clamp(low, high)),
        };
        let mut steps = Axis::new("step", 0.0..end);
        steps.ticks.retain(|step| step.fract() == 0.0);
        steps.label = |step| step.to_string();
        let mut chart = axes(area, steps, values)?;
        for ((trained, checked), &(_, name, colour)) in lines.iter().zip(self.lines) {
            let line = |points: Points, style| LineSeries::new(points.into_iter().map(at), style);
            chart.draw_series(line(thinned(trained), colour.mix(0.25).stroke_width(2)))?;
            let strong = colour.stroke_width(4);
            let drawn = chart.draw_series(line(thinned(&smoothed(trained)), strong))?;
            if !name.is_empty() {
                let sample = move |(x, y)| PathElement::new([(x, y), (x + 24, y)], strong);
                drawn.label(name).legend(sample);
            }
            let circles = checked.iter().map(|&point| at(point));
            chart.draw_series(circles.clone().map(|at| Circle::new(at, 7, WHITE.filled())))?;
            chart.draw_series(circles.map(|at| Circle::new(at, 7, strong)))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .label_font(TEXT)
            .draw()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn log(steps: usize) -> String {
        let mut log = String::new();
        for step in 1..=steps {
            let value = 1.0 - 1.0 / step as f64;
            let line = serde_json::json!({
                "step": step, "lr": 1e-3, "loss": 2.0 - value, "focal": 0.01, "dice": 0.3,
                "iou_loss": 0.1, "oracle": value, "automatic": 0.9 * value, "last": value,
            });
            writeln!(log, "{line}").unwrap();
        }
        let line = serde_json::json!({"step": steps, "validation": {"oracle": 0.5, "loss": null}});
        write!(log, "{line}\n{{\"step\": 3, \"lo").unwrap();
        log
    }

    /// Lines of the image that hold every one of `words`.
    fn count(svg: &str, words: &[&str]) -> usize {
        let lines = svg.lines();
        lines
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .count()
    }

    #[test]
    fn every_line_and_validation_is_drawn() {
        let svg = draw(&log(3000)).unwrap();
        assert_eq!(count(&svg, &["<polyline", "opacity=\"0.25\""]), 8, "faint");
        // One has no name.
        let strong = ["<polyline", "stroke-width=\"4\""];
        assert_eq!(count(&svg, &strong), 8 + 7, "strong, and in the legend");
        assert_eq!(count(&svg, &["<circle", "fill=\"none\""]), 1);
        for text in ["Loss", "IoU, last round", "1000", "0.8", "1e-3", "dice"] {
            assert!(svg.contains(&format!("\n{text}\n")), "{text}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(svg.len() < 200_000, "{}", svg.len());
    }

    #[test]
    fn short_logs_and_odd_values_do_no_harm() {
        for log in [
            "",
            "\n",
            "{\"step\":1,\"loss\":null,\"lr\":0.0}\n",
            "no json",
        ] {
            let svg = draw(log).unwrap();
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{log}");
        }
        let svg = draw(&log(2)).unwrap();
        assert!(!svg.contains("\n0.5\n"), "there are no half steps");
        // Both are on all four axes of steps.
        assert_eq!(svg.matches("\n1\n").count(), 4);
        assert_eq!(svg.matches("\n2\n").count(), 4);
    }

    #[test]
    fn the_moving_average_begins_with_the_first_value_and_lags() {
        let points: Points = (0..1000).map(|i| (f64::from(i), f64::from(i))).collect();
        let smooth = smoothed(&points);
        assert_eq!(smooth[0], (0.0, 0.0));
        assert!((smooth[999].1 - 980.0).abs() < 1.0, "{:?}", smooth[999]);
        let thin = thinned(&points);
        assert_eq!((thin.len(), thin[0]), (334, (1.0, 1.0)));
    }
}
