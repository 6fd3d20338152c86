//! The table of released checkpoints: names, files, sizes, hashes and licences.
//!
//! A model is addressed by its canonical name (`sam-vit-b`) or an alias. Case and `_` against `-`
//! make no difference, and the name of the released file works too.
//!
//! ```
//! use samara_model::checkpoint::registry;
//!
//! let release = registry::find("vit_b").expect("a released model");
//! assert_eq!(release.name, "sam-vit-b");
//! assert_eq!(release.size, Some(375_042_383));
//! ```

use std::fmt;

const SAM: &str = "https://dl.fbaipublicfiles.com/segment_anything";
const MOBILE_SAM: &str = "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights";
const MED_SAM: &str = "https://zenodo.org/records/10689643/files";
const SAM2: &str = "https://dl.fbaipublicfiles.com/segment_anything_2/072824";
const SAM21: &str = "https://dl.fbaipublicfiles.com/segment_anything_2/092824";

/// Which code base a checkpoint belongs to, and so which model reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// The Segment Anything Model with a plain vision transformer as encoder.
    Sam,
    /// SAM with the distilled TinyViT encoder of MobileSAM.
    MobileSam,
    /// SAM ViT-B fine-tuned on medical images.
    MedSam,
    /// SAM 2, the release of July 2024.
    Sam2,
    /// SAM 2.1, the release of September 2024.
    Sam21,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sam => "SAM",
            Self::MobileSam => "MobileSAM",
            Self::MedSam => "MedSAM",
            Self::Sam2 => "SAM 2",
            Self::Sam21 => "SAM 2.1",
        })
    }
}

/// One released checkpoint file.
///
/// The fields are public so that a program can describe a file of its own and fetch it with
/// [`download`](crate::checkpoint::download::download).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The name used on the command line, lower case with `-`.
    pub name: &'static str,
    /// Other accepted names, lower case with `-`.
    pub aliases: &'static [&'static str],
    /// Which model reads the file.
    pub family: Family,
    /// The name of the file, at its source and in the cache.
    pub file_name: &'static str,
    /// The official folder of the file: scheme, host and directory, without a final `/`.
    pub base_url: &'static str,
    /// The exact size in bytes, where it is known.
    pub size: Option<u64>,
    /// The SHA-256 of the file as 64 hexadecimal digits. `None` means that a download cannot be
    /// verified.
    pub sha256: Option<&'static str>,
    /// The SPDX identifier of the licence of the weights.
    pub licence: &'static str,
    /// The number of parameters; rounded for SAM 2 as its authors publish it.
    pub parameters: u64,
    /// What it is, in one line.
    pub description: &'static str,
}

impl Release {
    /// The official address of the file.
    pub fn url(&self) -> String {
        self.url_at(self.base_url)
    }

    /// The address of the file in another folder: `base_url`, a `/`, the file name.
    pub fn url_at(&self, base_url: &str) -> String {
        format!("{}/{}", base_url.trim_end_matches('/'), self.file_name)
    }

    fn answers_to(&self, normalised: &str) -> bool {
        self.name == normalised
            || self.aliases.contains(&normalised)
            || normalise(self.file_name) == normalised
    }
}

/// A name that no released model has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown model {name:?}: {}", hint(*suggestion))]
pub struct UnknownModel {
    /// What was asked for.
    pub name: String,
    /// The canonical name of the model that was probably meant.
    pub suggestion: Option<&'static str>,
}

fn hint(suggestion: Option<&str>) -> String {
    if let Some(name) = suggestion {
        return format!("did you mean {name}?");
    }
    let names: Vec<&str> = releases().iter().map(|release| release.name).collect();
    format!("the released models are {}", names.join(", "))
}

/// All releases, in the order in which they are to be listed.
pub fn releases() -> &'static [Release] {
    RELEASES
}

/// Looks a model up by its name, an alias, or the name of its file.
///
/// # Errors
/// [`UnknownModel`], with the nearest name if one is near.
pub fn find(name: &str) -> Result<&'static Release, UnknownModel> {
    let wanted = normalise(name);
    RELEASES
        .iter()
        .find(|release| release.answers_to(&wanted))
        .ok_or_else(|| UnknownModel {
            name: name.to_owned(),
            suggestion: nearest(&wanted),
        })
}

fn normalise(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace(['_', ' '], "-")
}

fn nearest(wanted: &str) -> Option<&'static str> {
    // No model has a longer name, and the distance is quadratic in the length.
    const LONGEST: usize = 64;
    let length = wanted.chars().count();
    if length > LONGEST {
        return None;
    }
    let tolerance = (length / 3).clamp(1, 4);
    RELEASES
        .iter()
        .flat_map(|release| {
            let names = std::iter::once(&release.name).chain(release.aliases);
            names.map(|name| (edit_distance(wanted, name), release.name))
        })
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The Levenshtein distance: the fewest insertions, deletions and substitutions of characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

