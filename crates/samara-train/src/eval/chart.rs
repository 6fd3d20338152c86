//! Small charts as inline SVG.

use std::fmt::Write;

use super::bootstrap::Figure;
use super::metrics::Bin;

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
const BLUE: &str = "#2680eb";
const ORANGE: &str = "#d9730d";

/// Both axes of a chart.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
}

impl Axes {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let share = |v: f64, (low, high): (f64, f64)| (v - low) / (high - low);
        (
            LEFT + share(x, self.x) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - share(y, self.y) * (HEIGHT - TOP - BOTTOM),
        )
    }

    fn rectangle(&self, from: (f64, f64), to: (f64, f64), style: &str) -> String {
        let (x0, y0) = self.at(from.0, from.1);
        let (x1, y1) = self.at(to.0, to.1);
        format!(
            "<rect x='{x0:.1}' y='{y1:.1}' width='{:.1}' height='{:.1}' {style}/>",
            x1 - x0,
            y0 - y1
        )
    }

    fn line(&self, from: (f64, f64), to: (f64, f64), style: &str) -> String {
        let (x0, y0) = self.at(from.0, from.1);
        let (x1, y1) = self.at(to.0, to.1);
        format!("<line x1='{x0:.1}' y1='{y0:.1}' x2='{x1:.1}' y2='{y1:.1}' {style}/>")
    }

    fn path(&self, points: impl Iterator<Item = (f64, f64)>, style: &str) -> String {
        let points = points.map(|(x, y)| {
            let (x, y) = self.at(x, y);
            format!("{x:.1},{y:.1}")
        });
        let points: Vec<String> = points.collect();
        format!(
            "<polyline points='{}' fill='none' {style}/>",
            points.join(" ")
        )
    }

    /// The chart with ticks, axis titles and `content`. `title` is read out to who cannot see it.
    fn chart(
        &self,
        title: &str,
        (x_title, x_ticks): (&str, &[(f64, String)]),
        (y_title, y_ticks): (&str, &[(f64, String)]),
        content: &str,
    ) -> String {
        let mut svg =
            format!("<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{title}'>");
        for (y, label) in y_ticks {
            svg += &self.line((self.x.0, *y), (self.x.1, *y), "stroke='#e4e4e7'");
            let (x, y) = self.at(self.x.0, *y);
            let _ = write!(
                svg,
                "<text x='{:.1}' y='{:.1}' text-anchor='end'>{label}</text>",
                x - 5.0,
                y + 3.5
            );
        }
        for (x, label) in x_ticks {
            let (x, y) = self.at(*x, self.y.0);
            let _ = write!(
                svg,
                "<text x='{x:.1}' y='{:.1}' text-anchor='middle'>{label}</text>",
                y + 14.0
            );
        }
        let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
        let _ = write!(
            svg,
            "{content}<text x='{middle}' y='{}' text-anchor='middle'>{x_title}</text>\
             <text transform='translate(11 {}) rotate(-90)' text-anchor='middle'>{y_title}</text>\
             </svg>",
            HEIGHT - 6.0,
            TOP + (HEIGHT - TOP - BOTTOM) / 2.0
        );
        svg
    }
}

/// Ticks at fifths of 0..=1.
fn fifths() -> Vec<(f64, String)> {
    let ticks = (0..=5).map(|i| f64::from(i) / 5.0);
    ticks.map(|v| (v, format!("{v:.1}"))).collect()
}

