//! Small charts of an evaluation, for its page.

use plotters::prelude::*;

use super::bootstrap::Figure;
use super::metrics::Bin;
use crate::plot::{Axis, DrawError, axes, svg};

/// Size of a chart.
const SIZE: (u32, u32) = (640, 480);
const BLUE: RGBColor = RGBColor(0x26, 0x80, 0xeb);
const ORANGE: RGBColor = RGBColor(0xd9, 0x73, 0x0d);

/// True against predicted IoU, raw and calibrated; a dot's area is its share of the masks.
pub(super) fn reliability_diagram(
    raw: &[Bin],
    calibrated: Option<&[Bin]>,
) -> Result<String, DrawError> {
    let filled = |bins: &[Bin]| -> Vec<Bin> {
        let filled = bins.iter().copied().filter(|bin| bin.count > 0.0);
        filled.collect()
    };
    let raw = filled(raw);
    let calibrated = calibrated.map(filled).unwrap_or_default();
    // The scores of a head without a sigmoid can leave 0..=1.
    let scores = || raw.iter().map(|bin| bin.mean_predicted);
    let (low, high) = (scores().fold(0.0, f64::min), scores().fold(1.0, f64::max));
    let predicted = Axis::new("predicted IoU", low..high);
    svg(SIZE, |area| {
        let mut chart = axes(area, predicted, Axis::new("true IoU", 0.0..1.0))?;
        let diagonal = RGBColor(0xa1, 0xa1, 0xaa).stroke_width(2);
        let ends = [(0.0, 0.0), (1.0, 1.0)];
        chart.draw_series(DashedLineSeries::new(ends, 8, 6, diagonal))?;
        for (bins, colour) in [(&raw, ORANGE), (&calibrated, BLUE)] {
            let total: f64 = bins.iter().map(|bin| bin.count).sum();
            let at = |bin: &Bin| (bin.mean_predicted, bin.mean_iou);
            chart.draw_series(LineSeries::new(bins.iter().map(at), colour.stroke_width(3)))?;
            chart.draw_series(bins.iter().map(|bin| {
                let radius = 3.0 + 18.0 * (bin.count / total).sqrt();
                Circle::new(at(bin), radius.round() as i32, colour.mix(0.45).filled())
            }))?;
        }
        Ok(())
    })
}

/// mIoU by number of clicks, with its confidence band.
pub(super) fn clicks_curve(figures: &[Figure]) -> Result<String, DrawError> {
    let numbered = || (1..).map(f64::from).zip(figures);
    let x = Axis {
        title: "clicks",
        range: 0.75..figures.len().max(2) as f64 + 0.25,
        ticks: numbered().map(|(click, _)| click).collect(),
        label: |value| value.to_string(),
    };
    svg(SIZE, |area| {
        let mut chart = axes(area, x, Axis::new("mIoU", 0.0..1.0))?;
        chart.draw_series(numbered().map(|(click, figure)| {
            let band = [(click, figure.low), (click, figure.high)];
            PathElement::new(band, BLUE.mix(0.45).stroke_width(10))
        }))?;
        let points = numbered().map(|(click, figure)| (click, figure.value));
        chart.draw_series(LineSeries::new(points, BLUE.filled().stroke_width(3)).point_size(6))?;
        Ok(())
    })
}

/// Share of the objects by IoU, as SVG.
///
/// # Errors
/// The drawing library failed.
pub fn histogram(title: &'static str, counts: &[usize]) -> Result<String, DrawError> {
    let total = counts.iter().sum::<usize>().max(1) as f64;
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64 / total;
    let y = Axis {
        title: "objects",
        range: 0.0..most,
        ticks: vec![0.0, most / 2.0, most],
        label: |share| format!("{:.0} %", 100.0 * share),
    };
    let width = 1.0 / counts.len().max(1) as f64;
    svg(SIZE, |area| {
        let x = Axis::new(title, 0.0..1.0);
        let mut chart = axes(area, x, y)?;
        chart.draw_series(counts.iter().enumerate().map(|(i, &count)| {
            let left = i as f64 * width;
            let bar = [(left, 0.0), (left + 0.9 * width, count as f64 / total)];
            Rectangle::new(bar, BLUE.mix(0.75).filled())
        }))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(x: i32, y: i32) -> String {
        format!("<circle cx=\"{x}\" cy=\"{y}\"")
    }

    #[test]
    fn values_lie_where_they_belong() {
        let flat = |value| Figure {
            value,
            low: value,
            high: value,
        };
        let svg = clicks_curve(&[flat(0.0), flat(1.0)]).unwrap();
        // Click 1 of 0.75..2.25, IoU 0: a sixth from the left, on the axis.
        assert!(svg.contains(&circle(201, 387)), "{svg}");
        assert!(svg.contains(&circle(525, 20)), "{svg}");
        let svg = histogram("IoU", &[1, 3]).unwrap();
        for height in ["height=\"367\"", "height=\"122\""] {
            assert!(svg.contains(height), "{svg}");
        }
        assert!(svg.contains("\n75 %\n"), "{svg}");
    }

    #[test]
    fn scores_beyond_one_are_on_the_chart() {
        let bin = |count, predicted, iou| Bin {
            count,
            mean_predicted: predicted,
            mean_iou: iou,
            ..Bin::default()
        };
        let raw = [bin(1.0, 0.0, 0.0), bin(0.0, 9.0, 0.5), bin(3.0, 3.0, 1.0)];
        let svg = reliability_diagram(&raw, None).unwrap();
        assert!(svg.contains("\n3.0\n"), "{svg}");
        // The area of a dot is its share, a little more for the eye.
        assert!(
            svg.contains(&format!("{} r=\"12\"", circle(120, 387))),
            "{svg}"
        );
        assert!(
            svg.contains(&format!("{} r=\"19\"", circle(607, 20))),
            "{svg}"
        );
        assert_eq!(svg.matches("<circle").count(), 2, "an empty bin has no dot");
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
