//! What is kept of one object, and which of it a frame looks at (the `output_dict` of
//! `sam2/sam2_video_predictor.py`, and `_prepare_memory_conditioned_features` of `sam2_base.py`).

use std::collections::BTreeMap;

use half::bf16;
use samara_model::sam2::{ObjectPointer, SpatialMemory};
use serde::{Deserialize, Serialize};

use super::{Direction, VideoOptions};

/// Most frames whose pointers are looked at, the one itself included.
const MAX_POINTERS: usize = 16;

/// What a model found of an object in a frame, and what it remembers of that.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Output {
    /// Mask logits, with small holes filled.
    pub(super) low_res: Vec<f32>,
    /// Predicted IoU, from 0 to 1.
    pub(super) iou: f32,
    /// Logit of the object being in the frame.
    pub(super) object_score: f32,
    /// Features of the grid's cells; none of a model without memory.
    pub(super) memory: Vec<bf16>,
    /// The object as other frames know it: SAM 2's pointer, or what the object looks like.
    pub(super) pointer: Vec<f32>,
}

impl Output {
    fn memory(&self, age: Option<usize>) -> SpatialMemory<'_> {
        SpatialMemory {
            features: &self.memory,
            age,
        }
    }

    fn pointer(&self, distance: f32) -> ObjectPointer<'_> {
        ObjectPointer {
            values: &self.pointer,
            distance,
        }
    }
}

/// Frames with a prompt condition all others, near or far; tracked ones only their neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    Conditioning,
    Tracked,
}

/// The outputs of one object.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct MemoryBank {
    pub(super) conditioning: BTreeMap<usize, Output>,
    pub(super) tracked: BTreeMap<usize, Output>,
    /// Answers to prompts, which other frames see only once tracking goes on.
    pub(super) pending: BTreeMap<usize, (Role, Output)>,
    pub(super) visited: Visited,
}

impl MemoryBank {
    /// All outputs: frame, role, and whether others see it already.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (usize, Role, bool, &Output)> {
        let of = |role| move |(&frame, output)| (frame, role, true, output);
        let conditioning = self.conditioning.iter().map(of(Role::Conditioning));
        let tracked = self.tracked.iter().map(of(Role::Tracked));
        let pending = self.pending.iter();
        let pending = pending.map(|(&frame, (role, output))| (frame, *role, false, output));
        conditioning.chain(tracked).chain(pending)
    }

    /// Puts back what [`outputs`](Self::outputs) gave.
    pub(super) fn insert(&mut self, frame: usize, role: Role, seen: bool, output: Output) {
        match (seen, role) {
            (false, role) => drop(self.pending.insert(frame, (role, output))),
            (true, Role::Conditioning) => drop(self.conditioning.insert(frame, output)),
            (true, Role::Tracked) => drop(self.tracked.insert(frame, output)),
        }
    }

    /// Whether there is a prompt that conditions other frames, without which none is found.
    pub(super) fn is_prompted(&self) -> bool {
        let conditions = |(role, _): &(Role, Output)| *role == Role::Conditioning;
        !self.conditioning.is_empty() || self.pending.values().any(conditions)
    }

    /// The direction in which a frame was last tracked, if it was.
    pub(super) fn visited(&self, frame: usize) -> Option<Direction> {
        self.visited.direction(frame)
    }

    /// The latest output of a frame.
    pub(super) fn latest(&self, frame: usize) -> Option<&Output> {
        let pending = self.pending.get(&frame).map(|(_, output)| output);
        let conditioning = || self.conditioning.get(&frame);
        let tracked = || self.tracked.get(&frame);
        pending.or_else(conditioning).or_else(tracked)
    }

    /// Takes the answer to a prompt.
    pub(super) fn answer(&mut self, frame: usize, output: Output, options: &VideoOptions) {
        let first = self.visited(frame).is_none();
        let role = if first || options.add_all_frames_to_correct_as_cond {
            Role::Conditioning
        } else {
            Role::Tracked
        };
        self.pending.insert(frame, (role, output));
    }

    /// Takes the prompt of a frame back. What was found there stays, and conditions no other frame.
    pub(super) fn clear_prompt(&mut self, frame: usize) {
        self.pending.remove(&frame);
        if let Some(output) = self.conditioning.remove(&frame) {
            self.tracked.insert(frame, output);
            self.visited.remove(frame);
        }
        if !self.is_prompted() {
            // Whatever is prompted next begins anew.
            self.visited = Visited::default();
        }
    }

    /// Makes the answers to prompts known to other frames.
    pub(super) fn commit(&mut self, options: &VideoOptions, num_maskmem: usize) {
        for (frame, (role, output)) in std::mem::take(&mut self.pending) {
            if options.clear_non_cond_mem_around_input {
                let near = frame.saturating_sub(num_maskmem)..=frame + num_maskmem;
                self.tracked.retain(|at, _| !near.contains(at));
            }
            match role {
                Role::Conditioning => self.conditioning.insert(frame, output),
                Role::Tracked => self.tracked.insert(frame, output),
            };
        }
        let conditioning = &self.conditioning;
        self.tracked.retain(|at, _| !conditioning.contains_key(at));
    }

    /// The memories that a frame looks at: all conditioning ones, and those of the frames just before.
    pub(super) fn spatial(
        &self,
        frame: usize,
        direction: Direction,
        num_maskmem: usize,
    ) -> Vec<SpatialMemory<'_>> {
        let conditioning = self.conditioning.values().map(|output| output.memory(None));
        let near = (1..num_maskmem).rev().filter_map(|age| {
            let output = self.tracked.get(&direction.before(frame, age)?)?;
            Some(output.memory(Some(age)))
        });
        conditioning.chain(near).collect()
    }

    /// The pointers that a frame looks at: of conditioning frames in the past, and of the frames just
    /// before.
    pub(super) fn pointers(
        &self,
        frame: usize,
        direction: Direction,
        num_frames: Option<usize>,
    ) -> Vec<ObjectPointer<'_>> {
        let most = num_frames.map_or(MAX_POINTERS, |frames| frames.min(MAX_POINTERS));
        let farthest = most.saturating_sub(1).max(1) as f32;
        let conditioning = self.conditioning.iter().filter_map(|(&at, output)| {
            let distance = direction.distance(at, frame)?;
            Some(output.pointer(distance as f32 / farthest))
        });
        let near = (1..most).filter_map(|age| {
            let output = self.tracked.get(&direction.before(frame, age)?)?;
            Some(output.pointer(age as f32 / farthest))
        });
        conditioning.chain(near).collect()
    }

    /// Drops what no frame after this one will look at, nor one on the other side of a prompt.
    pub(super) fn forget(&mut self, frame: usize) {
        let prompted = &self.conditioning;
        self.tracked.retain(|&at, _| {
            let near = |other: &usize| at.abs_diff(*other) < MAX_POINTERS;
            near(&frame) || prompted.keys().any(near)
        });
    }
}

