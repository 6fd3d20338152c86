//! From flags to arguments: values are parsed, files and models are found.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use samara::{
    Click, ImageLimits, OriginalBox, OriginalPx, ParseError, SegmenterOptions, Select, read_mask,
};

use crate::error::{CliError, Result};

/// `X,Y` or `X,Y,0|1`.
pub(crate) fn parse_point(text: &str) -> Result<Click, String> {
    let parts: Vec<&str> = text.split(',').collect();
    let (&[x, y] | &[x, y, _]) = &parts[..] else {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let hint = match parts[..] {
            [x, y] => format!("; write {x},{y}"),
            _ => String::new(),
        };
        return Err(format!("expected X,Y or X,Y,LABEL{hint}"));
    };
    let positive = match parts.get(2) {
        None | Some(&"1") => true,
        Some(&"0") => false,
        Some(label) => return Err(format!("label {label:?}: 1 is on the object, 0 beside it")),
    };
    let at = OriginalPx::new(parse_number(x)?, parse_number(y)?);
    Ok(Click { at, positive })
}

/// `X,Y`.
pub(crate) fn parse_place_in_image(text: &str) -> Result<OriginalPx, String> {
    match text.split_once(',') {
        Some((x, y)) => Ok(OriginalPx::new(parse_number(x)?, parse_number(y)?)),
        None => Err("expected X,Y".into()),
    }
}

/// A number from -1 to 1.
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    let number = parse_number(text)?;
    let within = (-1.0..=1.0).contains(&number);
    within
        .then_some(number)
        .ok_or_else(|| "expected a number from -1 to 1".into())
}

/// `X0,Y0,X1,Y1`, corners in any order.
pub(crate) fn parse_box(text: &str) -> Result<OriginalBox, String> {
    let numbers = text.split(',').map(parse_number);
    match numbers.collect::<Result<Vec<f64>, String>>()?[..] {
        [x0, y0, x1, y1] => OriginalBox::new(x0, y0, x1, y1).map_err(|e| e.to_string()),
        _ => Err("expected X0,Y0,X1,Y1".into()),
    }
}

fn parse_number(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("{text:?} is not a number")),
    }
}

/// A count, at least 1.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number, at least 1".into()),
        Ok(count) => Ok(count),
    }
}

/// A share: more than 0 and less than 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok();
    let share = share.filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| "expected a number between 0 and 1".into())
}

/// A count of threads.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    let most = SegmenterOptions::MOST_THREADS;
    match positive(text)? {
        count if count > most => Err(format!("expected a number, at most {most}")),
        count => Ok(count),
    }
}

/// The value of `--select`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SelectArg {
    /// A strategy.
    How(Select),
    /// The candidate nearest to a mask in a file.
    Oracle(PathBuf),
    /// Every candidate; the best counts as selected.
    All,
}

impl FromStr for SelectArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("oracle", file)) => Ok(Self::Oracle(file.into())),
            None if text == "all" => Ok(Self::All),
            _ => match text.parse() {
                Ok(select) => Ok(Self::How(select)),
                Err(samara::Error::Parse(ParseError { expected, .. })) => {
                    Err(format!("expected {expected}; or oracle=FILE, all"))
                }
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

impl Display for SelectArg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::How(select) => select.fmt(f),
            Self::Oracle(path) => write!(f, "oracle={}", path.display()),
            Self::All => f.pad("all"),
        }
    }
}

/// The names of values of a flag, whose order means nothing.
pub(crate) fn names(values: &[impl ValueEnum]) -> BTreeSet<String> {
    let values = values.iter().filter_map(ValueEnum::to_possible_value);
    values.map(|value| value.get_name().to_owned()).collect()
}

impl SelectArg {
    /// The strategy for an image of this width and height, with its file read.
    pub(crate) fn resolve(
        &self,
        limits: &ImageLimits,
        (width, height): (u32, u32),
    ) -> Result<Select> {
        Ok(match self {
            Self::How(select) => select.clone(),
            Self::All => Select::Best,
            Self::Oracle(path) => {
                let failed = |why: &str| {
                    CliError::failed(format!("--select oracle={}: {why}", path.display()))
                };
                let mask = read_mask(path, limits).map_err(|e| failed(e.reason()))?;
                if (mask.width(), mask.height()) != (width, height) {
                    let (w, h) = (mask.width(), mask.height());
                    let why = format!("the mask has {w}×{h} pixels, the image {width}×{height}");
                    return Err(failed(&why));
                }
                Select::Oracle(mask)
            }
        })
    }
}

/// `FRAME:OBJ:` and what follows.
fn parse_place(text: &str) -> Result<(usize, u32, &str), String> {
    let mut parts = text.splitn(3, ':');
    let (Some(frame), Some(object), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("expected FRAME:OBJ:…".into());
    };
    Ok((parse_frame(frame)?, parse_object(object)?, rest))
}

