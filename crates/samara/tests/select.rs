//! Every strategy of [`Select`] on candidates made by hand.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use samara::{
    Candidate, Granularity, Logits, Mask, MatchProbability, OriginalBox, PredictedIou, Select,
    Selection, StabilityScore,
};

/// Candidates by hand are 16×8 pixels.
const WIDTH: u32 = 16;
const HEIGHT: u32 = 8;

/// The pixels `x..x + w` by `y..y + h`.
fn rectangle(x: u32, y: u32, w: u32, h: u32) -> Mask {
    Mask::from_fn(WIDTH, HEIGHT, |px, py| {
        (x..x + w).contains(&px) && (y..y + h).contains(&py)
    })
}

fn empty() -> Mask {
    Mask::new(WIDTH, HEIGHT)
}

/// Candidates numbered from 0.
fn candidates(of: impl IntoIterator<Item = (Mask, f32, Granularity)>) -> Vec<Candidate> {
    of.into_iter()
        .enumerate()
        .map(|(index, (mask, score, granularity))| Candidate {
            index,
            mask,
            predicted_iou: PredictedIou(score),
            raw_predicted_iou: PredictedIou(score),
            match_probability: None,
            stability_score: StabilityScore(0.5),
            granularity,
            low_res_logits: Logits::new(1, vec![0.0]).unwrap(),
        })
        .collect()
}

/// Candidates that differ in their masks only.
fn of_masks(masks: impl IntoIterator<Item = Mask>) -> Vec<Candidate> {
    candidates(
        masks
            .into_iter()
            .map(|mask| (mask, 0.5, Granularity::Whole)),
    )
}

/// Candidates that differ in their scores only.
fn of_scores(scores: &[f32]) -> Vec<Candidate> {
    candidates(
        scores
            .iter()
            .map(|&score| (rectangle(0, 0, 2, 2), score, Granularity::Whole)),
    )
}

#[track_caller]
fn apply(select: &Select, candidates: &[Candidate]) -> Selection {
    let selection = select.apply(candidates).unwrap();
    assert_eq!(selection.reason.lines().count(), 1, "{}", selection.reason);
    selection
}

/// The position of the candidate that was chosen, whose mask is the answer.
#[track_caller]
fn chosen(select: &Select, candidates: &[Candidate]) -> usize {
    let Selection {
        mask,
        index,
        reason,
        ..
    } = apply(select, candidates);
    let index = index.unwrap();
    let position = candidates.iter().position(|c| c.index == index).unwrap();
    assert_eq!(mask, candidates[position].mask);
    assert!(
        reason.starts_with(&format!("candidate {index}: ")),
        "{reason}"
    );
    position
}

#[track_caller]
fn error(select: &Select, candidates: &[Candidate]) -> String {
    select.apply(candidates).unwrap_err().to_string()
}

fn for_box(x0: f64, y0: f64, x1: f64, y1: f64) -> Select {
    Select::ForBox(OriginalBox::new(x0, y0, x1, y1).unwrap())
}

/// One of each strategy.
fn all_strategies() -> Vec<Select> {
    let levels = Granularity::ALL.map(Select::Granularity);
    let others = [
        Select::Best,
        Select::Score,
        Select::Largest,
        Select::Smallest,
        Select::AreaRatio(0.5),
        for_box(0.0, 0.0, 4.0, 4.0),
        Select::Union,
        Select::Intersection,
        Select::Weighted,
        Select::Vote,
        Select::Oracle(rectangle(1, 1, 3, 3)),
    ];
    levels.into_iter().chain(others).collect()
}

#[test]
fn best_is_the_default() {
    assert_eq!(Select::default(), Select::Best);
}

#[test]
fn best_has_the_highest_score() {
    assert_eq!(chosen(&Select::Best, &of_scores(&[0.2, 0.9, 0.4])), 1);
    assert_eq!(chosen(&Select::Best, &of_scores(&[-3.0, -2.0, -1.0])), 2);
    assert_eq!(
        chosen(&Select::Best, &of_scores(&[1.2, 0.99, 0.5])),
        0,
        "a score may exceed 1"
    );
    let reason = apply(&Select::Best, &of_scores(&[0.2, 0.9, 0.45678])).reason;
    assert_eq!(
        reason,
        "candidate 1: highest predicted IoU: 0.200, 0.900, 0.457"
    );
}

