//! The prompts of several objects as the arrays of one batch.

use super::simulation::PromptState;

/// Points and boxes of `n` prompts, with one shape for all, in pixels of the true masks.
///
/// When every prompt has a box, the boxes are a list of their own. When only some have, a box is
/// two points with the labels 2 (top left) and 3 (bottom right) after the clicks, as in SAM 2.
/// Prompts with fewer points than others end with points at 0,0 with the label −1 (not a point).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PromptBatchData {
    /// Number of prompts, `n`.
    pub prompts: usize,
    /// Number of points of each prompt, `p`; 0 when there are only boxes or masks.
    pub points: usize,
    /// (x, y) of every point, `[n, p, 2]`.
    pub coords: Vec<f32>,
    /// The label of every point, `[n, p]`: 1 on the object, 0 off it, 2 and 3 corners of a box, −1
    /// not a point.
    pub labels: Vec<f32>,
    /// (x0, y0, x1, y1) of every box, `[n, 4]`, when every prompt has one.
    pub boxes: Option<Vec<f32>>,
}

impl PromptBatchData {
    /// The arrays of `prompts`, in their order.
    pub fn new<'a>(prompts: impl IntoIterator<Item = &'a PromptState>) -> Self {
        let prompts: Vec<_> = prompts.into_iter().collect();
        let boxes: Option<Vec<_>> = prompts.iter().map(|prompt| corners(prompt)).collect();
        let boxes = boxes.filter(|boxes| !boxes.is_empty());
        let lists: Vec<_> = prompts
            .iter()
            .map(|prompt| points(prompt, boxes.is_none()))
            .collect();
        let mut data = Self {
            prompts: prompts.len(),
            points: lists.iter().map(Vec::len).max().unwrap_or(0),
            boxes: boxes.map(|boxes| boxes.concat()),
            ..Self::default()
        };
        for mut list in lists {
            list.resize(data.points, [0.0, 0.0, -1.0]);
            for [x, y, label] in list {
                data.coords.extend([x, y]);
                data.labels.push(label);
            }
        }
        data
    }
}

fn corners(prompt: &PromptState) -> Option<[f32; 4]> {
    let bbox = prompt.bbox?;
    Some([bbox.min.x, bbox.min.y, bbox.max.x, bbox.max.y].map(|v| v as f32))
}

/// x, y and label of the clicks and, if asked for, of the box's corners.
fn points(prompt: &PromptState, with_corners: bool) -> Vec<[f32; 3]> {
    let clicks = prompt.clicks.iter().map(|click| {
        let label = f32::from(u8::from(click.positive));
        [click.at.x as f32, click.at.y as f32, label]
    });
    let corners = corners(prompt).filter(|_| with_corners);
    let corners = corners.map(|[x0, y0, x1, y1]| [[x0, y0, 2.0], [x1, y1, 3.0]]);
    clicks.chain(corners.into_iter().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use samara::{Click, OriginalBox, OriginalPx};

    use super::*;

    fn prompt(clicks: &[(f64, f64, bool)], bbox: bool) -> PromptState {
        let click = |&(x, y, positive): &(f64, f64, bool)| Click {
            at: OriginalPx::new(x, y),
            positive,
        };
        PromptState {
            clicks: clicks.iter().map(click).collect(),
            bbox: bbox.then(|| OriginalBox::new(4.0, 5.0, 16.5, 17.0).unwrap()),
            ..PromptState::default()
        }
    }

    #[test]
    fn shorter_prompts_are_padded() {
        let two = prompt(&[(1.5, 2.5, true), (3.5, 4.5, false)], false);
        let one = prompt(&[(9.5, 8.5, true)], false);
        let data = PromptBatchData::new([&two, &one]);
        assert_eq!((data.prompts, data.points), (2, 2));
        assert_eq!(data.coords, [1.5, 2.5, 3.5, 4.5, 9.5, 8.5, 0.0, 0.0]);
        assert_eq!(data.labels, [1.0, 0.0, 1.0, -1.0]);
        assert_eq!(data.boxes, None);
    }

    #[test]
    fn boxes_among_clicks_are_two_points() {
        let boxed = prompt(&[(1.5, 2.5, false)], true);
        let clicked = prompt(&[(9.5, 8.5, true)], false);
        let data = PromptBatchData::new([&clicked, &boxed]);
        assert_eq!((data.prompts, data.points), (2, 3));
        assert_eq!(data.labels, [1.0, -1.0, -1.0, 0.0, 2.0, 3.0]);
        assert_eq!(data.coords[6..], [1.5, 2.5, 4.0, 5.0, 16.5, 17.0]);
        assert_eq!(data.boxes, None);
    }

    #[test]
    fn boxes_of_all_are_a_list() {
        let boxed = prompt(&[], true);
        let data = PromptBatchData::new([&boxed, &boxed]);
        assert_eq!((data.prompts, data.points), (2, 0));
        assert!(data.coords.is_empty() && data.labels.is_empty());
        let corners = [4.0, 5.0, 16.5, 17.0];
        assert_eq!(data.boxes, Some([corners, corners].concat()));
        let data = PromptBatchData::new([&boxed, &prompt(&[(1.5, 2.5, true)], true)]);
        assert_eq!((data.points, data.labels), (1, vec![-1.0, 1.0]));
        assert!(data.boxes.is_some());
    }

    #[test]
    fn there_may_be_nothing() {
        let data = PromptBatchData::new([]);
        assert_eq!(data, PromptBatchData::default());
        let masks = PromptBatchData::new([&prompt(&[], false)]);
        assert_eq!((masks.prompts, masks.points), (1, 0));
    }
}