/// Which frames were tracked, and in which direction: spans, so that long videos take little room.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Visited(Vec<Span>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Span {
    first: usize,
    last: usize,
    direction: Direction,
}

impl Visited {
    pub(super) fn insert(&mut self, frame: usize, direction: Direction) {
        if let Some(span) = self.0.last_mut()
            && span.direction == direction
            && (span.first.saturating_sub(1)..=span.last + 1).contains(&frame)
        {
            span.first = span.first.min(frame);
            span.last = span.last.max(frame);
            return;
        }
        let span = Span {
            first: frame,
            last: frame,
            direction,
        };
        // What lies inside the new span will never be asked for again.
        self.0.retain(|old| (old.first, old.last) != (frame, frame));
        self.0.push(span);
    }

    fn remove(&mut self, frame: usize) {
        let around = |span: Span| {
            let before = frame.checked_sub(1).filter(|&last| span.first <= last);
            let after = Some(frame + 1).filter(|&first| first <= span.last);
            if !(span.first..=span.last).contains(&frame) {
                return vec![span];
            }
            let before = before.map(|last| Span {
                last,
                ..span.clone()
            });
            let after = after.map(|first| Span {
                first,
                ..span.clone()
            });
            before.into_iter().chain(after).collect()
        };
        self.0 = std::mem::take(&mut self.0)
            .into_iter()
            .flat_map(around)
            .collect();
    }

    /// The ends of all spans.
    pub(super) fn frames(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().flat_map(|span| [span.first, span.last])
    }