#[test]
fn the_first_of_equal_scores_is_best() {
    assert_eq!(chosen(&Select::Best, &of_scores(&[0.2, 0.9, 0.9])), 1);
    assert_eq!(chosen(&Select::Best, &of_scores(&[0.9, 0.9, 0.9])), 0);
}

#[test]
fn a_score_that_is_no_number_is_never_best() {
    for nan in [f32::NAN, -f32::NAN] {
        assert_eq!(chosen(&Select::Best, &of_scores(&[nan, 0.1, nan])), 1);
        assert_eq!(chosen(&Select::Best, &of_scores(&[0.1, nan, 0.2])), 2);
        assert_eq!(chosen(&Select::Best, &of_scores(&[nan, nan, nan])), 0);
        let level = Select::Granularity(Granularity::Whole);
        assert_eq!(chosen(&level, &of_scores(&[nan, 0.1, nan])), 1);
    }
}

#[test]
fn largest_and_smallest_go_by_area() {
    let masks = [
        rectangle(0, 0, 3, 3),
        rectangle(0, 0, 1, 8),
        rectangle(2, 2, 4, 4),
        rectangle(8, 1, 8, 2),
        rectangle(9, 0, 2, 4),
    ];
    let candidates = of_masks(masks);
    assert_eq!(
        chosen(&Select::Largest, &candidates),
        2,
        "the first of two with 16 pixels"
    );
    assert_eq!(
        chosen(&Select::Smallest, &candidates),
        1,
        "the first of two with 8 pixels"
    );
    let reason = |select| apply(&select, &candidates).reason;
    assert_eq!(
        reason(Select::Largest),
        "candidate 2: largest area: 9, 8, 16, 16, 8 pixels"
    );
    assert_eq!(
        reason(Select::Smallest),
        "candidate 1: smallest area: 9, 8, 16, 16, 8 pixels"
    );
}

#[test]
fn an_empty_mask_is_not_the_smallest() {
    let candidates = of_masks([
        empty(),
        rectangle(0, 0, 5, 5),
        empty(),
        rectangle(0, 0, 2, 2),
    ]);
    assert_eq!(chosen(&Select::Smallest, &candidates), 3);
    assert_eq!(chosen(&Select::Largest, &candidates), 1);
}

#[test]
fn area_ratio_is_nearest_to_the_share_of_the_image() {
    // 1/16, 1/4, 1/4, 3/4 of the image.
    let masks = [
        rectangle(0, 0, 1, 8),
        rectangle(0, 0, 4, 8),
        rectangle(0, 0, 16, 2),
        rectangle(0, 0, 12, 8),
    ];
    let candidates = of_masks(masks);
    for (ratio, expected) in [
        (0.001, 0),
        (0.0625, 0),
        (0.2, 1),
        (0.25, 1),
        (0.5, 1),
        (0.51, 3),
        (1.0, 3),
    ] {
        assert_eq!(
            chosen(&Select::AreaRatio(ratio), &candidates),
            expected,
            "{ratio}"
        );
    }
    let reason = apply(&Select::AreaRatio(0.701), &candidates).reason;
    assert_eq!(
        reason,
        "candidate 3: 75.0 % of the image, nearest to 70.1 %"
    );
}

#[test]
fn area_ratios_out_of_range_are_refused() {
    let candidates = of_scores(&[0.5]);
    for (ratio, shown) in [
        (0.0, "0"),
        (-0.5, "-0.5"),
        (1.001, "1.001"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "inf"),
    ] {
        let message =
            format!("area ratio {shown}: a share of the image, more than 0 and at most 1");
        assert_eq!(error(&Select::AreaRatio(ratio), &candidates), message);
    }
}

#[test]
fn for_box_compares_tight_boxes() {
    // A cross: its box is as large as the square's, its area is not.
    let cross = Mask::from_fn(WIDTH, HEIGHT, |x, y| x < 8 && (x == 4 || y == 4));
    let candidates = of_masks([
        empty(),
        rectangle(9, 1, 4, 4),
        cross,
        rectangle(0, 0, 8, 8),
        rectangle(1, 1, 3, 3),
    ]);
    for (select, expected) in [
        (for_box(0.0, 0.0, 8.0, 8.0), 2),
        (for_box(0.5, 0.5, 4.2, 4.2), 4),
        (for_box(9.0, 1.0, 13.0, 5.0), 1),
        (for_box(-50.0, -50.0, 60.0, 60.0), 2),
    ] {
        assert_eq!(chosen(&select, &candidates), expected, "{select:?}");
    }
    // 4×4 shared of 4×4 and 4×8.
    let reason = apply(&for_box(9.0, 1.0, 13.0, 9.0), &candidates).reason;
    assert_eq!(
        reason,
        "candidate 1: its box overlaps the given one best (IoU 0.50)"
    );
    // A box beside all masks.
    assert_eq!(chosen(&for_box(15.0, 7.0, 16.0, 8.0), &candidates), 0);
}