fn parse_frame(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no number of a frame, which count from 0"))
}

/// Objects of a video have numbers up to this: object maps have 16 bits at most.
pub(crate) const MOST_OBJECTS: u32 = 65_535;

fn parse_object(text: &str) -> Result<u32, String> {
    match text.parse::<u16>() {
        Ok(0) | Err(_) => Err(format!(
            "{text:?} is no number of an object, 1 to {MOST_OBJECTS}"
        )),
        Ok(object) => Ok(object.into()),
    }
}

/// What `--prompt` says of an object on a frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VideoPromptArg {
    pub(crate) frame: usize,
    pub(crate) object: u32,
    pub(crate) shape: PromptShape,
}

/// A click or a box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum PromptShape {
    Click(Click),
    Box(OriginalBox),
}

impl FromStr for VideoPromptArg {
    type Err = String;

    /// `FRAME:OBJ:X,Y`, `FRAME:OBJ:X,Y,LABEL` or `FRAME:OBJ:X0,Y0,X1,Y1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (frame, object, shape) = parse_place(text)?;
        let shape = if shape.split(',').count() == 4 {
            PromptShape::Box(parse_box(shape)?)
        } else {
            PromptShape::Click(parse_point(shape)?)
        };
        Ok(Self {
            frame,
            object,
            shape,
        })
    }
}

/// What `--masks` says of one object, or of all objects, on a frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MaskPromptArg {
    pub(crate) frame: usize,
    pub(crate) object: Option<u32>,
    pub(crate) file: PathBuf,
}

impl FromStr for MaskPromptArg {
    type Err = String;

    /// `FRAME:OBJ:FILE` or `FRAME:FILE`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok((frame, object, file)) = parse_place(text) {
            return Ok(Self {
                frame,
                object: Some(object),
                file: file.into(),
            });
        }
        let (frame, file) = text.split_once(':').ok_or("expected FRAME[:OBJ]:FILE")?;
        Ok(Self {
            frame: parse_frame(frame)?,
            object: None,
            file: file.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_have_an_optional_label() {
        let click = parse_point("520, 360.5").unwrap();
        assert_eq!(
            (click.at.x, click.at.y, click.positive),
            (520.0, 360.5, true)
        );
        assert!(!parse_point("1,2,0").unwrap().positive);
        for bad in ["", "1", "1,2,2", "1,x", "1,2,0,4", "nan,1", "inf,2"] {
            assert!(parse_point(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn boxes_are_reordered_and_need_area() {
        let b = parse_box("30,40,10,20").unwrap();
        assert_eq!(
            (b.min.x, b.min.y, b.max.x, b.max.y),
            (10.0, 20.0, 30.0, 40.0)
        );
        for bad in ["1,2,3", "1,2,1,5", "1,2,3,2", "a,b,c,d", "1,2,3,4,5"] {
            assert!(parse_box(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prompts_of_a_video_name_frame_and_object() {
        let click = "12:3:5,6,0".parse::<VideoPromptArg>().unwrap();
        assert_eq!((click.frame, click.object), (12, 3));
        assert!(matches!(click.shape, PromptShape::Click(c) if !c.positive && c.at.x == 5.0));
        let boxed = "0:1:1,2,3,4".parse::<VideoPromptArg>().unwrap();
        assert!(matches!(boxed.shape, PromptShape::Box(b) if b.max.y == 4.0));
        for bad in [
            "",
            "1,2",
            "0:1",
            "0:1:2",
            "x:1:2,3",
            "0:0:2,3",
            "0:65536:2,3",
            "-1:1:2,3",
        ] {
            assert!(bad.parse::<VideoPromptArg>().is_err(), "{bad}");
        }
        let one = "4:2:a:b.png".parse::<MaskPromptArg>().unwrap();
        assert_eq!(
            (one.frame, one.object, one.file),
            (4, Some(2), "a:b.png".into())
        );
        let all = "4:b.png".parse::<MaskPromptArg>().unwrap();
        assert_eq!((all.frame, all.object, all.file), (4, None, "b.png".into()));
        assert!("b.png".parse::<MaskPromptArg>().is_err());
    }

    #[test]
    fn every_strategy_has_a_name() {
        for name in [
            "best",
            "whole",
            "part",
            "subpart",
            "largest",
            "smallest",
            "area=0.25",
            "box=1,2,3,4",
            "union",
            "intersection",
            "weighted",
            "vote",
            "oracle=truth.png",
            "all",
        ] {
            assert!(name.parse::<SelectArg>().is_ok(), "{name}");
        }
        for bad in [
            "",
            "bets",
            "area=0",
            "area=2",
            "area=x",
            "box=1,2,3",
            "size=3",
        ] {
            assert!(bad.parse::<SelectArg>().is_err(), "{bad}");
        }
    }
}