static RELEASES: &[Release] = &[
    Release {
        name: "sam-vit-b",
        aliases: &["vit-b", "sam-b", "sam-base", "sam-vit-base"],
        family: Family::Sam,
        file_name: "sam_vit_b_01ec64.pth",
        base_url: SAM,
        size: Some(375_042_383),
        sha256: Some("ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
        licence: "Apache-2.0",
        parameters: 93_735_472,
        description: "SAM with the ViT-B encoder: the smallest of the original three",
    },
    Release {
        name: "sam-vit-l",
        aliases: &["vit-l", "sam-l", "sam-large", "sam-vit-large"],
        family: Family::Sam,
        file_name: "sam_vit_l_0b3195.pth",
        base_url: SAM,
        size: Some(1_249_524_607),
        sha256: Some("3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
        licence: "Apache-2.0",
        parameters: 312_342_832,
        description: "SAM with the ViT-L encoder: close to ViT-H at half the size",
    },
    Release {
        name: "sam-vit-h",
        aliases: &["vit-h", "sam-h", "sam-huge", "sam-vit-huge"],
        family: Family::Sam,
        file_name: "sam_vit_h_4b8939.pth",
        base_url: SAM,
        size: Some(2_564_550_879),
        sha256: Some("a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"),
        licence: "Apache-2.0",
        parameters: 641_090_608,
        description: "SAM with the ViT-H encoder: the best and slowest of the original three",
    },
    Release {
        name: "mobile-sam",
        aliases: &["mobilesam", "vit-t", "mobile-sam-vit-t"],
        family: Family::MobileSam,
        file_name: "mobile_sam.pt",
        base_url: MOBILE_SAM,
        size: Some(40_728_226),
        sha256: Some("6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"),
        licence: "Apache-2.0",
        parameters: 10_130_092,
        description: "MobileSAM: the decoder of SAM on a distilled TinyViT encoder, for CPUs",
    },
    Release {
        name: "medsam-vit-b",
        aliases: &["medsam", "medsam-b", "medsam-vit-base"],
        family: Family::MedSam,
        file_name: "medsam_vit_b.pth",
        base_url: MED_SAM,
        size: Some(375_049_145),
        sha256: Some("34b34b78c1d18cb8c6bf84cf9c00e135d6d6c965699f3c0e31ef1bc9dcb5be74"),
        licence: "CC-BY-4.0",
        parameters: 93_735_472,
        description: "MedSAM: SAM ViT-B fine-tuned on medical images, prompted with boxes",
    },
    Release {
        name: "sam2-tiny",
        aliases: &["sam2-t", "sam2-hiera-tiny", "sam2-hiera-t"],
        family: Family::Sam2,
        file_name: "sam2_hiera_tiny.pt",
        base_url: SAM2,
        size: Some(155_906_050),
        sha256: Some("65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
        licence: "Apache-2.0",
        parameters: 38_900_000,
        description: "SAM 2 with the tiny Hiera encoder, for images and video",
    },
    Release {
        name: "sam2-small",
        aliases: &["sam2-s", "sam2-hiera-small", "sam2-hiera-s"],
        family: Family::Sam2,
        file_name: "sam2_hiera_small.pt",
        base_url: SAM2,
        size: Some(184_309_650),
        sha256: Some("95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
        licence: "Apache-2.0",
        parameters: 46_000_000,
        description: "SAM 2 with the small Hiera encoder, for images and video",
    },
    Release {
        name: "sam2-base-plus",
        aliases: &[
            "sam2-b+",
            "sam2-base+",
            "sam2-hiera-base-plus",
            "sam2-hiera-b+",
        ],
        family: Family::Sam2,
        file_name: "sam2_hiera_base_plus.pt",
        base_url: SAM2,
        size: Some(323_493_298),
        sha256: Some("d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"),
        licence: "Apache-2.0",
        parameters: 80_800_000,
        description: "SAM 2 with the base+ Hiera encoder, for images and video",
    },
    Release {
        name: "sam2-large",
        aliases: &["sam2-l", "sam2-hiera-large", "sam2-hiera-l"],
        family: Family::Sam2,
        file_name: "sam2_hiera_large.pt",
        base_url: SAM2,
        size: Some(897_952_466),
        sha256: Some("7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
        licence: "Apache-2.0",
        parameters: 224_400_000,
        description: "SAM 2 with the large Hiera encoder, for images and video",
    },
    Release {
        name: "sam2.1-tiny",
        aliases: &["sam2.1-t", "sam2.1-hiera-tiny", "sam2.1-hiera-t"],
        family: Family::Sam21,
        file_name: "sam2.1_hiera_tiny.pt",
        base_url: SAM21,
        size: Some(156_008_466),
        sha256: Some("7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
        licence: "Apache-2.0",
        parameters: 38_900_000,
        description: "SAM 2.1 with the tiny Hiera encoder, for images and video",
    },
    Release {
        name: "sam2.1-small",
        aliases: &["sam2.1-s", "sam2.1-hiera-small", "sam2.1-hiera-s"],
        family: Family::Sam21,
        file_name: "sam2.1_hiera_small.pt",
        base_url: SAM21,
        size: Some(184_416_285),
        sha256: Some("6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
        licence: "Apache-2.0",
        parameters: 46_000_000,
        description: "SAM 2.1 with the small Hiera encoder, for images and video",
    },
    Release {
        name: "sam2.1-base-plus",
        aliases: &[
            "sam2.1-b+",
            "sam2.1-base+",
            "sam2.1-hiera-base-plus",
            "sam2.1-hiera-b+",
        ],
        family: Family::Sam21,
        file_name: "sam2.1_hiera_base_plus.pt",
        base_url: SAM21,
        size: Some(323_606_802),
        sha256: Some("a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
        licence: "Apache-2.0",
        parameters: 80_800_000,
        description: "SAM 2.1 with the base+ Hiera encoder, for images and video",
    },
    Release {
        name: "sam2.1-large",
        aliases: &["sam2.1-l", "sam2.1-hiera-large", "sam2.1-hiera-l"],
        family: Family::Sam21,
        file_name: "sam2.1_hiera_large.pt",
        base_url: SAM21,
        size: Some(898_083_611),
        sha256: Some("2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
        licence: "Apache-2.0",
        parameters: 224_400_000,
        description: "SAM 2.1 with the large Hiera encoder, for images and video",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_name_alias_and_file_leads_to_its_own_release() {
        let mut seen = HashSet::new();
        for release in releases() {
            let file = normalise(release.file_name);
            let aliases = release.aliases.iter().map(|alias| (*alias).to_owned());
            for name in aliases.chain([release.name.to_owned(), file]) {
                assert_eq!(
                    normalise(&name),
                    name,
                    "names are written as they are compared"
                );
                assert_eq!(find(&name).map(|found| found.name), Ok(release.name));
                assert!(seen.insert(name.clone()), "{name} is used twice");
            }
        }
    }

    #[test]
    fn every_release_is_well_formed() {
        for release in releases() {
            let hash = release.sha256.expect("all released hashes are known");
            assert!(hash.len() == 64, "{}", release.name);
            assert!(
                hash.bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            );
            assert!(release.base_url.starts_with("https://") && !release.base_url.ends_with('/'));
            assert!(!release.file_name.contains(['/', '\\']));
            assert!(!release.description.contains('\n') && !release.description.is_empty());
            // The weights are 32-bit floats and the container around them is small.
            let size = release.size.expect("all released sizes are known");
            let floats = release.parameters * 4;
            assert!(
                size.abs_diff(floats) < size / 50,
                "{}: {size} bytes",
                release.name
            );
        }
    }

    #[test]
    fn names_are_forgiving() {
        for name in ["SAM_ViT_B", " vit-b ", "sam_vit_b_01ec64.pth", "sam vit b"] {
            assert_eq!(
                find(name).map(|found| found.name),
                Ok("sam-vit-b"),
                "{name}"
            );
        }
        assert_eq!(
            find("sam2.1_hiera_base_plus.pt").map(|r| r.name),
            Ok("sam2.1-base-plus")
        );
    }

    #[test]
    fn a_slip_is_corrected_and_nonsense_is_not() {
        let slip = find("sam-vitb").expect_err("a slip");
        assert_eq!(
            slip.to_string(),
            "unknown model \"sam-vitb\": did you mean sam-vit-b?"
        );
        let nonsense = find("resnet50").expect_err("nonsense");
        assert_eq!(nonsense.suggestion, None);
        assert!(
            nonsense
                .to_string()
                .contains("the released models are sam-vit-b, ")
        );
    }

    #[test]
    fn a_mirror_holds_the_file_under_its_own_name() {
        let release = find("mobile-sam").expect("listed");
        let official =
            "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt";
        assert_eq!(release.url(), official);
        assert_eq!(
            release.url_at("http://mirror/sam/"),
            "http://mirror/sam/mobile_sam.pt"
        );
    }

    proptest! {
        #[test]
        fn edit_distance_is_a_metric(a in ".{0,12}", b in ".{0,12}", c in ".{0,12}") {
            prop_assert_eq!(edit_distance(&a, &b), edit_distance(&b, &a));
            prop_assert_eq!(edit_distance(&a, &b) == 0, a == b);
            prop_assert!(edit_distance(&a, &c) <= edit_distance(&a, &b) + edit_distance(&b, &c));
        }

        #[test]
        fn any_name_gets_an_answer_of_one_line(name in "\\PC{0,100}") {
            if let Err(error) = find(&name) {
                prop_assert_eq!(error.to_string().lines().count(), 1);
            }
        }
    }
}