#[test]
fn granularity_takes_the_best_of_its_level() {
    use Granularity::{Part, Subpart, Whole};
    let mask = || rectangle(0, 0, 2, 2);
    let candidates = candidates([
        (mask(), 0.3, Part),
        (mask(), 0.8, Whole),
        (mask(), 0.9, Part),
        (mask(), 0.9, Part),
        (mask(), 0.1, Subpart),
    ]);
    for (level, expected) in [(Whole, 1), (Part, 2), (Subpart, 4)] {
        let select = Select::Granularity(level);
        assert_eq!(chosen(&select, &candidates), expected, "{level}");
        assert_eq!(
            apply(&select, &candidates).reason,
            format!("candidate {expected}: the {level} with the highest predicted IoU")
        );
    }
}

#[test]
fn granularity_takes_the_nearest_level_when_its_own_is_missing() {
    use Granularity::{Part, Subpart, Whole};
    let mask = || rectangle(0, 0, 2, 2);
    for (wanted, there, expected) in [
        (Whole, &[Subpart, Part][..], 1),
        (Whole, &[Subpart, Subpart], 0),
        (Part, &[Whole, Subpart], 0),
        (Part, &[Subpart, Whole], 0),
        (Subpart, &[Whole, Part, Part], 1),
        (Subpart, &[Whole, Whole], 0),
    ] {
        let candidates = candidates(there.iter().map(|&level| (mask(), 0.5, level)));
        let select = Select::Granularity(wanted);
        assert_eq!(
            chosen(&select, &candidates),
            expected,
            "{wanted} of {there:?}"
        );
        let found = there[expected];
        assert_eq!(
            apply(&select, &candidates).reason,
            format!("candidate {expected}: no candidate is a {wanted}, this {found} comes nearest")
        );
    }
    // Of two that are equally near, the better one.
    let candidates = candidates([(mask(), 0.2, Whole), (mask(), 0.7, Subpart)]);
    assert_eq!(chosen(&Select::Granularity(Part), &candidates), 1);
}

#[test]
fn granularity_passes_over_empty_masks() {
    use Granularity::{Part, Subpart, Whole};
    let select = Select::Granularity(Subpart);
    let with_empty = candidates([
        (rectangle(0, 0, 5, 5), 0.4, Whole),
        (empty(), 0.9, Subpart),
        (rectangle(0, 0, 2, 2), 0.3, Part),
    ]);
    assert_eq!(chosen(&select, &with_empty), 2);
    let only_empty = candidates([(empty(), 0.4, Subpart), (empty(), 0.9, Subpart)]);
    assert!(only_empty[chosen(&select, &only_empty)].mask.is_empty());
}

#[test]
fn oracle_is_closest_to_the_truth() {
    let masks = [
        empty(),
        rectangle(0, 0, 8, 8),
        rectangle(0, 0, 4, 4),
        rectangle(0, 0, 4, 4),
    ];
    let candidates = of_masks(masks);
    let oracle = |truth: Mask| Select::Oracle(truth);
    assert_eq!(chosen(&oracle(rectangle(0, 0, 4, 5)), &candidates), 2);
    assert_eq!(chosen(&oracle(rectangle(1, 0, 7, 8)), &candidates), 1);
    assert_eq!(
        chosen(&oracle(empty()), &candidates),
        0,
        "two empty masks are equal"
    );
    assert_eq!(chosen(&oracle(rectangle(10, 0, 4, 4)), &candidates), 0);
    let reason = apply(&oracle(rectangle(0, 0, 4, 5)), &candidates).reason;
    assert_eq!(reason, "candidate 2: closest to the truth (IoU 0.800)");
}

#[test]
fn a_truth_of_another_size_is_refused() {
    let message = error(&Select::Oracle(Mask::full(8, 16)), &of_scores(&[0.5, 0.6]));
    assert_eq!(message, "the truth has 8×16 pixels, the image 16×8");
}

/// Numbers that look random and are the same every time.
struct Lcg(u64);