/// True against predicted IoU, raw and calibrated; a dot's area is its share of the masks.
pub(super) fn reliability_diagram(raw: &[Bin], calibrated: Option<&[Bin]>) -> String {
    let filled =
        |bins: &[Bin]| -> Vec<Bin> { bins.iter().copied().filter(|bin| bin.count > 0.0).collect() };
    let raw = filled(raw);
    let calibrated = calibrated.map(filled).unwrap_or_default();
    // The scores of a head without a sigmoid can leave 0..=1.
    let scores = || raw.iter().map(|bin| bin.mean_predicted);
    let low = scores().fold(0.0, f64::min);
    let high = scores().fold(1.0, f64::max);
    let axes = Axes {
        x: (low, high),
        y: (0.0, 1.0),
    };
    let mut content = axes.line(
        (0.0, 0.0),
        (1.0, 1.0),
        "stroke='#a1a1aa' stroke-dasharray='4 3'",
    );
    for (bins, color) in [(&raw, ORANGE), (&calibrated, BLUE)] {
        let total: f64 = bins.iter().map(|bin| bin.count).sum();
        let points = bins.iter().map(|bin| (bin.mean_predicted, bin.mean_iou));
        content += &axes.path(points, &format!("stroke='{color}' stroke-width='1.5'"));
        for bin in bins {
            let (x, y) = axes.at(bin.mean_predicted, bin.mean_iou);
            let radius = 1.5 + 9.0 * (bin.count / total).sqrt();
            let _ = write!(
                content,
                "<circle cx='{x:.1}' cy='{y:.1}' r='{radius:.1}' fill='{color}' \
                 fill-opacity='0.45'/>"
            );
        }
    }
    let mut ticks = fifths();
    for end in [low, high] {
        if !(-0.1..=1.1).contains(&end) {
            ticks.push((end, format!("{end:.1}")));
        }
    }
    axes.chart(
        "Reliability diagram",
        ("predicted IoU", &ticks),
        ("true IoU", &fifths()),
        &content,
    )
}

/// mIoU by number of clicks, with its confidence band.
pub(super) fn clicks_curve(figures: &[Figure]) -> String {
    let last = figures.len().max(2) as f64;
    let axes = Axes {
        x: (0.75, last + 0.25),
        y: (0.0, 1.0),
    };
    let numbered = || (1..).map(f64::from).zip(figures);
    let mut content = String::new();
    for (click, figure) in numbered() {
        let style = format!("stroke='{BLUE}' stroke-opacity='0.45' stroke-width='5'");
        content += &axes.line((click, figure.low), (click, figure.high), &style);
        let (x, y) = axes.at(click, figure.value);
        let _ = write!(
            content,
            "<circle cx='{x:.1}' cy='{y:.1}' r='3' fill='{BLUE}'/>"
        );
    }
    let points = numbered().map(|(click, figure)| (click, figure.value));
    content += &axes.path(points, &format!("stroke='{BLUE}' stroke-width='1.5'"));
    let ticks: Vec<(f64, String)> = numbered().map(|(c, _)| (c, c.to_string())).collect();
    axes.chart(
        "mIoU by number of clicks",
        ("clicks", &ticks),
        ("mIoU", &fifths()),
        &content,
    )
}

/// Share of the objects by IoU.
pub(super) fn histogram(counts: &[usize]) -> String {
    let total = counts.iter().sum::<usize>().max(1) as f64;
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64 / total;
    let axes = Axes {
        x: (0.0, 1.0),
        y: (0.0, most),
    };
    let width = 1.0 / counts.len().max(1) as f64;
    let bars = counts.iter().enumerate().map(|(i, &count)| {
        let left = i as f64 * width;
        let style = format!("fill='{BLUE}' fill-opacity='0.75'");
        let top = (left + 0.9 * width, count as f64 / total);
        axes.rectangle((left, 0.0), top, &style)
    });
    let content: String = bars.collect();
    let shares = [0.0, most / 2.0, most].map(|v| (v, format!("{:.0} %", 100.0 * v)));
    axes.chart(
        "IoU after the first click",
        ("IoU after the first click", &fifths()),
        ("objects", &shares),
        &content,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_where_they_belong() {
        let flat = |value| Figure {
            value,
            low: value,
            high: value,
        };
        let svg = clicks_curve(&[flat(0.0), flat(1.0)]);
        // Click 1 of 0.75..2.25, IoU 0: a sixth from the left, on the axis.
        assert!(svg.contains("<circle cx='88.0' cy='200.0'"), "{svg}");
        assert!(svg.contains("<circle cx='264.0' cy='12.0'"), "{svg}");
        let svg = histogram(&[1, 3]);
        assert!(
            svg.contains("height='188.0'") && svg.contains("height='62.7'"),
            "{svg}"
        );
        assert!(svg.contains(">75 %<"), "{svg}");
    }

    #[test]
    fn scores_beyond_one_are_on_the_chart() {
        let bin = |predicted, iou| Bin {
            count: 1.0,
            mean_predicted: predicted,
            mean_iou: iou,
            ..Bin::default()
        };
        let svg = reliability_diagram(&[bin(0.5, 0.5), bin(3.0, 0.9)], None);
        assert!(svg.contains(">3.0<"), "{svg}");
        assert!(svg.contains("cx='308.0'"), "{svg}");
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