    fn direction(&self, frame: usize) -> Option<Direction> {
        let mut spans = self.0.iter().rev();
        let span = spans.find(|span| (span.first..=span.last).contains(&frame));
        span.map(|span| span.direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(mark: f32) -> Output {
        Output {
            low_res: vec![mark],
            iou: 0.5,
            object_score: 1.0,
            memory: vec![bf16::from_f32(mark)],
            pointer: vec![mark],
        }
    }

    /// A prompt on frame 0, and frames 1 to 20 tracked.
    fn bank() -> MemoryBank {
        let mut bank = MemoryBank::default();
        bank.pending.insert(0, (Role::Conditioning, output(0.0)));
        bank.commit(&VideoOptions::default(), 7);
        for frame in 1..=20 {
            bank.tracked.insert(frame, output(frame as f32));
        }
        bank
    }

    fn ages(bank: &MemoryBank, frame: usize, direction: Direction) -> Vec<(f32, Option<usize>)> {
        let memories = bank.spatial(frame, direction, 7);
        let seen = |memory: &SpatialMemory<'_>| (memory.features[0].to_f32(), memory.age);
        memories.iter().map(seen).collect()
    }

    #[test]
    fn a_frame_looks_at_the_prompt_and_at_the_six_before() {
        let near = |frames: &[usize], at: usize| {
            let tracked = frames.iter().map(|&f| (f as f32, Some(at.abs_diff(f))));
            std::iter::once((0.0, None))
                .chain(tracked)
                .collect::<Vec<_>>()
        };
        let bank = bank();
        assert_eq!(ages(&bank, 1, Direction::Forward), near(&[], 1));
        assert_eq!(ages(&bank, 3, Direction::Forward), near(&[1, 2], 3));
        let six = [9, 10, 11, 12, 13, 14];
        assert_eq!(ages(&bank, 15, Direction::Forward), near(&six, 15));
        let after = [10, 9, 8, 7, 6, 5];
        assert_eq!(ages(&bank, 4, Direction::Backward), near(&after, 4));
    }

    #[test]
    fn pointers_reach_fifteen_frames_back_and_prompts_of_the_past() {
        let bank = bank();
        let seen = |frame, direction, frames| -> Vec<(f32, f32)> {
            let pointers = bank.pointers(frame, direction, frames);
            pointers.iter().map(|p| (p.values[0], p.distance)).collect()
        };
        let long = seen(20, Direction::Forward, None);
        assert_eq!(long.len(), 16);
        assert_eq!((long[0], long[1]), ((0.0, 20.0 / 15.0), (19.0, 1.0 / 15.0)));
        assert_eq!(long[15], (5.0, 1.0));
        // A video of 12 frames has fewer pointers, and the prompt in front of a frame is none.
        let short = seen(5, Direction::Backward, Some(12));
        assert_eq!(short.len(), 11);
        assert_eq!((short[0], short[10]), ((6.0, 1.0 / 11.0), (16.0, 1.0)));
    }

    #[test]
    fn a_correction_is_hidden_until_tracking_goes_on() {
        let mut bank = bank();
        bank.pending.insert(6, (Role::Conditioning, output(60.0)));
        assert_eq!(bank.latest(6), Some(&output(60.0)));
        assert!(!ages(&bank, 7, Direction::Forward).contains(&(60.0, None)));
        let options = VideoOptions {
            clear_non_cond_mem_around_input: true,
            ..VideoOptions::default()
        };
        bank.commit(&options, 7);
        assert_eq!(
            ages(&bank, 7, Direction::Forward),
            [(0.0, None), (60.0, None)]
        );
        assert!(bank.tracked.keys().eq(&[14, 15, 16, 17, 18, 19, 20]));
    }

    #[test]
    fn what_no_frame_will_look_at_is_dropped() {
        let mut bank = bank();
        for frame in 21..=60 {
            bank.tracked.insert(frame, output(0.0));
        }
        bank.forget(60);
        assert!(bank.tracked.keys().copied().eq((1..=15).chain(45..=60)));
        assert!(bank.conditioning.contains_key(&0));
    }

    #[test]
    fn without_its_prompt_a_frame_keeps_its_mask_and_conditions_no_other() {
        let mut bank = bank();
        for frame in 0..=20 {
            bank.visited.insert(frame, Direction::Forward);
        }
        bank.pending.insert(6, (Role::Tracked, output(60.0)));
        bank.clear_prompt(6);
        assert_eq!(bank.latest(6), Some(&output(6.0)));
        assert_eq!(bank.visited(6), Some(Direction::Forward));
        bank.clear_prompt(0);
        assert!(bank.conditioning.is_empty() && !bank.is_prompted());
        assert_eq!(bank.latest(0), Some(&output(0.0)));
        // A new prompt conditions again, on any frame.
        assert_eq!(bank.visited(5), None);
        bank.answer(
            5,
            output(9.0),
            &VideoOptions::default().with_all_corrections_as_cond(false),
        );
        bank.commit(&VideoOptions::default(), 7);
        assert!(bank.conditioning.contains_key(&5));
    }

    #[test]
    fn a_visit_is_taken_out_of_all_spans() {
        let mut visited = Visited::default();
        for frame in 3..10 {
            visited.insert(frame, Direction::Forward);
        }
        for frame in (4..=7).rev() {
            visited.insert(frame, Direction::Backward);
        }
        for frame in [3, 5, 9, 20] {
            visited.remove(frame);
        }
        let left: Vec<usize> = (0..30)
            .filter(|&at| visited.direction(at).is_some())
            .collect();
        assert_eq!(left, [4, 6, 7, 8]);
        assert_eq!(visited.direction(6), Some(Direction::Backward));
    }

    #[test]
    fn visits_are_spans_and_the_last_one_counts() {
        let mut visited = Visited::default();
        for frame in 3..3000 {
            visited.insert(frame, Direction::Forward);
        }
        for frame in (10..=20).rev() {
            visited.insert(frame, Direction::Backward);
        }
        assert_eq!(visited.0.len(), 2);
        assert_eq!(visited.direction(2), None);
        assert_eq!(visited.direction(15), Some(Direction::Backward));
        assert_eq!(visited.direction(2999), Some(Direction::Forward));
    }
}