impl Lcg {
    /// In [0, 1).
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 40) as f64 / (1_u64 << 24) as f64
    }

    /// Candidates with random masks and scores; rows longer than a word of bits.
    fn candidates(&mut self, count: usize) -> Vec<Candidate> {
        let of = (0..count).map(|_| {
            let density = self.next();
            let mask = Mask::from_fn(70, 9, |_, _| self.next() < density);
            (mask, (2.0 * self.next() - 0.5) as f32, Granularity::Whole)
        });
        candidates(of.collect::<Vec<_>>())
    }
}

/// A mask of the pixels for which `keep` holds, given which candidates have them.
fn pixel_by_pixel(candidates: &[Candidate], keep: impl Fn(&[bool]) -> bool) -> Mask {
    let (width, height) = (candidates[0].mask.width(), candidates[0].mask.height());
    Mask::from_fn(width, height, |x, y| {
        keep(
            &candidates
                .iter()
                .map(|c| c.mask.get(x, y))
                .collect::<Vec<_>>(),
        )
    })
}

/// The softmax of the scores.
fn softmax(candidates: &[Candidate]) -> Vec<f64> {
    let exp = candidates
        .iter()
        .map(|c| f64::from(c.predicted_iou.0).exp());
    let total: f64 = exp.clone().sum();
    exp.map(|e| e / total).collect()
}

fn votes(set: &[bool]) -> usize {
    set.iter().filter(|&&set| set).count()
}

#[test]
fn combinations_equal_a_computation_pixel_by_pixel() {
    let mut random = Lcg(7);
    // More than a word has bits, too.
    for count in [1, 2, 3, 3, 3, 4, 6, 70] {
        let candidates = random.candidates(count);
        let weights = softmax(&candidates);
        let weight = |set: &[bool]| -> f64 {
            set.iter()
                .zip(&weights)
                .filter(|(set, _)| **set)
                .map(|(_, w)| w)
                .sum()
        };
        for (select, expected) in [
            (
                Select::Union,
                pixel_by_pixel(&candidates, |set| votes(set) > 0),
            ),
            (
                Select::Intersection,
                pixel_by_pixel(&candidates, |set| votes(set) == count),
            ),
            (
                Select::Vote,
                pixel_by_pixel(&candidates, |set| votes(set) >= count.min(2)),
            ),
            (
                Select::Weighted,
                pixel_by_pixel(&candidates, |set| weight(set) > 0.5),
            ),
        ] {
            let selection = apply(&select, &candidates);
            assert_eq!(selection.index, None, "{select:?} of {count}");
            assert_eq!(selection.mask, expected, "{select:?} of {count}");
        }
    }
}

#[test]
fn combinations_say_what_they_combine() {
    let candidates = of_scores(&[0.5, 0.5, 0.5]);
    let reason = |select| apply(&select, &candidates).reason;
    assert_eq!(reason(Select::Union), "union of 3 candidates");
    assert_eq!(reason(Select::Intersection), "intersection of 3 candidates");
    assert_eq!(reason(Select::Vote), "at least two of 3 candidates");
    assert_eq!(
        reason(Select::Weighted),
        "weighted vote of the candidates with weights 0.33, 0.33, 0.33"
    );
}

#[test]
fn half_of_the_weight_is_not_more_than_a_half() {
    let (a, b) = (rectangle(0, 0, 4, 4), rectangle(2, 2, 4, 4));
    let shared = rectangle(2, 2, 2, 2);
    assert_eq!(apply(&Select::Weighted, &of_masks([a, b])).mask, shared);
}

#[test]
fn a_score_that_is_no_number_has_no_weight() {
    let mask = |i: u32| rectangle(4 * i, 0, 4, 4);
    let weighted = |scores: [f32; 3]| {
        let of = [0, 1, 2].map(|i| (mask(i), scores[i as usize], Granularity::Whole));
        apply(&Select::Weighted, &candidates(of)).mask
    };
    assert_eq!(weighted([f32::NAN, 3.0, 0.1]), mask(1));
    assert_eq!(weighted([0.1, f32::NAN, f32::NAN]), mask(0));
    assert_eq!(weighted([0.1, 0.2, f32::INFINITY]), mask(2));
    assert_eq!(
        weighted([f32::NAN; 3]),
        empty(),
        "nothing is known: each has a third"
    );
}

