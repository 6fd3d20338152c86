//! Which pictures are for training, and which for validation.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::ids::PictureId;
use crate::pictures::Picture;

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
    let of_drawn = match drawn.len() {
        0 | 1 => 0,
        many => part(many, share).clamp(1, many - 1),
    };
    let of_empty = part(empty.len(), share);
    let mut splits = HashMap::new();
    for (mut groups, count) in [(drawn, of_drawn), (empty, of_empty)] {
        groups.sort_by_cached_key(|group| key(group[0]));
        let (val, train) = groups.split_at(count);
        for (groups, split) in [(val, "val"), (train, "train")] {
            let all = groups.iter().flatten();
            splits.extend(all.map(|picture| (picture.id, split)));
        }
    }
    splits
}

fn part(count: usize, share: f64) -> usize {
    (count as f64 * share).round() as usize
}

/// An order that is that of nothing, and stays when pictures are added.
fn key(picture: &Picture) -> [u8; 32] {
    let path = &picture.path;
    let video = path.rsplit_once('/').filter(|_| picture.video.is_some());
    Sha256::digest(video.map_or(&**path, |(video, _)| video)).into()
}
