//! The log of a run as a picture: an SVG without scripts or fonts of its own.
//!
//! Faint lines are the steps (means over a few, when there are many), strong lines a moving
//! average, circles the validations.

use std::fmt::Write;

use serde_json::Value;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
/// Space around the axes of a panel.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 36.0;
/// Most points of a line.
const POINTS: usize = 400;
/// The moving average forgets over this share of the run.
const SMOOTHING: f64 = 0.02;

/// One panel: its title, the scale of its values, and its lines by their keys in the log.
struct Panel {
    title: &'static str,
    scale: Scale,
    lines: &'static [(&'static str, &'static str, &'static str)],
}

#[derive(Clone, Copy, PartialEq)]
enum Scale {
    /// Of IoU: 0 to 1.
    Unit,
    Logarithmic,
}

const BLUE: &str = "#1f6fb4";
const ORANGE: &str = "#d9730d";
const GREEN: &str = "#2e8b57";
const GREY: &str = "#555555";

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
pub fn draw(log: &str) -> String {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (validations, steps): (Vec<_>, Vec<_>) = lines.partition(|v| v.get("validation").is_some());
    let end = steps
        .iter()
        .chain(&validations)
        .filter_map(|line| line.get("step")?.as_f64());
    let end = end.fold(1.0, f64::max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" \
         height=\"{h}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#333\">\n\
         <rect width=\"{w}\" height=\"{h}\" fill=\"#fff\"/>\n",
        w = 2.0 * WIDTH,
        h = 2.0 * HEIGHT,
    );
    for (i, panel) in PANELS.iter().enumerate() {
        let (x, y) = (WIDTH * (i % 2) as f64, HEIGHT * (i / 2) as f64);
        append(
            &mut svg,
            format_args!("<g transform=\"translate({x} {y})\">\n"),
        );
        panel.draw(&steps, &validations, end, &mut svg);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn append(svg: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = svg.write_fmt(text);
}

/// The values of `key`; what is not a finite number, or not positive on a logarithmic scale, is
/// left out.
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

/// Where values lie in a panel.
struct Axes {
    end: f64,
    low: f64,
    high: f64,
    scale: Scale,
}

impl Axes {
    fn new(end: f64, scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Self {
        let (low, high) = match scale {
            Scale::Unit => (0.0, 1.0),
            Scale::Logarithmic => {
                let low = values.clone().fold(f64::INFINITY, f64::min);
                let high = values.fold(0.0, f64::max);
                let (low, high) = if low <= high { (low, high) } else { (0.1, 1.0) };
                // Whole powers of ten, at most eight of them.
                let high = high.log10().ceil();
                let low = low.log10().floor().clamp(high - 8.0, high - 1.0);
                (low, high)
            }
        };
        Self {
            end,
            low,
            high,
            scale,
        }
    }

    fn x(&self, step: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * step / self.end
    }

    fn y(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Unit => value,
            Scale::Logarithmic => value.log10(),
        };
        let share = (value - self.low) / (self.high - self.low);
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share.clamp(0.0, 1.0))
    }

    /// Values with a grid line, and their names.
    fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Unit => (0..=5)
                .map(|i| f64::from(i) / 5.0)
                .map(|value| (value, format!("{value:.1}")))
                .collect(),
            Scale::Logarithmic => (self.low as i32..=self.high as i32)
                .map(|power| (10_f64.powi(power), format!("1e{power}")))
                .collect(),
        }
    }

    fn draw(&self, svg: &mut String) {
        let (right, foot) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, name) in self.ticks() {
            let y = self.y(value);
            append(
                svg,
                format_args!(
                    "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#e4e4e4\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\n",
                    LEFT - 6.0,
                    y + 4.0,
                ),
            );
        }
        let apart = step_ticks(self.end);
        let mut step = 0.0;
        while step <= self.end {
            append(
                svg,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{step}</text>\n",
                    self.x(step),
                    foot + 16.0,
                ),
            );
            step += apart;
        }
        append(
            svg,
            format_args!(
                "<path d=\"M{LEFT} {TOP}V{foot}H{right}\" fill=\"none\" stroke=\"#888\"/>\n"
            ),
        );
    }

    fn line(&self, points: &[(f64, f64)], style: &str, svg: &mut String) {
        if points.is_empty() {
            return;
        }
        svg.push_str("<polyline fill=\"none\" points=\"");
        for &(step, value) in points {
            append(
                svg,
                format_args!("{:.1},{:.1} ", self.x(step), self.y(value)),
            );
        }
        append(svg, format_args!("\" {style}/>\n"));
    }
}

