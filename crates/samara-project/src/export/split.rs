//! Which pictures are for training, and which for validation.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::ids::PictureId;
use crate::pictures::Picture;

/// How the splits are called, and their folders.
pub(crate) const SPLITS: [&str; 2] = ["train", "val"];

/// The splits of pictures, of which a share is for validation; without a share there are none.
///
/// Of pictures with objects and of those without the share is the same. Of several with objects at least one is in each
/// split, where the file is as it was. The frames of a video, which are much alike, are in one split.
pub(super) fn of<'a>(
    pictures: impl Iterator<Item = &'a Picture>,
    share: f64,
) -> HashMap<PictureId, &'static str> {
    if share <= 0.0 {
        return HashMap::new();
    }
    let is_usable = |picture: &&Picture| !picture.is_gone && !picture.is_changed;
    let mut together: HashMap<PictureId, Vec<&Picture>> = HashMap::new();
    for picture in pictures.filter(is_usable) {
        together.entry(picture.owner()).or_default().push(picture);
    }
    let (drawn, empty): (Vec<_>, Vec<_>) = together
        .into_values()
        .partition(|group| group.iter().any(|picture| picture.objects > 0));
    let mut splits = HashMap::new();
    for (mut groups, has_both) in [(drawn, true), (empty, false)] {
        groups.sort_by_cached_key(|group| key(group[0]));
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        for (group, is_val) in groups.iter().zip(validating(&sizes, share, has_both)) {
            let split = SPLITS[usize::from(is_val)];
            splits.extend(group.iter().map(|picture| (picture.id, split)));
        }
    }
    splits
}

/// Which groups are for validation, by their numbers of pictures: those in order that bring it nearer to its share. With
/// `has_both` at least one of several is in each split.
fn validating(sizes: &[usize], share: f64, has_both: bool) -> Vec<bool> {
    let all: usize = sizes.iter().sum();
    let aim = (all as f64 * share).round() as usize;
    let mut sum = 0;
    let is_nearer = |&size: &usize| {
        let is_nearer = (sum + size).abs_diff(aim) < aim.abs_diff(sum);
        sum += if is_nearer { size } else { 0 };
        is_nearer
    };
    let mut chosen: Vec<bool> = sizes.iter().map(is_nearer).collect();
    let smallest = (0..sizes.len()).min_by_key(|&i| sizes[i]);
    if let Some(smallest) = smallest.filter(|_| has_both && sizes.len() > 1) {
        let count = chosen.iter().filter(|&&is_val| is_val).count();
        if count == 0 || count == sizes.len() {
            chosen[smallest] = count == 0;
        }
    }
    chosen
}

/// An order that is that of nothing, and stays when pictures are added.
fn key(picture: &Picture) -> [u8; 32] {
    let path = &picture.path;
    let video = path.rsplit_once('/').filter(|_| picture.video.is_some());
    Sha256::digest(video.map_or(&**path, |(video, _)| video)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_pictures_is_for_validation() {
        let count = |sizes: &[usize], share: f64| {
            let chosen = validating(sizes, share, true).into_iter().zip(sizes);
            chosen
                .filter(|(is_val, _)| *is_val)
                .map(|(_, size)| size)
                .sum::<usize>()
        };
        assert_eq!(count(&[1; 10], 0.2), 2);
        // A long video is not most of it, and not left out where there is nothing else.
        assert_eq!(count(&[1, 17, 1, 1, 1, 1], 0.2), 4);
        assert_eq!(count(&[17, 1, 1, 1, 1, 1], 0.2), 4);
        assert_eq!(count(&[12, 10], 0.2), 10);
        assert_eq!(count(&[1, 1], 0.9), 1);
        assert_eq!((count(&[1], 0.2), count(&[], 0.2)), (0, 0));
        assert_eq!(validating(&[1], 0.9, false), [true]);
    }
}