#[test]
fn duplicates_and_empty_masks_combine() {
    let (mask, other) = (rectangle(1, 1, 5, 3), rectangle(9, 4, 3, 3));
    let duplicates = of_masks([mask.clone(), mask.clone(), other.clone()]);
    for select in [Select::Vote, Select::Weighted] {
        assert_eq!(apply(&select, &duplicates).mask, mask, "{select:?}");
    }
    let with_empty = of_masks([empty(), mask.clone(), other.clone()]);
    assert_eq!(
        apply(&Select::Union, &with_empty).mask,
        mask.or(&other).unwrap()
    );
    assert_eq!(apply(&Select::Intersection, &with_empty).mask, empty());
    assert_eq!(apply(&Select::Vote, &with_empty).mask, empty());
}

#[test]
fn masks_of_different_sizes_are_not_combined() {
    let candidates = of_masks([Mask::full(4, 4), Mask::full(5, 4)]);
    for select in [
        Select::Union,
        Select::Intersection,
        Select::Vote,
        Select::Weighted,
    ] {
        let message = error(&select, &candidates);
        assert_eq!(
            message, "mask size: 4x4 and 5x4 cannot be combined",
            "{select:?}"
        );
    }
}

#[test]
fn a_single_candidate_is_the_answer_of_every_strategy() {
    for mask in [rectangle(3, 2, 6, 4), empty()] {
        let only = of_masks([mask.clone()]);
        for select in all_strategies() {
            assert_eq!(apply(&select, &only).mask, mask, "{select:?}");
        }
    }
}

#[test]
fn empty_masks_alone_give_an_empty_mask() {
    let candidates = of_masks([empty(), empty(), empty()]);
    for select in all_strategies() {
        assert!(apply(&select, &candidates).mask.is_empty(), "{select:?}");
    }
}

#[test]
fn duplicates_are_answered_by_the_first() {
    let mask = rectangle(3, 2, 6, 4);
    let candidates = of_masks([mask.clone(), mask.clone(), mask.clone()]);
    for select in all_strategies() {
        let selection = apply(&select, &candidates);
        assert_eq!(selection.mask, mask, "{select:?}");
        assert!(selection.index.is_none_or(|index| index == 0), "{select:?}");
    }
}

#[test]
fn no_candidates_are_refused() {
    for select in all_strategies() {
        assert_eq!(
            error(&select, &[]),
            "there is no candidate to select from",
            "{select:?}"
        );
    }
}

/// The index is the candidate's own, not its position among those that are left.
#[test]
fn a_chosen_candidate_keeps_its_number() {
    let candidates = of_scores(&[0.9, 0.2, 0.6]);
    let selection = apply(&Select::Best, &candidates[1..]);
    assert_eq!(selection.index, Some(2));
    assert_eq!(
        selection.reason,
        "candidate 2: highest predicted IoU: 0.200, 0.600"
    );
}

/// Match probability and predicted IoU of each.
fn ranked(of: [(Mask, f32, f32); 3]) -> Vec<Candidate> {
    let mut all = candidates(
        of.clone()
            .map(|(mask, _, iou)| (mask, iou, Granularity::Whole)),
    );
    for (candidate, (_, probability, _)) in all.iter_mut().zip(of) {
        candidate.match_probability = Some(MatchProbability(probability));
    }
    all
}

#[test]
fn candidates_that_agree_support_each_other() {
    let (left, right) = (rectangle(0, 0, 4, 4), rectangle(6, 0, 4, 4));
    // The right one is the likeliest, but the left one comes twice.
    let twice = ranked([
        (left.clone(), 0.3, 0.8),
        (right.clone(), 0.4, 0.9),
        (left.clone(), 0.3, 0.8),
    ]);
    assert_eq!(chosen(&Select::Best, &twice), 0);
    assert_eq!(chosen(&Select::Learned, &twice), 0);
    // The decoder's score decides here.
    assert_eq!(chosen(&Select::Score, &twice), 1);
    let reason = apply(&Select::Best, &twice).reason;
    assert_eq!(
        reason,
        "candidate 0: highest expected IoU, 0.48: match probability 0.30 × predicted IoU 0.80, and 0.24 by what it \
         shares with the others"
    );
    // A sure match with a poor outline loses against a likely one with a good one.
    let poor = ranked([(left, 0.55, 0.3), (right, 0.45, 0.9), (empty(), 0.0, 0.9)]);
    assert_eq!(chosen(&Select::Best, &poor), 1);
    let refused = error(&Select::Learned, &of_scores(&[0.2, 0.9, 0.4]));
    assert!(refused.contains("candidate head"), "{refused}");
}