/// A round number of steps between ticks, for about five of them.
fn step_ticks(end: f64) -> f64 {
    let rough = (end / 5.0).max(1.0);
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|f| f * power >= rough);
    (factor.unwrap_or(10.0) * power).max(1.0)
}

impl Panel {
    fn draw(&self, steps: &[Value], validations: &[Value], end: f64, svg: &mut String) {
        let seen = |(key, _, _): &(&str, _, _)| {
            let trained = points(steps, None, key, self.scale);
            (
                trained,
                points(validations, Some("validation"), key, self.scale),
            )
        };
        let lines: Vec<(Points, Points)> = self.lines.iter().map(seen).collect();
        let values = lines
            .iter()
            .flat_map(|(trained, checked)| trained.iter().chain(checked));
        let axes = Axes::new(end, self.scale, values.map(|&(_, value)| value));
        axes.draw(svg);
        append(
            svg,
            format_args!(
                "<text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{}</text>\n",
                self.title
            ),
        );
        let mut x = LEFT;
        for ((trained, checked), (_, name, colour)) in lines.iter().zip(self.lines) {
            append(
                svg,
                format_args!("<text x=\"{x}\" y=\"38\" fill=\"{colour}\">{name}</text>\n"),
            );
            // Letters of this size are about six pixels wide.
            x += 6.0 * name.len() as f64 + 18.0;
            let style = |width: f64, opacity: f64| {
                format!("stroke=\"{colour}\" stroke-width=\"{width}\" stroke-opacity=\"{opacity}\"")
            };
            axes.line(&thinned(trained), &style(1.0, 0.25), svg);
            axes.line(&thinned(&smoothed(trained)), &style(1.8, 1.0), svg);
            for &(step, value) in checked {
                append(
                    svg,
                    format_args!(
                        "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"#fff\" \
                         stroke=\"{colour}\" stroke-width=\"1.8\"/>\n",
                        axes.x(step),
                        axes.y(value),
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(steps: usize) -> String {
        let mut log = String::new();
        for step in 1..=steps {
            let value = 1.0 - 1.0 / step as f64;
            let line = serde_json::json!({
                "step": step, "lr": 1e-3, "loss": 2.0 - value, "focal": 0.01, "dice": 0.3,
                "iou_loss": 0.1, "oracle": value, "automatic": 0.9 * value, "last": value,
            });
            append(&mut log, format_args!("{line}\n"));
        }
        let line = serde_json::json!({"step": steps, "validation": {"oracle": 0.5, "loss": null}});
        append(&mut log, format_args!("{line}\n{{\"step\": 3, \"lo"));
        log
    }

    #[test]
    fn every_line_and_validation_is_drawn() {
        let svg = draw(&log(3000));
        // Eight lines, each faint and strong.
        assert_eq!(svg.matches("<polyline").count(), 16);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
        assert!(svg.contains(">3000<") && svg.contains(">0.8<") && svg.contains(">1e-3<"));
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
            let svg = draw(log);
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{log}");
        }
    }

    #[test]
    fn the_moving_average_begins_with_the_first_value_and_lags() {
        let points: Points = (0..1000).map(|i| (f64::from(i), f64::from(i))).collect();
        let smooth = smoothed(&points);
        assert_eq!(smooth[0], (0.0, 0.0));
        assert!((smooth[999].1 - 980.0).abs() < 1.0, "{:?}", smooth[999]);
        let thin = thinned(&points);
        assert_eq!((thin.len(), thin[0]), (334, (1.0, 1.0)));
        assert_eq!(step_ticks(3000.0), 1000.0);
        assert_eq!(step_ticks(3.0), 1.0);
    }
}
